import { larger, smaller } from '../bigint.ts'
import { type Sample, valueFields } from './sample.ts'

/** What a series says about one instant. Several different samples for it are a conflict: all are kept, and the
 *  smallest value of each field bills least, except where nothing before it is counted: there the largest does. */
export interface Reading {
  readonly atNs: bigint
  readonly low: Sample
  readonly high: Sample
  /** Different samples for this instant; more than 1 is a conflict. */
  readonly variants: number
}

/** Readings in order of time from samples sorted by `compareSamples`. A sample of six zeros is "no reading". */
export function readingsOf(sorted: readonly Sample[]): Reading[] {
  const readings: Reading[] = []
  for (const sample of sorted) {
    if (valueFields.every(field => sample[field] === 0n)) continue
    const last = readings.at(-1)
    if (last?.atNs !== sample.atNs) readings.push({ atNs: sample.atNs, low: sample, high: sample, variants: 1 })
    else readings[readings.length - 1] = merge(last, sample)
  }
  return readings
}

function merge(reading: Reading, sample: Sample): Reading {
  return {
    atNs: reading.atNs,
    low: fieldwise(reading.low, sample, smaller),
    high: fieldwise(reading.high, sample, larger),
    variants: reading.variants + 1,
  }
}

function fieldwise(a: Sample, b: Sample, pick: (a: bigint, b: bigint) => bigint): Sample {
  return {
    atNs: a.atNs,
    cpuNs: pick(a.cpuNs, b.cpuNs),
    memoryBytes: pick(a.memoryBytes, b.memoryBytes),
    diskReadBytes: pick(a.diskReadBytes, b.diskReadBytes),
    diskWriteBytes: pick(a.diskWriteBytes, b.diskWriteBytes),
    netRxBytes: pick(a.netRxBytes, b.netRxBytes),
    netTxBytes: pick(a.netTxBytes, b.netTxBytes),
  }
}
