import { type Columns, createColumns, valuesPerSample } from '../samples/columns.ts'

// SendMetricsBatchRequest in protobuf, straight into columns. It reads what senders send: the three fields of the batch
// and the seven of a reading, in any order, repeated or not. Whatever else a message may hold (fields of a later version,
// negative or over-long integers, text beyond ASCII, bytes that end too early) it declines, and the generated decoder
// answers; so the two can never disagree about what is valid.

export interface DecodedBatch {
  vmId: string
  customerId: string
  columns: Columns
}

let columns = createColumns(1024)
let shared: DecodedBatch = { vmId: '', customerId: '', columns }

/** Null: let the generated decoder have it. The result is overwritten by the next call. */
export function decodeBatch(body: Buffer, samplesMax: number): DecodedBatch | null {
  let vmId = ''
  let customerId = ''
  let count = 0
  let at = 0
  const end = body.length
  while (at < end) {
    const tag = body[at] ?? 0
    let length = body[at + 1] ?? 0x100
    at += 2
    if (length >= 0x80) {
      const next = body[at++] ?? 0x100
      if (length > 0xff || next >= 0x80) {
        // Three bytes or more: no identifier and no reading is that long.
        return null
      }
      length = (length & 0x7f) | (next << 7)
    }
    const stop = at + length
    if (stop > end) return null
    if (tag === tagMetrics) {
      if (count >= samplesMax) return null
      if (count === columns.capacity) grow()
      if (!decodeReading(body, at, stop, count)) return null
      count++
    } else if (tag === tagVmId || tag === tagCustomerId) {
      if (length === 0 || length > idBytesMax || !isPlain(body, at, stop)) return null
      const id = body.toString('latin1', at, stop)
      if (tag === tagVmId) vmId = id
      else customerId = id
    } else return null
    at = stop
  }
  if (count === 0 || vmId === '') return null
  columns.count = count
  shared.vmId = vmId
  shared.customerId = customerId
  return shared
}

const tagVmId = 0x0a
const tagCustomerId = 0x12
const tagMetrics = 0x1a
const idBytesMax = 255

function grow() {
  const larger = createColumns(columns.capacity * 4)
  larger.seconds.set(columns.seconds)
  larger.nanos.set(columns.nanos)
  for (let f = 0; f < valuesPerSample; f++) {
    const from = f * columns.capacity
    larger.high.set(columns.high.subarray(from, from + columns.capacity), f * larger.capacity)
    larger.low.set(columns.low.subarray(from, from + columns.capacity), f * larger.capacity)
  }
  columns = larger
  shared = { ...shared, columns }
}

/** Printable ASCII: valid UTF-8 and free of control characters without looking further. */
function isPlain(body: Buffer, at: number, stop: number): boolean {
  for (let i = at; i < stop; i++) {
    const byte = body[i] ?? 0
    if (byte < 0x20 || byte > 0x7e) return false
  }
  return true
}

function decodeReading(body: Buffer, start: number, stop: number, i: number): boolean {
  const { capacity, high, low } = columns
  for (let f = 0; f < valuesPerSample; f++) {
    high[f * capacity + i] = 0
    low[f * capacity + i] = 0
  }
  let hasTime = false
  let at = start
  while (at < stop) {
    const tag = body[at++] ?? 0
    if (tag === 0x0a) {
      const length = body[at++] ?? 0x80
      if (length >= 0x80 || at + length > stop) return false
      // A message given twice is one message: fields of the second replace those of the first.
      if (!hasTime) {
        columns.seconds[i] = 0
        columns.nanos[i] = 0
      }
      hasTime = true
      if (!decodeTime(body, at, at + length, i)) return false
      at += length
      continue
    }
    // Fields 2…7 as varints: 0x10, 0x18, … 0x38.
    if ((tag & 7) !== 0 || tag < 0x10 || tag > 0x38) return false
    at = readVarint(body, at)
    if (at < 0 || at > stop) return false
    const place = ((tag >>> 3) - 2) * capacity + i
    high[place] = readHigh
    low[place] = readLow
  }
  return hasTime
}

function decodeTime(body: Buffer, start: number, stop: number, i: number): boolean {
  let at = start
  while (at < stop) {
    const tag = body[at++] ?? 0
    at = readVarint(body, at)
    if (at < 0 || at > stop) return false
    if (tag === 0x08) {
      if (readHigh >= 0x20_0000) return false
      columns.seconds[i] = readHigh * 0x1_0000_0000 + readLow
    } else if (tag === 0x10) {
      if (readHigh !== 0 || readLow > 999_999_999) return false
      columns.nanos[i] = readLow
    } else return false
  }
  return true
}

// The limbs of the last varint: two results without an object to hold them.
let readHigh = 0
let readLow = 0

/** Reads up to 63 bits; returns the position behind, or −1 for more (negative and over-long integers). Past the end of
 *  the buffer bytes read as 0, which ends the number at a position the caller sees is too far. */
function readVarint(body: Buffer, at: number): number {
  let byte = body[at++] ?? 0
  readHigh = 0
  if (byte < 0x80) {
    readLow = byte
    return at
  }
  let low = byte & 0x7f
  byte = body[at++] ?? 0
  low |= (byte & 0x7f) << 7
  if (byte >= 0x80) {
    byte = body[at++] ?? 0
    low |= (byte & 0x7f) << 14
    if (byte >= 0x80) {
      byte = body[at++] ?? 0
      low |= (byte & 0x7f) << 21
      if (byte >= 0x80) {
        byte = body[at++] ?? 0
        low |= (byte & 0x0f) << 28
        let high = (byte & 0x7f) >>> 4
        for (let shift = 3; byte >= 0x80; shift += 7) {
          if (shift > 24) return -1
          byte = body[at++] ?? 0
          high |= (byte & 0x7f) << shift
        }
        readHigh = high
      }
    }
  }
  readLow = low >>> 0
  return at
}
