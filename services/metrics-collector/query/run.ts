// Queries against the store, inside limits: what is selected is read page by page, and others run in between.

import { setImmediate as letOthersRun } from 'node:timers/promises'
import type { MatrixResult, Metric, Point, ScalarResult, VectorResult } from '../api.ts'
import { QueryError } from '../errors.ts'
import { valueText } from '../exposition.ts'
import { pickValues } from '../frame.ts'
import type { StoredSeries } from '../store/series.ts'
import type { Store } from '../store/store.ts'
import { aggregate, evaluateSeries, type ResultSeries, type SampleSeries, windowOf } from './evaluate.ts'
import { type Expression, type Matcher, matches, type Selector, type VectorExpression } from './parse.ts'

const pointsMax = 11_000
const seriesMax = 2_000
const samplesMax = 5_000_000
const queryMsMax = 10_000
const atOnceMax = 2
const waitingMax = 16

/** Longest a query keeps the event loop before it lets others run. */
const sliceMs = 15

export interface QueryOptions {
  store: Pick<Store, 'frames' | 'series'>
  lookbackMs: number
  onDamaged(seq: number): void
}

export function openQueries(o: QueryOptions) {
  let running = 0
  const waiting: (() => void)[] = []

  /** At most two at a time: a third would only make all three slower and hold more memory. */
  async function inTurn<T>(work: (slice: Slice) => Promise<T>): Promise<T> {
    if (running >= atOnceMax) {
      if (waiting.length >= waitingMax)
        throw new QueryError('timeout', `${waitingMax} queries are waiting already; try again in a moment`)
      await new Promise<void>(resolve => waiting.push(resolve))
    }
    running++
    try {
      return await work(newSlice())
    } finally {
      running--
      waiting.shift()?.()
    }
  }

  async function vectorAt(expression: VectorExpression, timesMs: readonly number[], slice: Slice) {
    const window = windowOf(expression, o.lookbackMs)
    const selected = select(selectorOf(expression))
    const from = (timesMs[0] ?? 0) - window.offsetMs - window.windowMs
    const to = (timesMs.at(-1) ?? 0) - window.offsetMs
    const stepMs = timesMs.length > 1 ? (timesMs[1] ?? 0) - (timesMs[0] ?? 0) : 0
    // Where only the newest sample before each point counts, the others need not be kept.
    const keepOnly = window.fn === 'newest' ? { firstMs: (timesMs[0] ?? 0) - window.offsetMs, stepMs } : undefined
    const vector: ResultSeries[] = []
    for (const series of await load(selected, from, to, keepOnly, slice)) {
      const result = evaluateSeries(series, window, timesMs)
      if (result.values.some(value => value !== undefined)) vector.push(result)
      await slice.rest()
    }
    refuseTwins(vector)
    return aggregate(expression, vector)
  }

  function select({ matchers }: Selector): StoredSeries[] {
    const selected: StoredSeries[] = []
    for (const series of o.store.series.byId.values()) if (matchesSeries(matchers, series)) selected.push(series)
    if (selected.length > seriesMax)
      throw new QueryError('execution', `the query selects ${selected.length} series, at most ${seriesMax} are read`)
    return selected
  }

  async function load(
    selected: readonly StoredSeries[],
    afterMs: number,
    toMs: number,
    keepOnly: { firstMs: number; stepMs: number } | undefined,
    slice: Slice,
  ): Promise<SampleSeries[]> {
    if (selected.length === 0) return []
    const found = new Map(selected.map(series => [series.id, newTrack(series)]))
    const slots = new Map<number, { ordinals: number[]; tracks: Track[] }>()
    let kept = 0
    for (const page of o.store.frames.readFrames(afterMs + 1, toMs, o.onDamaged)) {
      for (const frame of page) {
        const { ordinals, tracks } = slots.get(frame.shape) ?? wantedOf(frame.shape, found)
        slots.set(frame.shape, { ordinals, tracks })
        pickValues(frame.body, ordinals, (slot, value) => {
          const track = tracks[slot]
          if (track && !Number.isNaN(value)) kept += put(track, frame.stampMs, value, keepOnly)
        })
      }
      if (kept > samplesMax)
        throw new QueryError(
          'execution',
          `the query reads over ${samplesMax} samples; ask for fewer series or less time`,
        )
      await slice.rest()
    }
    return [...found.values()].filter(track => track.timesMs.length > 0).map(sorted)
  }

  function wantedOf(shape: number, found: ReadonlyMap<number, Track>) {
    const ordinals: number[] = []
    const tracks: Track[] = []
    for (const [ordinal, id] of (o.store.frames.getShape(shape) ?? []).entries()) {
      const track = found.get(id)
      if (!track) continue
      ordinals.push(ordinal)
      tracks.push(track)
    }
    return { ordinals, tracks }
  }

  return {
    instant: (expression: Expression, timeMs: number): Promise<VectorResult | MatrixResult | ScalarResult> =>
      inTurn(async slice => {
        if (expression.kind === 'number')
          return { resultType: 'scalar', result: [timeMs / 1_000, valueText(expression.value)] }
        if (expression.kind === 'selector' && expression.rangeMs !== undefined) {
          const to = timeMs - expression.offsetMs
          const tracks = await load(select(expression), to - expression.rangeMs, to, undefined, slice)
          const result = tracks.map(({ name, labels, timesMs, values }) => ({
            metric: metricOf(name, labels),
            values: timesMs.map((ms, i): Point => [ms / 1_000, valueText(values[i] ?? 0)]),
          }))
          return { resultType: 'matrix', result: byMetric(result) }
        }
        const vector = await vectorAt(expression, [timeMs], slice)
        const result = vector.flatMap(({ name, labels, values: [value] }) => {
          if (value === undefined) return []
          const point: Point = [timeMs / 1_000, valueText(value)]
          return [{ metric: metricOf(name, labels), value: point }]
        })
        return { resultType: 'vector', result: byMetric(result) }
      }),

    range: (expression: Expression, startMs: number, endMs: number, stepMs: number): Promise<MatrixResult> =>
      inTurn(async slice => {
        const timesMs = pointTimes(startMs, endMs, stepMs)
        if (expression.kind === 'selector' && expression.rangeMs !== undefined)
          throw new QueryError(
            'bad_data',
            'a range query needs one value per point; put a function such as rate around the range',
          )
        if (expression.kind === 'number') {
          const text = valueText(expression.value)
          return {
            resultType: 'matrix',
            result: [{ metric: {}, values: timesMs.map((ms): Point => [ms / 1_000, text]) }],
          }
        }
        const vector = await vectorAt(expression, timesMs, slice)
        const result = vector.map(({ name, labels, values }) => ({
          metric: metricOf(name, labels),
          values: values.flatMap((value, i): Point[] =>
            value === undefined ? [] : [[(timesMs[i] ?? 0) / 1_000, valueText(value)]],
          ),
        }))
        return { resultType: 'matrix', result: byMetric(result.filter(series => series.values.length > 0)) }
      }),
  }
}

export type Queries = ReturnType<typeof openQueries>

export function matchesSeries(
  matchers: readonly Matcher[],
  { name, labels }: Pick<StoredSeries, 'name' | 'labels'>,
): boolean {
  return matchers.every(matcher =>
    matches(matcher, matcher.label === '__name__' ? name : (labels[matcher.label] ?? '')),
  )
}

export function metricOf(name: string | undefined, labels: Metric): Metric {
  return name === undefined ? labels : { __name__: name, ...labels }
}

/** `rate({__name__=~"a|b"}[5m])` loses the only thing that told its series apart. */
function refuseTwins(vector: readonly ResultSeries[]) {
  const seen = new Set<string>()
  for (const { name, labels } of vector) {
    const key = JSON.stringify(metricOf(name, labels))
    if (seen.has(key))
      throw new QueryError('execution', `several series of the result have the labels ${key}; select one name`)
    seen.add(key)
  }
}

function pointTimes(startMs: number, endMs: number, stepMs: number): number[] {
  if (endMs < startMs) throw new QueryError('bad_data', 'end is before start')
  if (stepMs < 1) throw new QueryError('bad_data', 'step must be at least 1 ms')
  const count = Math.floor((endMs - startMs) / stepMs) + 1
  if (count > pointsMax)
    throw new QueryError(
      'bad_data',
      `the query asks for ${count} points per series, at most ${pointsMax}; use a step of at least ${Math.ceil((endMs - startMs) / (pointsMax - 1) / 1_000)}s`,
    )
  return Array.from({ length: count }, (_, k) => startMs + k * stepMs)
}

function selectorOf(expression: VectorExpression): Selector {
  if (expression.kind === 'selector') return expression
  return selectorOf(expression.argument)
}

/** A series while it is being read. */
interface Track {
  name: string
  labels: Metric
  timesMs: number[]
  values: number[]
  /** The point that the newest kept sample counts for, when only the newest one does. */
  point: number
  isSorted: boolean
}

function newTrack({ name, labels }: StoredSeries): Track {
  return { name, labels, timesMs: [], values: [], point: Number.NEGATIVE_INFINITY, isSorted: true }
}

/** How many more samples are held afterwards. */
function put(
  track: Track,
  stampMs: number,
  value: number,
  keepOnly: { firstMs: number; stepMs: number } | undefined,
): 0 | 1 {
  const last = track.timesMs.length - 1
  const lastMs = track.timesMs[last] ?? Number.NEGATIVE_INFINITY
  if (stampMs < lastMs) track.isSorted = false
  if (keepOnly) {
    const point = keepOnly.stepMs === 0 ? 0 : Math.max(0, Math.ceil((stampMs - keepOnly.firstMs) / keepOnly.stepMs))
    if (point === track.point && stampMs > lastMs) {
      track.timesMs[last] = stampMs
      track.values[last] = value
      return 0
    }
    track.point = point
  }
  track.timesMs.push(stampMs)
  track.values.push(value)
  return 1
}

/** Epochs overlap when the clock was stepped back; their samples are then put in order. */
function sorted(track: Track): SampleSeries {
  if (track.isSorted) return track
  const order = track.timesMs.map((_, i) => i).sort((a, b) => (track.timesMs[a] ?? 0) - (track.timesMs[b] ?? 0))
  return {
    ...track,
    timesMs: order.map(i => track.timesMs[i] ?? 0),
    values: order.map(i => track.values[i] ?? 0),
  }
}

function byMetric<T extends { metric: Metric }>(result: readonly T[]): T[] {
  const keyed = result.map(entry => ({ entry, key: JSON.stringify(entry.metric) }))
  return keyed.sort((a, b) => (a.key < b.key ? -1 : 1)).map(({ entry }) => entry)
}

interface Slice {
  rest(): Promise<void>
}

function newSlice(): Slice {
  const startedMs = performance.now()
  let sinceMs = startedMs
  return {
    async rest() {
      const nowMs = performance.now()
      if (nowMs - startedMs > queryMsMax)
        throw new QueryError(
          'timeout',
          `the query took longer than ${queryMsMax / 1_000} s; ask for less time or fewer series`,
        )
      if (nowMs - sinceMs < sliceMs) return
      await letOthersRun()
      sinceMs = performance.now()
    },
  }
}
