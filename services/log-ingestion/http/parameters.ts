// Parameters of the query routes, from the query string or a JSON body, read once into what the store takes.

import { createHash } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import { formatDuration } from '#platform/time'
import { badParameter, badQuery, notFound } from '../errors.ts'
import { parseQuery, QueryError } from '../query/parse.ts'
import type { Query } from '../query/query.ts'
import type { Place } from '../store/store.ts'
import { bucketsMax, defaultInterval, parseInterval, parseTime, smallestInterval, TimeError } from '../time-range.ts'
import { type EntryField, entryFields } from './entry-json.ts'

const defaultRangeNs = 3_600_000_000_000n
const limitDefault = 100
const limitMax = 1_000
const timeoutDefaultMs = 10_000
const timeoutMaxMs = 60_000

export type Parameters = Readonly<Record<string, string>>

/** GET parameters, or the members of a POSTed object; numbers are as good as their digits. */
export function parametersOf(request: FastifyRequest): Parameters {
  const found: Record<string, string> = {}
  const body = request.method === 'POST' && typeof request.body === 'object' ? request.body : null
  for (const [name, value] of Object.entries({ ...(request.query as object), ...body })) {
    if (value === null || value === undefined) continue
    if (Array.isArray(value) && value.every(item => typeof item === 'string')) found[name] = value.join(',')
    else if (typeof value === 'string' || typeof value === 'number') found[name] = String(value)
    else throw badParameter(name, 'must be a text or a number')
  }
  return found
}

export function queryOf(parameters: Parameters): Query {
  try {
    return parseQuery(parameters.q ?? '')
  } catch (error) {
    if (error instanceof QueryError) throw badQuery(error)
    throw error
  }
}

export function rangeOf(parameters: Parameters, nowMs: number): { fromNs: bigint; toNs: bigint } {
  const read = (name: 'from' | 'to', standard: bigint) => {
    const text = parameters[name]
    return text === undefined || text === '' ? standard : timeParameter(name, () => parseTime(text, nowMs))
  }
  // The end is exclusive: an entry of this very millisecond is still found.
  const toNs = read('to', (BigInt(nowMs) + 1n) * 1_000_000n)
  const fromNs = read('from', toNs - defaultRangeNs)
  if (fromNs >= toNs) throw badParameter('from', 'must be before `to`')
  return { fromNs, toNs }
}

export function timeParameter<T>(name: string, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (error instanceof TimeError) throw badParameter(name, error.message)
    throw error
  }
}

export interface SearchParameters {
  query: Query
  fromNs: bigint
  toNs: bigint
  order: 'asc' | 'desc'
  limit: number
  timeoutMs: number
  fields: readonly EntryField[]
  after: Place | undefined
  /** What a cursor of this search must carry. */
  binding: string
}

export function searchParameters(parameters: Parameters, tenant: string, nowMs: number): SearchParameters {
  const order = oneOf(parameters, 'order', ['desc', 'asc'])
  const binding = createHash('sha256')
    .update(JSON.stringify([tenant, parameters.q ?? '', order]))
    .digest('base64url')
    .slice(0, 16)
  const cursor = parameters.cursor ? readCursor(parameters.cursor, binding) : undefined
  // A cursor carries the range that the first page resolved: `-15m` must not move while someone pages.
  const range = cursor ?? rangeOf(parameters, nowMs)
  return {
    query: queryOf(parameters),
    fromNs: range.fromNs,
    toNs: range.toNs,
    order,
    limit: whole(parameters, 'limit', limitDefault, limitMax),
    timeoutMs: timeoutOf(parameters),
    fields: fieldsOf(parameters),
    after: cursor?.after,
    binding,
  }
}

export function writeCursor(search: SearchParameters, at: Place): string {
  const { binding, fromNs, toNs } = search
  return Buffer.from([binding, fromNs, toNs, at.timestampNs, at.id].join('|')).toString('base64url')
}

function readCursor(text: string, binding: string): { fromNs: bigint; toNs: bigint; after: Place } {
  const match = /^([\w-]{16})\|(-?\d{1,22})\|(-?\d{1,22})\|(-?\d{1,22})\|(-?\d{1,19})$/.exec(
    Buffer.from(text, 'base64url').toString('latin1'),
  )
  if (match?.[1] !== binding) throw notFound('This cursor does not belong to this search; begin without one.')
  const [fromNs = 0n, toNs = 0n, timestampNs = 0n, id = 0n] = match.slice(2).map(BigInt)
  return { fromNs, toNs, after: { timestampNs, id } }
}

export interface HistogramParameters {
  query: Query
  fromNs: bigint
  toNs: bigint
  intervalMs: number
  by: 'level' | 'service' | null
  timeoutMs: number
}

export function histogramParameters(parameters: Parameters, nowMs: number): HistogramParameters {
  const { fromNs, toNs } = rangeOf(parameters, nowMs)
  const { interval } = parameters
  const intervalMs =
    interval === undefined || interval === ''
      ? defaultInterval(toNs - fromNs)
      : timeParameter('interval', () => parseInterval(interval))
  const intervalNs = BigInt(intervalMs) * 1_000_000n
  if (bucketCount(fromNs, toNs, intervalNs) > bucketsMax)
    throw badParameter(
      'interval',
      `${formatDuration(intervalMs)} cuts this range into more than ${bucketsMax} buckets; the smallest that fits is ${formatDuration(smallestInterval(toNs - fromNs))}`,
    )
  const by = parameters.by === undefined || parameters.by === '' ? null : oneOf(parameters, 'by', ['level', 'service'])
  return { query: queryOf(parameters), fromNs, toNs, intervalMs, by, timeoutMs: timeoutOf(parameters) }
}

/** Buckets begin at UTC multiples of the interval. */
export function bucketOrigin(fromNs: bigint, intervalNs: bigint): bigint {
  const rest = fromNs % intervalNs
  return fromNs - (rest < 0n ? rest + intervalNs : rest)
}

export function bucketCount(fromNs: bigint, toNs: bigint, intervalNs: bigint): number {
  return Number((toNs - 1n - bucketOrigin(fromNs, intervalNs)) / intervalNs) + 1
}

export function timeoutOf(parameters: Parameters): number {
  const { timeout } = parameters
  if (timeout === undefined || timeout === '') return timeoutDefaultMs
  const ms = timeParameter('timeout', () => parseInterval(timeout))
  if (ms > timeoutMaxMs) throw badParameter('timeout', `${timeout} is longer than the longest taken, 1m`)
  return ms
}

export function fieldsOf(parameters: Parameters): readonly EntryField[] {
  if (!parameters.fields) return entryFields
  const names = parameters.fields.split(',').map(name => name.trim())
  const unknown = names.find(name => !entryFields.some(field => field === name))
  if (unknown !== undefined)
    throw badParameter('fields', `${JSON.stringify(unknown)} is not one of ${entryFields.join(', ')}`)
  return entryFields.filter(field => names.includes(field))
}

export function whole(parameters: Parameters, name: string, standard: number, max: number): number {
  const text = parameters[name]
  if (text === undefined || text === '') return standard
  const n = /^\d{1,9}$/.test(text) ? Number(text) : 0
  if (n < 1 || n > max) throw badParameter(name, `${JSON.stringify(text)} is not a whole number from 1 to ${max}`)
  return n
}

export function oneOf<const T extends string>(parameters: Parameters, name: string, values: readonly [T, ...T[]]): T {
  const text = parameters[name]
  if (text === undefined || text === '') return values[0]
  const found = values.find(value => value === text)
  if (found === undefined) throw badParameter(name, `${JSON.stringify(text)} is not one of ${values.join(', ')}`)
  return found
}
