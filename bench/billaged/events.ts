import { type Job, runLoad } from './load.ts'
import { cpuSeconds, key, memoryMib, startService, stopService, untilFolded, usage } from './service.ts'
import { at, whole } from './table.ts'

/** Usage events in batches of 100, as outboxes send them; the bill is compared with plain addition. */
export async function benchEvents(seconds: number): Promise<boolean> {
  const service = await startService()
  const customers = 20
  const bytesOf = (n: number) => (n % 997) + 1
  const jobs = Array.from({ length: 1_500 * seconds }, (_, batch): Job => {
    const events = Array.from({ length: 100 }, (_, i) => ({
      specversion: '1.0',
      id: `${batch}-${i}`,
      source: '/bench/log-ingestion/1',
      type: 'purser.logs.ingested.v1',
      subject: `customer-${batch % customers}`,
      time: new Date(Date.now() - 3_600_000 + batch).toISOString(),
      data: { bytes: `${bytesOf(batch * 100 + i)}`, rows: '1' },
    }))
    const body = Buffer.from(JSON.stringify(events))
    const head =
      'POST /api/v1/events HTTP/1.1\r\nHost: bench\r\nContent-Type: application/cloudevents-batch+json\r\n' +
      `Authorization: Bearer ${key}\r\nContent-Length: ${body.length}\r\n\r\n`
    return { vm: batch % customers, batch, samples: 100, request: Buffer.concat([Buffer.from(head), body]) }
  })
  const cpuBefore = cpuSeconds(service)
  const startedMs = performance.now()
  const outcome = await runLoad({ address: service.address, connections: 16, protocol: 'h1', jobs, seconds })
  const rssMib = memoryMib(service)
  await untilFolded(service)
  const cpuS = cpuSeconds(service) - cpuBefore
  const foldedS = (performance.now() - startedMs) / 1_000
  const truth = new Map<number, bigint>()
  for (const { vm, batch } of outcome.acknowledged)
    for (let i = 0; i < 100; i++) truth.set(vm, (truth.get(vm) ?? 0n) + BigInt(bytesOf(batch * 100 + i)))
  let isRight = true
  for (const [vm, bytes] of truth) {
    const billed = (await usage(service, `customer-${vm}`, '?wait=30s'))?.log_bytes ?? 0n
    if (billed === bytes) continue
    isRight = false
    console.error(`  customer-${vm} log_bytes: billed ${billed}, true ${bytes}`)
  }
  await stopService(service)
  const events = outcome.acknowledged.length * 100
  const sorted = outcome.latenciesMs.toSorted((a, b) => a - b)
  console.log(
    `events: batches of 100, 16 connections: ${whole(events / outcome.elapsedS)} events/s acknowledged, ` +
      `${whole(events / foldedS)}/s in the database, p50 ${at(sorted, 0.5)} p95 ${at(sorted, 0.95)} ms, ` +
      `${((cpuS / events) * 1e6).toFixed(1)} µs of CPU each, RSS ${whole(rssMib)} MiB, billing error ${isRight ? '0' : 'FAILED'}`,
  )
  return isRight
}
