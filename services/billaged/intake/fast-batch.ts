import { type Columns, createColumns } from '../samples/columns.ts'
import { partBytesMax, writePart } from '../samples/part-columns.ts'
import { writeSummary } from '../samples/summary-columns.ts'
import { encodeSamplesRecord, recordHeadBytesMax } from './record.ts'
import type { Window } from './validate.ts'

// From columns to the journal's record, without an object or a BigInt per sample. The same bytes as `batchFacts` and
// `encodeRecord` make of the same readings; what is doubtful, or out of order at one instant, is left to them.

let scratch = Buffer.allocUnsafeSlow(64 * 1024)

/** Null: a sample must be set aside, or two are of one instant. */
export function encodeBatch(customerId: string, vmId: string, given: Columns, window: Window): Buffer | null {
  const order = orderOf(given)
  if (order === 'unclear' || !isWithin(given, order, window)) return null
  const columns = order === 'ascending' ? given : sorted(given, order)
  const { count, seconds, nanos } = columns
  const hourOf = (i: number) => Math.floor((seconds[i] ?? 0) / 3_600)
  const hoursMax = Math.min(count, hourOf(count - 1) - hourOf(0) + 1)
  const idBytes = Buffer.byteLength(customerId) + Buffer.byteLength(vmId)
  const bytesMax = recordHeadBytesMax(hoursMax, idBytes) + hoursMax * partBytesMax(0) + partBytesMax(count)
  if (scratch.length < bytesMax) scratch = Buffer.allocUnsafeSlow(bytesMax * 2)

  const parts = []
  const atNs = (i: number) => BigInt(seconds[i] ?? 0) * 1_000_000_000n + BigInt(nanos[i] ?? 0)
  for (let from = 0; from < count; ) {
    const hour = hourOf(from)
    let to = from + 1
    while (to < count && hourOf(to) === hour) to++
    const first = from
    parts.push({
      hour,
      count: to - from,
      minNs: atNs(from),
      maxNs: atNs(to - 1),
      writeSummary: (at: number) => writeSummary(columns, first, to, scratch, at),
      writeBody: (at: number) => writePart(columns, first, to, hour, scratch, at),
    })
    from = to
  }
  return encodeSamplesRecord(scratch, customerId, vmId, parts)
}

type Order = 'ascending' | 'unclear' | Int32Array

/** Senders send in order; those that do not cost a sort. Readings of one instant need more than their times compared. */
function orderOf({ count, seconds, nanos }: Columns): Order {
  const compare = (a: number, b: number) => (seconds[a] ?? 0) - (seconds[b] ?? 0) || (nanos[a] ?? 0) - (nanos[b] ?? 0)
  let i = 1
  while (i < count && compare(i - 1, i) < 0) i++
  if (i >= count) return 'ascending'
  const order = Int32Array.from({ length: count }, (_, k) => k).sort(compare)
  for (let k = 1; k < count; k++) if (compare(order[k - 1] ?? 0, order[k] ?? 0) === 0) return 'unclear'
  return order
}

function sorted(given: Columns, order: Int32Array): Columns {
  const columns = createColumns(given.count)
  columns.count = given.count
  for (let k = 0; k < order.length; k++) {
    const i = order[k] ?? 0
    columns.seconds[k] = given.seconds[i] ?? 0
    columns.nanos[k] = given.nanos[i] ?? 0
    for (let from = i, to = k; from < given.high.length; from += given.capacity, to += columns.capacity) {
      columns.high[to] = given.high[from] ?? 0
      columns.low[to] = given.low[from] ?? 0
    }
  }
  return columns
}

const year2000S = 946_684_800
const secondNs = 1_000_000_000n

/** Only the outermost readings need a look. */
function isWithin({ count, seconds, nanos }: Columns, order: 'ascending' | Int32Array, window: Window): boolean {
  const [first, last] = order === 'ascending' ? [0, count - 1] : [order[0] ?? 0, order[count - 1] ?? 0]
  const firstNs = BigInt(seconds[first] ?? 0) * secondNs + BigInt(nanos[first] ?? 0)
  const lastNs = BigInt(seconds[last] ?? 0) * secondNs + BigInt(nanos[last] ?? 0)
  return (
    (seconds[first] ?? 0) >= year2000S &&
    firstNs >= window.nowNs - window.maxPastNs &&
    lastNs <= window.nowNs + window.maxFutureNs
  )
}
