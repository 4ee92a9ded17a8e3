import { readFileSync } from 'node:fs'
import { exactJsonDecoder } from '#platform/rpc/exact-numbers'
import { UsageError } from './args.ts'

/** What `send-metrics` sends when no file is given. */
export function exampleReading() {
  return reading({
    timestamp: new Date().toISOString(),
    cpuTimeNanos: '1000000000',
    memoryUsageBytes: String(512 * 1024 * 1024),
    diskReadBytes: String(1024 * 1024),
    diskWriteBytes: String(512 * 1024),
    networkRxBytes: '2048',
    networkTxBytes: '1024',
  })
}

/** An array of readings, or an object with `metrics`, in the JSON of the RPC. */
export function readMetrics(path: string) {
  let content: unknown
  try {
    content = JSON.parse(exactJsonDecoder.decode(readFileSync(path)))
  } catch (error) {
    throw new UsageError(`-file ${path}: ${error instanceof Error ? error.message : ''}`)
  }
  const list: unknown =
    typeof content === 'object' && content !== null && 'metrics' in content ? content.metrics : content
  if (!Array.isArray(list)) throw new UsageError(`-file ${path} holds no array of metrics`)
  return list.map(reading)
}

function reading(value: unknown) {
  const field = (camel: string, snake: string): string => {
    const found: unknown =
      typeof value === 'object' && value !== null ? (Reflect.get(value, camel) ?? Reflect.get(value, snake)) : undefined
    return typeof found === 'string' || typeof found === 'number' ? String(found) : '0'
  }
  const count = (camel: string, snake: string): bigint => {
    const text = field(camel, snake)
    if (!/^-?\d{1,19}$/.test(text)) throw new UsageError(`${snake} is ${text}; it is a whole number`)
    return BigInt(text)
  }
  const at = field('timestamp', 'timestamp')
  if (Number.isNaN(Date.parse(at))) throw new UsageError(`timestamp is ${at}; it looks like 2026-01-02T03:04:05Z`)
  const ns = Temporal.Instant.from(at).epochNanoseconds
  return {
    timestamp: { seconds: ns / 1_000_000_000n, nanos: Number(ns % 1_000_000_000n) },
    cpuTimeNanos: count('cpuTimeNanos', 'cpu_time_nanos'),
    memoryUsageBytes: count('memoryUsageBytes', 'memory_usage_bytes'),
    diskReadBytes: count('diskReadBytes', 'disk_read_bytes'),
    diskWriteBytes: count('diskWriteBytes', 'disk_write_bytes'),
    networkRxBytes: count('networkRxBytes', 'network_rx_bytes'),
    networkTxBytes: count('networkTxBytes', 'network_tx_bytes'),
  }
}
