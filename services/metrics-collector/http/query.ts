// The read API, in Prometheus's JSON, so that its clients and Grafana can be pointed here.

import type { MetadataResponse, Metric, QuerySuccess } from '../api.ts'
import { QueryError } from '../errors.ts'
import { parsePromDuration, parseQuery, parseSelector, type Selector } from '../query/parse.ts'
import { matchesSeries, metricOf, type Queries } from '../query/run.ts'
import type { StoredSeries } from '../store/series.ts'
import { type Exchange, sendJson } from './reply.ts'

export interface QueryContext {
  queries: Queries
  series(): Iterable<StoredSeries>
  nowMs(): number
  describe(family: string): { source: string; help: string }
  version: string
}

export async function getQuery({ res, params }: Exchange, context: QueryContext): Promise<void> {
  const expression = parseQuery(required(params, 'query'))
  const timeMs = readTime(params, 'time') ?? context.nowMs()
  sendJson(res, 200, success(await context.queries.instant(expression, timeMs)))
}

export async function getQueryRange({ res, params }: Exchange, context: QueryContext): Promise<void> {
  const expression = parseQuery(required(params, 'query'))
  const startMs = readTime(params, 'start') ?? missing('start')
  const endMs = readTime(params, 'end') ?? missing('end')
  const stepMs = readStep(required(params, 'step'))
  sendJson(res, 200, success(await context.queries.range(expression, startMs, endMs, stepMs)))
}

export function getSeries({ res, params }: Exchange, context: QueryContext): void {
  const selectors = params.getAll('match[]').map(parseSelector)
  if (selectors.length === 0) throw new QueryError('bad_data', 'match[] is missing; send at least one selector')
  sendJson(res, 200, success(chosen(context, params, selectors).map(metricOfStored)))
}

export function getLabels({ res, params }: Exchange, context: QueryContext): void {
  const names = new Set<string>()
  for (const series of chosen(context, params, params.getAll('match[]').map(parseSelector)))
    for (const name of Object.keys(metricOfStored(series))) names.add(name)
  sendJson(res, 200, success([...names].sort()))
}

export function getLabelValues({ res, params }: Exchange, context: QueryContext, label: string): void {
  const values = new Set<string>()
  for (const series of chosen(context, params, params.getAll('match[]').map(parseSelector))) {
    const value = metricOfStored(series)[label]
    if (value !== undefined) values.add(value)
  }
  sendJson(res, 200, success([...values].sort()))
}

export function getMetadata({ res }: Exchange, context: QueryContext): void {
  const types = { c: 'counter', g: 'gauge', u: 'unknown' } as const
  const names = new Map([...context.series()].map(({ name, kind }) => [name, types[kind]]))
  const data = Object.fromEntries(
    [...names].sort().map(([name, type]) => [name, [{ type, help: context.describe(name).help, unit: '' }]]),
  )
  sendJson(res, 200, { status: 'success', data } satisfies MetadataResponse)
}

/** Clients look here for what they may ask; the version is that of the language, the application says who answers. */
export function getBuildInfo({ res }: Exchange, context: QueryContext): void {
  sendJson(res, 200, success({ application: 'metrics-collector', version: context.version }))
}

function success<T>(data: T): QuerySuccess<T> {
  return { status: 'success', data }
}

function chosen(context: QueryContext, params: URLSearchParams, selectors: readonly Selector[]): StoredSeries[] {
  const startMs = readTime(params, 'start') ?? Number.NEGATIVE_INFINITY
  return [...context.series()].filter(
    series =>
      series.lastStampMs >= startMs &&
      (selectors.length === 0 || selectors.some(selector => matchesSeries(selector.matchers, series))),
  )
}

function metricOfStored({ name, labels }: StoredSeries): Metric {
  return metricOf(name, labels)
}

function required(params: URLSearchParams, name: string): string {
  return params.get(name) || missing(name)
}

function missing(name: string): never {
  throw new QueryError('bad_data', `${name} is missing`)
}

/** Unix seconds with fraction, or RFC 3339. */
function readTime(params: URLSearchParams, name: string): number | undefined {
  const text = params.get(name)
  if (text === null || text === '') return undefined
  const ms = /^-?\d+(\.\d+)?(e\d+)?$/.test(text) ? Math.round(Number(text) * 1_000) : Date.parse(text)
  if (!Number.isFinite(ms) || Math.abs(ms) > 8.64e15)
    throw new QueryError('bad_data', `${name}=${text.slice(0, 40)} is neither Unix seconds nor an RFC 3339 time`)
  return ms
}

function readStep(text: string): number {
  const ms = /^\d+(\.\d+)?$/.test(text) ? Math.round(Number(text) * 1_000) : parsePromDuration(text)
  if (!(ms >= 1 && ms <= 3_153_600_000_000)) throw new QueryError('bad_data', `step=${text} is not a positive duration`)
  return ms
}
