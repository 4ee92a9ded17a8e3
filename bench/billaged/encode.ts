import { readingOf, type Shape } from './workload.ts'

// Requests as bytes, made before the clock runs: the generator shares the cores with what it measures.

/** SendMetricsBatch of one batch of a VM, in protobuf. */
export function batchBody(shape: Shape, vmId: string, customerId: string, vm: number, batch: number): Buffer {
  const metrics: Buffer[] = []
  for (let k = 0; k < shape.samplesPerBatch; k++) {
    const { atNs, values } = readingOf(shape, vm, batch * shape.samplesPerBatch + k)
    const time = [0x08, ...varint(atNs / 1_000_000_000n), 0x10, ...varint(atNs % 1_000_000_000n)]
    const fields = values.flatMap((value, f) => [0x10 + 8 * f, ...varint(value)])
    metrics.push(delimited(0x1a, Buffer.from([0x0a, time.length, ...time, ...fields])))
  }
  return Buffer.concat([delimited(0x0a, Buffer.from(vmId)), delimited(0x12, Buffer.from(customerId)), ...metrics])
}

export function httpRequest(body: Buffer): Buffer {
  const head =
    'POST /billing.v1.BillingService/SendMetricsBatch HTTP/1.1\r\nHost: bench\r\nContent-Type: application/proto\r\n' +
    `Content-Length: ${body.length}\r\n\r\n`
  return Buffer.concat([Buffer.from(head), body])
}

export function grpcFrame(body: Buffer): Buffer {
  const head = Buffer.alloc(5)
  head.writeUInt32BE(body.length, 1)
  return Buffer.concat([head, body])
}

function delimited(tag: number, content: Buffer): Buffer {
  return Buffer.concat([Buffer.from([tag, ...varint(BigInt(content.length))]), content])
}

function varint(value: bigint): number[] {
  const bytes: number[] = []
  let rest = value
  while (rest > 0x7fn) {
    bytes.push(Number(rest & 0x7fn) | 0x80)
    rest >>= 7n
  }
  bytes.push(Number(rest))
  return bytes
}
