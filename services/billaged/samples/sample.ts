/** One reading of a VM's counters. Counters count up from the VM's start; memory is a level. All are 0…2⁶³−1. */
export interface Sample {
  /** Unix nanoseconds. */
  readonly atNs: bigint
  readonly cpuNs: bigint
  readonly memoryBytes: bigint
  readonly diskReadBytes: bigint
  readonly diskWriteBytes: bigint
  readonly netRxBytes: bigint
  readonly netTxBytes: bigint
}

export const counterFields = ['cpuNs', 'diskReadBytes', 'diskWriteBytes', 'netRxBytes', 'netTxBytes'] as const
export type CounterField = (typeof counterFields)[number]

/** The six values in the order of the wire, of parts and of digests. */
export const valueFields = [
  'cpuNs',
  'memoryBytes',
  'diskReadBytes',
  'diskWriteBytes',
  'netRxBytes',
  'netTxBytes',
] as const

/** Time first, then the values: the one order in which equal sets become equal bytes. */
export function compareSamples(a: Sample, b: Sample): number {
  if (a.atNs !== b.atNs) return a.atNs < b.atNs ? -1 : 1
  for (const field of valueFields) if (a[field] !== b[field]) return a[field] < b[field] ? -1 : 1
  return 0
}

/** Sorted, each element once. */
export function sampleSet(samples: readonly Sample[]): Sample[] {
  const sorted = samples.toSorted(compareSamples)
  return sorted.filter((sample, i) => {
    const before = sorted[i - 1]
    return before === undefined || compareSamples(before, sample) !== 0
  })
}

export const hourNs = 3_600_000_000_000n

/** Hours since 1970 that a time falls in. */
export function hourOf(atNs: bigint): number {
  return Number(atNs / hourNs - (atNs < 0n && atNs % hourNs !== 0n ? 1n : 0n))
}
