import { type Columns, createColumns } from '../samples/columns.ts'
import type { DecodedBatch } from './decode-batch.ts'

// The JSON of SendMetricsBatch into columns, for values as senders write them: integers as numbers or digits, times as
// RFC 3339 in UTC. Anything else it declines, and the generated decoder answers. Numbers too long for a double have been
// quoted before (#platform/rpc/exact-numbers).

/** Null: let the generated decoder have it. */
export function decodeJsonBatch(message: unknown, samplesMax: number): DecodedBatch | null {
  if (!isObject(message)) return null
  let vmId = ''
  let customerId = ''
  let metrics: unknown[] | null = null
  const seen = new Set<string>()
  for (const [key, value] of Object.entries(message)) {
    const field = batchFields.get(key)
    // Unknown fields are ignored; one field under both of its names is not for us to decide.
    if (field === undefined) continue
    if (seen.has(field)) return null
    seen.add(field)
    if (field === 'metrics') {
      if (!Array.isArray(value)) return null
      metrics = value
    } else if (typeof value !== 'string' || !/^[\x20-\x7e]{1,255}$/.test(value)) return null
    else if (field === 'vmId') vmId = value
    else customerId = value
  }
  if (vmId === '' || metrics === null || metrics.length === 0 || metrics.length > samplesMax) return null
  const columns = createColumns(metrics.length)
  for (const [i, reading] of metrics.entries()) if (!decodeReading(reading, columns, i)) return null
  columns.count = metrics.length
  return { vmId, customerId, columns }
}

const batchFields = new Map<string, 'vmId' | 'customerId' | 'metrics'>([
  ['vmId', 'vmId'],
  ['vm_id', 'vmId'],
  ['customerId', 'customerId'],
  ['customer_id', 'customerId'],
  ['metrics', 'metrics'],
])

/** Place among the six values; −1 is the timestamp. */
const readingFields = new Map([
  ['timestamp', -1],
  ['cpuTimeNanos', 0],
  ['cpu_time_nanos', 0],
  ['memoryUsageBytes', 1],
  ['memory_usage_bytes', 1],
  ['diskReadBytes', 2],
  ['disk_read_bytes', 2],
  ['diskWriteBytes', 3],
  ['disk_write_bytes', 3],
  ['networkRxBytes', 4],
  ['network_rx_bytes', 4],
  ['networkTxBytes', 5],
  ['network_tx_bytes', 5],
])

function decodeReading(reading: unknown, columns: Columns, i: number): boolean {
  if (!isObject(reading)) return false
  let given = 0
  for (const key of Object.keys(reading)) {
    const field = readingFields.get(key)
    if (field === undefined) continue
    const bit = 1 << (field + 1)
    if ((given & bit) !== 0) return false
    given |= bit
    const value = reading[key]
    if (field === -1 ? !decodeTime(value, columns, i) : !decodeValue(value, columns, field, i)) return false
  }
  return (given & 1) !== 0
}

function decodeValue(value: unknown, columns: Columns, field: number, i: number): boolean {
  const { high, low, capacity } = columns
  const at = field * capacity + i
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 && !Object.is(value, -0)) {
    high[at] = Math.floor(value / 0x1_0000_0000)
    low[at] = value % 0x1_0000_0000
    return true
  }
  if (typeof value !== 'string' || !/^(0|[1-9]\d{0,18})$/.test(value)) return false
  if (value.length <= 15) return decodeValue(Number(value), columns, field, i)
  const exact = BigInt(value)
  if (exact >= 2n ** 63n) return false
  high[at] = Number(exact >> 32n)
  low[at] = Number(exact & 0xffff_ffffn)
  return true
}

function decodeTime(value: unknown, columns: Columns, i: number): boolean {
  if (typeof value !== 'string') return false
  const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{3}|\d{6}|\d{9}))?Z$/.exec(value)
  if (match === null) return false
  const [, whole = '', fraction = ''] = match
  const ms = Date.parse(`${whole}Z`)
  // A day that the month does not have would be taken for one of the next month.
  if (Number.isNaN(ms) || ms < 0 || new Date(ms).toISOString().slice(0, 19) !== whole) return false
  columns.seconds[i] = ms / 1_000
  columns.nanos[i] = Number(fraction.padEnd(9, '0'))
  return true
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
