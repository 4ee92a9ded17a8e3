// Requests accepted lately, by a 16-byte hash of what makes them the same: where they lie in the journal, so that a repeat
// gets the receipt of the first. Bounded by age and by count; the oldest leave first.
//
// Columns of numbers instead of objects: a million of these cost 57 MB, not 300. Slots are a ring in the order of
// arrival; `table` is a hash table of slots with linear probing, and an entry that leaves closes its gap.

export interface AcceptedPlace {
  segment: string
  from: number
  to: number
  rows: number
  receivedUs: bigint
}

export interface RememberedRequest extends AcceptedPlace {
  /** First 16 bytes of the SHA-256 of the decoded body; zeros when the hash includes it. */
  body: Uint8Array
}

export interface Remembered {
  find(id: Uint8Array, nowMs: number): RememberedRequest | undefined
  /** `atMs` is monotonic and must not go back. What is known already keeps its first place. */
  add(id: Uint8Array, request: RememberedRequest, atMs: number): void
  readonly size: number
}

const slotsMin = 1_024
const none = -1

export function createRemembered(o: {
  keepMs: number
  max: number
  /** False: all have zeros there, which cost nothing. */
  hasBodies?: boolean
  /** Entries that left before their time. */
  onEvicted: (count: number) => void
}): Remembered {
  const segments: string[] = []
  const segmentIndexes = new Map<string, number>()
  const hasBodies = o.hasBodies ?? true
  let columns = makeColumns(Math.min(slotsMin, o.max), hasBodies)
  let table = new Int32Array(tableSize(columns.slots)).fill(none)
  let first = 0
  let size = 0

  const indexOf = (segment: string): number => {
    const known = segmentIndexes.get(segment)
    if (known !== undefined) return known
    segmentIndexes.set(segment, segments.length)
    return segments.push(segment) - 1
  }

  /** Where the id is in the table, or the free place where it would go. */
  const locate = (id: Uint8Array): number => {
    const mask = table.length - 1
    for (let at = bucketOf(id, 0, mask); ; at = (at + 1) & mask) {
      const slot = table[at] ?? none
      if (slot === none || isSame(columns.ids, slot * 16, id)) return at
    }
  }

  const dropOldest = () => {
    const mask = table.length - 1
    let gap = locate(columns.ids.subarray(first * 16, first * 16 + 16))
    table[gap] = none
    // Whoever was pushed past this place moves back into it.
    for (let at = (gap + 1) & mask; (table[at] ?? none) !== none; at = (at + 1) & mask) {
      const home = bucketOf(columns.ids, (table[at] ?? 0) * 16, mask)
      if (((at - home) & mask) < ((at - gap) & mask)) continue
      table[gap] = table[at] ?? none
      table[at] = none
      gap = at
    }
    first = (first + 1) % columns.slots
    size--
  }

  const forgetOld = (nowMs: number) => {
    while (size > 0 && nowMs - (columns.atMs[first] ?? 0) > o.keepMs) dropOldest()
  }

  const grow = () => {
    const before = columns
    columns = makeColumns(Math.min(before.slots * 2, o.max), hasBodies)
    for (let i = 0; i < size; i++) copySlot(before, (first + i) % before.slots, columns, i)
    first = 0
    table = new Int32Array(tableSize(columns.slots)).fill(none)
    for (let slot = 0; slot < size; slot++) table[locate(columns.ids.subarray(slot * 16, slot * 16 + 16))] = slot
  }

  return {
    find(id, nowMs) {
      forgetOld(nowMs)
      const slot = table[locate(id)] ?? none
      if (slot === none) return undefined
      return {
        segment: segments[columns.segment[slot] ?? 0] ?? '',
        from: columns.from[slot] ?? 0,
        to: (columns.from[slot] ?? 0) + (columns.bytes[slot] ?? 0),
        rows: columns.rows[slot] ?? 0,
        receivedUs: columns.receivedUs[slot] ?? 0n,
        body: hasBodies ? columns.bodies.slice(slot * 16, slot * 16 + 16) : new Uint8Array(16),
      }
    },
    add(id, request, atMs) {
      forgetOld(atMs)
      if ((table[locate(id)] ?? none) !== none) return
      if (size === columns.slots && size < o.max) grow()
      if (size === columns.slots) {
        dropOldest()
        o.onEvicted(1)
      }
      const slot = (first + size) % columns.slots
      columns.ids.set(id.subarray(0, 16), slot * 16)
      if (hasBodies) columns.bodies.set(request.body.subarray(0, 16), slot * 16)
      columns.atMs[slot] = atMs
      columns.segment[slot] = indexOf(request.segment)
      columns.from[slot] = request.from
      columns.bytes[slot] = request.to - request.from
      columns.rows[slot] = request.rows
      columns.receivedUs[slot] = request.receivedUs
      table[locate(id)] = slot
      size++
    },
    get size() {
      return size
    },
  }
}

/** What it costs when it is full. */
export function rememberedBytes(max: number, hasBodies: boolean): number {
  const slot = Object.values(makeColumns(1, hasBodies)).reduce<number>(
    (sum, column) => sum + (typeof column === 'number' ? 0 : column.byteLength),
    0,
  )
  return max * slot + tableSize(max) * Int32Array.BYTES_PER_ELEMENT
}

function makeColumns(slots: number, hasBodies: boolean) {
  return {
    slots,
    ids: new Uint8Array(slots * 16),
    bodies: new Uint8Array(hasBodies ? slots * 16 : 0),
    atMs: new Float64Array(slots),
    segment: new Uint32Array(slots),
    /** Segments are far from 4 GiB. */
    from: new Uint32Array(slots),
    bytes: new Uint32Array(slots),
    rows: new Uint32Array(slots),
    receivedUs: new BigInt64Array(slots),
  }
}
type Columns = ReturnType<typeof makeColumns>

function copySlot(source: Columns, from: number, target: Columns, to: number): void {
  target.ids.set(source.ids.subarray(from * 16, from * 16 + 16), to * 16)
  if (source.bodies.length > 0) target.bodies.set(source.bodies.subarray(from * 16, from * 16 + 16), to * 16)
  target.atMs[to] = source.atMs[from] ?? 0
  target.segment[to] = source.segment[from] ?? 0
  target.from[to] = source.from[from] ?? 0
  target.bytes[to] = source.bytes[from] ?? 0
  target.rows[to] = source.rows[from] ?? 0
  target.receivedUs[to] = source.receivedUs[from] ?? 0n
}

/** A power of two, at most half full. */
function tableSize(slots: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(2, slots * 2)))
}

/** The ids are SHA-256: any of their bits will do. */
function bucketOf(ids: Uint8Array, at: number, mask: number): number {
  return ((ids[at] ?? 0) | ((ids[at + 1] ?? 0) << 8) | ((ids[at + 2] ?? 0) << 16)) & mask
}

function isSame(ids: Uint8Array, at: number, id: Uint8Array): boolean {
  for (let i = 0; i < 16; i++) if (ids[at + i] !== id[i]) return false
  return true
}
