// Counts for the windows of an alert rule: one after the other, from as few questions as possible. The evaluator and the
// back-test use the same, so the one shows what the other would have done.

import { parseQuery } from '../query/parse.ts'
import type { Store } from '../store/store.ts'
import { type AlertDefinition, parseSpan } from './definitions.ts'

export interface WindowCounts {
  /** End of the window, Unix ms. */
  atMs: number
  current: number
  /** Of the window before. */
  previous: number
}

/** The query took too long, or there was too much to look at. */
export class CountIncomplete extends Error {}

/** Buckets of one question. */
const bucketsMax = 10_000
const rowsScannedMax = 50_000_000

/** The grid on which a rule is evaluated: whole multiples of `every`, for every evaluator the same. */
export function gridAt(definition: AlertDefinition, ms: number): number {
  const everyMs = parseSpan(definition.every)
  return Math.floor(ms / everyMs) * everyMs
}

/** For each grid point from the first to the last, both included. @throws CountIncomplete */
export async function* windowCounts(
  store: Store,
  o: {
    tenant: string
    definition: AlertDefinition
    firstMs: number
    lastMs: number
    timeoutMs: number
    now: () => number
  },
): AsyncGenerator<WindowCounts[]> {
  const { definition } = o
  const everyMs = parseSpan(definition.every)
  const windowMs = parseSpan(definition.window)
  const behindMs = definition.kind === 'rate' ? 2 * windowMs : windowMs
  const query = parseQuery(definition.q)
  const grainMs = o.firstMs === o.lastMs ? windowMs : greatestDivisor(everyMs, windowMs)
  const stepsMax = Math.max(1, Math.floor((bucketsMax * grainMs - behindMs) / everyMs))
  for (let firstMs = o.firstMs; firstMs <= o.lastMs; firstMs += stepsMax * everyMs) {
    const lastMs = Math.min(o.lastMs, firstMs + (stepsMax - 1) * everyMs)
    const fromMs = firstMs - behindMs
    const { counts, isPartial } = await store.count(
      {
        tenant: o.tenant,
        query,
        fromNs: BigInt(fromMs) * 1_000_000n,
        toNs: BigInt(lastMs) * 1_000_000n,
        originNs: BigInt(fromMs) * 1_000_000n,
        intervalNs: BigInt(grainMs) * 1_000_000n,
        by: null,
        timeoutMs: o.timeoutMs,
        rowsScannedMax,
      },
      o.now,
    )
    if (isPartial) throw new CountIncomplete('counting took too long; narrow the query or shorten the window')
    // sums[i]: entries in the first i buckets.
    const sums = new Float64Array((lastMs - fromMs) / grainMs + 1)
    for (let i = 0; i + 1 < sums.length; i++) sums[i + 1] = (sums[i] ?? 0) + Number(counts.get(i)?.get('') ?? 0n)
    const before = (ms: number) => sums[(ms - fromMs) / grainMs] ?? 0
    const steps: WindowCounts[] = []
    for (let atMs = firstMs; atMs <= lastMs; atMs += everyMs)
      steps.push({
        atMs,
        current: before(atMs) - before(atMs - windowMs),
        previous: definition.kind === 'rate' ? before(atMs - windowMs) - before(atMs - 2 * windowMs) : 0,
      })
    yield steps
  }
}

function greatestDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestDivisor(b, a % b)
}
