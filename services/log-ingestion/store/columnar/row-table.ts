// Rows on their way into blocks: numbers in typed arrays, texts as slices of one buffer. Made from journal records, or from
// blocks that are written anew.

import { Buffer } from 'node:buffer'

const noText = -1

export class RowTable {
  count = 0
  /** Nanoseconds since the day began; whole and below 2^53. */
  nsOfDay: Float64Array
  /** Ids less `idBase`. */
  id: Float64Array
  idBase = 0n
  /** When accepted: µs since 1970. */
  createdUs: Float64Array
  level: Uint8Array
  service: Uint32Array
  /** Slices of `bytes`; metadata −1 … −1 is none. */
  messageFrom: Int32Array
  messageTo: Int32Array
  metadataFrom: Int32Array
  metadataTo: Int32Array
  bytes: Buffer
  /** Names of services by number. */
  readonly services: string[] = []

  constructor(capacity: number, bytes: Buffer = Buffer.alloc(0)) {
    this.nsOfDay = new Float64Array(capacity)
    this.id = new Float64Array(capacity)
    this.createdUs = new Float64Array(capacity)
    this.level = new Uint8Array(capacity)
    this.service = new Uint32Array(capacity)
    this.messageFrom = new Int32Array(capacity)
    this.messageTo = new Int32Array(capacity)
    this.metadataFrom = new Int32Array(capacity)
    this.metadataTo = new Int32Array(capacity)
    this.bytes = bytes
  }

  setNoMetadata(row: number): void {
    this.metadataFrom[row] = noText
    this.metadataTo[row] = noText
  }

  hasMetadata(row: number): boolean {
    return this.metadataFrom[row] !== noText
  }

  grown(capacity: number): RowTable {
    const table = new RowTable(capacity, this.bytes)
    table.count = this.count
    table.idBase = this.idBase
    table.nsOfDay.set(this.nsOfDay)
    table.id.set(this.id)
    table.createdUs.set(this.createdUs)
    table.level.set(this.level)
    table.service.set(this.service)
    table.messageFrom.set(this.messageFrom)
    table.messageTo.set(this.messageTo)
    table.metadataFrom.set(this.metadataFrom)
    table.metadataTo.set(this.metadataTo)
    for (const name of this.services) table.services.push(name)
    return table
  }

  /** Bytes of messages and metadata. */
  textBytes(): number {
    let bytes = 0
    for (let row = 0; row < this.count; row++)
      bytes +=
        (this.messageTo[row] as number) -
        (this.messageFrom[row] as number) +
        (this.metadataTo[row] as number) -
        (this.metadataFrom[row] as number)
    return bytes
  }

  /** Numbers of rows in (timestamp, id) order. */
  order(): Uint32Array {
    const { count, nsOfDay, id } = this
    const order = new Uint32Array(count)
    let isSorted = true
    let scale = 1_000_000
    for (let row = 0; row < count; row++) {
      order[row] = row
      const ns = nsOfDay[row] as number
      while (ns % scale !== 0) scale /= 1_000
      if (row === 0) continue
      const before = nsOfDay[row - 1] as number
      if (before > ns || (before === ns && (id[row - 1] as number) > (id[row] as number))) isSorted = false
    }
    if (isSorted) return order
    // Sorting doubles without a comparator is many times quicker; the row's number rides in the low digits. It stands for
    // the id where rows came in order of their ids.
    if (scale >= 1_000 && count <= rowNumbersMax && isAscending(id, count)) {
      const keys = new Float64Array(count)
      for (let row = 0; row < count; row++) keys[row] = ((nsOfDay[row] as number) / scale) * rowNumbersMax + row
      keys.sort()
      for (let i = 0; i < count; i++) order[i] = (keys[i] as number) % rowNumbersMax
      return order
    }
    return order.sort(
      (a, b) => (nsOfDay[a] as number) - (nsOfDay[b] as number) || (id[a] as number) - (id[b] as number),
    )
  }
}

/** 86 400 000 000 µs × this is below 2^53. */
const rowNumbersMax = 65_536

function isAscending(values: Float64Array, count: number): boolean {
  for (let i = 1; i < count; i++) if ((values[i - 1] as number) > (values[i] as number)) return false
  return true
}
