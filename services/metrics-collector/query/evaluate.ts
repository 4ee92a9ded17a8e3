// The arithmetic of queries: samples of the selected series in, values at the asked times out. Pure.

import type { Labels } from '../sample.ts'
import type { Aggregate, Aggregation, RangeFunction, VectorExpression } from './parse.ts'

/** Samples of one series, ascending in time, no two at one time. */
export interface SampleSeries {
  name: string
  labels: Labels
  timesMs: readonly number[]
  values: readonly number[]
}

/** Values of one result series at each asked time; undefined where there is none. */
export interface ResultSeries {
  name: string | undefined
  labels: Labels
  values: (number | undefined)[]
}

/** What a value at time t looks at: the newest sample or all samples in (t − windowMs, t]. */
export interface Window {
  fn: RangeFunction | 'newest'
  windowMs: number
  offsetMs: number
}

/** The selector at the bottom of an expression, with what it looks at. */
export function windowOf(expression: VectorExpression, lookbackMs: number): Window {
  switch (expression.kind) {
    case 'aggregate':
      return windowOf(expression.argument, lookbackMs)
    case 'call':
      return { fn: expression.fn, windowMs: expression.argument.rangeMs, offsetMs: expression.argument.offsetMs }
    case 'selector':
      return { fn: 'newest', windowMs: expression.rangeMs ?? lookbackMs, offsetMs: expression.offsetMs }
    default:
      return expression satisfies never
  }
}

/** One series through its function, at ascending times. Two fingers move through the samples; nothing is searched. */
export function evaluateSeries(series: SampleSeries, window: Window, timesMs: readonly number[]): ResultSeries {
  const { timesMs: stamps, values: samples } = series
  const values: (number | undefined)[] = []
  let from = 0
  let to = 0
  for (const timeMs of timesMs) {
    const end = timeMs - window.offsetMs
    while (to < stamps.length && (stamps[to] ?? 0) <= end) to++
    while (from < to && (stamps[from] ?? 0) <= end - window.windowMs) from++
    values.push(from === to ? undefined : evaluateWindow(window, stamps, samples, from, to, end))
  }
  // The result of a function is no longer what the name says; the newest sample still is.
  const keepsName = window.fn === 'newest' || window.fn === 'last_over_time'
  return { name: keepsName ? series.name : undefined, labels: series.labels, values }
}

function evaluateWindow(
  { fn, windowMs }: Window,
  stamps: readonly number[],
  samples: readonly number[],
  from: number,
  to: number,
  endMs: number,
): number | undefined {
  switch (fn) {
    case 'newest':
    case 'last_over_time':
      return samples[to - 1]
    case 'rate':
    case 'increase':
    case 'delta':
      return extrapolated(fn, windowMs, stamps, samples, from, to, endMs)
    case 'irate': {
      if (to - from < 2) return undefined
      const [before = 0, last = 0] = [samples[to - 2], samples[to - 1]]
      const seconds = ((stamps[to - 1] ?? 0) - (stamps[to - 2] ?? 0)) / 1_000
      return (last < before ? last : last - before) / seconds
    }
    case 'count_over_time':
      return to - from
    case 'sum_over_time':
      return fold('sum', samples.slice(from, to))
    case 'avg_over_time':
      return fold('avg', samples.slice(from, to))
    case 'min_over_time':
      return fold('min', samples.slice(from, to))
    case 'max_over_time':
      return fold('max', samples.slice(from, to))
    default:
      return fn satisfies never
  }
}

/**
 * Prometheus's rule, so that a chart looks the same from either source: the change between the first and the last
 * sample is extended to the edges of the window where samples suggest that the series went on, but a counter is
 * never extended below zero.
 */
function extrapolated(
  fn: 'rate' | 'increase' | 'delta',
  windowMs: number,
  stamps: readonly number[],
  samples: readonly number[],
  from: number,
  to: number,
  endMs: number,
): number | undefined {
  if (to - from < 2) return undefined
  const first = samples[from] ?? 0
  let change = (samples[to - 1] ?? 0) - first
  if (fn !== 'delta') {
    // A counter that went back was reset, and counted up from zero to what it showed then.
    for (let i = from + 1; i < to; i++) {
      const before = samples[i - 1] ?? 0
      if ((samples[i] ?? 0) < before) change += before
    }
  }
  const firstMs = stamps[from] ?? 0
  const lastMs = stamps[to - 1] ?? 0
  const sampledS = (lastMs - firstMs) / 1_000
  const averageS = sampledS / (to - from - 1)
  let toStartS = (firstMs - (endMs - windowMs)) / 1_000
  let toEndS = (endMs - lastMs) / 1_000
  if (toStartS >= averageS * 1.1) toStartS = averageS / 2
  if (toEndS >= averageS * 1.1) toEndS = averageS / 2
  if (fn !== 'delta' && change > 0 && first >= 0) toStartS = Math.min(toStartS, sampledS * (first / change))
  const extended = change * ((sampledS + toStartS + toEndS) / sampledS)
  return fn === 'rate' ? extended / (windowMs / 1_000) : extended
}

/** Aggregations around a vector, innermost first. */
export function aggregate(expression: VectorExpression, vector: readonly ResultSeries[]): readonly ResultSeries[] {
  if (expression.kind !== 'aggregate') return vector
  return aggregateOnce(expression, aggregate(expression.argument, vector))
}

function aggregateOnce({ op, grouping, labels }: Aggregate, vector: readonly ResultSeries[]): ResultSeries[] {
  const groups = new Map<string, { name: string | undefined; labels: Labels; members: ResultSeries[] }>()
  for (const series of vector) {
    const kept = Object.entries(series.labels).filter(([label]) => labels.includes(label) === (grouping === 'by'))
    const name = grouping === 'by' && labels.includes('__name__') ? series.name : undefined
    const key = JSON.stringify([name, kept])
    const group = groups.get(key)
    if (group) group.members.push(series)
    else groups.set(key, { name, labels: Object.fromEntries(kept), members: [series] })
  }
  return [...groups.values()].map(group => ({
    name: group.name,
    labels: group.labels,
    values: (group.members[0]?.values ?? []).map((_, i) => {
      const present = group.members.map(member => member.values[i]).filter(value => value !== undefined)
      return present.length === 0 ? undefined : fold(op, present)
    }),
  }))
}

function fold(op: Aggregation, values: readonly number[]): number {
  switch (op) {
    case 'count':
      return values.length
    case 'sum':
      return values.reduce((sum, value) => sum + value, 0)
    case 'avg':
      return values.reduce((sum, value) => sum + value, 0) / values.length
    case 'min':
      return values.reduce((least, value) => Math.min(least, value))
    case 'max':
      return values.reduce((most, value) => Math.max(most, value))
    default:
      return op satisfies never
  }
}
