import type { Sample } from './sample.ts'

// Readings of one batch as columns of numbers: what the fast way in decodes to and encodes parts from. One BigInt per
// 64-bit value would cost some twenty times as much, and a double alone is exact to 2⁵³ only (104 core-days of CPU time),
// so a value is two limbs of 32 bits. The columns are reused from request to request; nothing may keep them.

export interface Columns {
  count: number
  /** Whole seconds since 1970, 0…2⁵³−1, and the nanoseconds in them. */
  seconds: Float64Array
  nanos: Int32Array
  /** The six values in the order of `valueFields`, field after field: value f of sample i lies at f × capacity + i. */
  high: Uint32Array
  low: Uint32Array
  capacity: number
}

export const valuesPerSample = 6

export function createColumns(capacity: number): Columns {
  return {
    count: 0,
    seconds: new Float64Array(capacity),
    nanos: new Int32Array(capacity),
    high: new Uint32Array(capacity * valuesPerSample),
    low: new Uint32Array(capacity * valuesPerSample),
    capacity,
  }
}

/** The same as objects, for tests and for whatever the fast way leaves to the general one. */
export function samplesOf(columns: Columns): Sample[] {
  return Array.from({ length: columns.count }, (_, i) => {
    const value = (f: number) => {
      const at = f * columns.capacity + i
      return (BigInt(columns.high[at] ?? 0) << 32n) | BigInt(columns.low[at] ?? 0)
    }
    return {
      atNs: BigInt(columns.seconds[i] ?? 0) * 1_000_000_000n + BigInt(columns.nanos[i] ?? 0),
      cpuNs: value(0),
      memoryBytes: value(1),
      diskReadBytes: value(2),
      diskWriteBytes: value(3),
      netRxBytes: value(4),
      netTxBytes: value(5),
    }
  })
}
