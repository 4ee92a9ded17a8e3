// GET|POST /api/v1/logs/fields, /api/v1/logs/fields/:name/values: what there is to ask for, for completion and for people.

import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { FieldsAnswer, FieldValuesAnswer } from '../api.ts'
import { badParameter } from '../errors.ts'
import { valuesOf } from '../query/evaluate.ts'
import { authorize } from './caller.ts'
import { type QueryContext, withReads } from './context.ts'
import { type FoldPlan, foldMatches } from './fold.ts'
import { type Parameters, parametersOf, queryOf, rangeOf, timeoutOf, whole } from './parameters.ts'

/** The newest matches tell which fields there are; more would tell little more. */
const matchesForFieldsMax = 100_000
const namesMax = 1_000
const depthMax = 5
/** Distinct values counted at once, and their characters: what one answer may hold in memory. */
const valuesMax = 10_000
const valueCharactersMax = 1024 * 1024
const rowsScannedMax = 50_000_000

export function addFields(app: FastifyInstance, context: QueryContext): void {
  const { clock, metrics } = context

  const fields = async (request: FastifyRequest): Promise<FieldsAnswer> => {
    const { caller, tenant } = authorize(context.access, request, 'logs:read')
    const wanted = foldParameters(parametersOf(request), clock.now())
    const startedMs = clock.monotonicMs()
    const found = new Map<string, { count: number; types: Set<string> }>()
    let isCut = false
    const plan = { ...wanted, key: caller.key, tenant, order: 'desc', matchesMax: matchesForFieldsMax } as const
    const { matches, scannedRows, isComplete } = await foldMatches(context, plan, entry => {
      for (const [name, type] of namesIn(entry.metadata)) {
        const known = found.get(name)
        if (known) {
          known.count++
          known.types.add(type)
        } else if (found.size < namesMax) found.set(name, { count: 1, types: new Set([type]) })
        else isCut = true
      }
      return true
    })
    metrics.queried('fields', (clock.monotonicMs() - startedMs) / 1_000, scannedRows)
    const own = ['service', 'level', 'message'].map(
      name => [name, { count: matches, types: new Set(['string']) }] as const,
    )
    return {
      fields: [...own, ...[...found].toSorted(([, a], [, b]) => b.count - a.count)].map(([name, { count, types }]) => ({
        name,
        types: [...types].sort(),
        count: String(count),
        share: matches === 0 ? 0 : Math.round((count / matches) * 10_000) / 10_000,
      })),
      complete: isComplete && !isCut,
    }
  }
  app.get('/api/v1/logs/fields', fields)
  app.post('/api/v1/logs/fields', fields)

  const values = async (request: FastifyRequest): Promise<FieldValuesAnswer> => {
    const { caller, tenant } = authorize(context.access, request, 'logs:read')
    const parameters = parametersOf(request)
    const { name } = request.params as { name: string }
    const wanted = foldParameters(parameters, clock.now())
    const limit = whole(parameters, 'limit', 100, 1_000)
    const prefix = parameters.prefix ?? ''
    if (name === 'message' || name === 'id' || name === 'timestamp')
      throw badParameter('name', `${name} differs from entry to entry; search for it instead`)
    const startedMs = clock.monotonicMs()
    const counted =
      name === 'service' || name === 'level'
        ? await countOwn(name)
        : await countMetadata(context, { ...wanted, key: caller.key, tenant, order: 'desc' }, name, prefix)
    metrics.queried('values', (clock.monotonicMs() - startedMs) / 1_000, counted.scannedRows)
    const matching = [...counted.counts].filter(([value]) => value.startsWith(prefix))
    const ordered = matching.sort(([a, m], [b, n]) => (m === n ? (a < b ? -1 : 1) : m > n ? -1 : 1))
    return {
      values: ordered.slice(0, limit).map(([value, count]) => ({ value, count: String(count) })),
      complete: counted.isComplete && ordered.length <= limit,
    }

    /** The store counts these without looking at each entry. */
    async function countOwn(by: 'service' | 'level') {
      const { fromNs, toNs, query, timeoutMs } = wanted
      const plan = {
        tenant,
        query,
        fromNs,
        toNs,
        originNs: fromNs,
        intervalNs: toNs - fromNs,
        by,
        timeoutMs,
        rowsScannedMax,
      }
      const { counts, scannedRows, isPartial } = await context.gate.run(caller.key, () =>
        withReads(context, store => store.count(plan, () => clock.monotonicMs())),
      )
      const sums = new Map<string, bigint>()
      for (const bucket of counts.values())
        for (const [value, count] of bucket) sums.set(value, (sums.get(value) ?? 0n) + count)
      return { counts: sums, scannedRows, isComplete: !isPartial }
    }
  }
  app.get('/api/v1/logs/fields/:name/values', values)
  app.post('/api/v1/logs/fields/:name/values', values)
}

async function countMetadata(
  context: QueryContext,
  plan: FoldPlan,
  name: string,
  prefix: string,
): Promise<{ counts: Map<string, bigint>; scannedRows: number; isComplete: boolean }> {
  const counts = new Map<string, bigint>()
  let characters = 0
  let isCut = false
  const { scannedRows, isComplete } = await foldMatches(context, plan, entry => {
    for (const { text } of valuesOf(entry.metadata, name)) {
      if (!text.startsWith(prefix)) continue
      const count = counts.get(text)
      if (count !== undefined) counts.set(text, count + 1n)
      else if (counts.size < valuesMax && characters + text.length <= valueCharactersMax) {
        counts.set(text, 1n)
        characters += text.length
      } else isCut = true
    }
    return true
  })
  return { counts, scannedRows, isComplete: isComplete && !isCut }
}

export function foldParameters(parameters: Parameters, nowMs: number) {
  return { query: queryOf(parameters), ...rangeOf(parameters, nowMs), timeoutMs: timeoutOf(parameters) }
}

/** Names as a query would write them, dotted paths into objects included, each with its JSON type. */
function namesIn(metadata: string | null): Map<string, string> {
  const names = new Map<string, string>()
  const walk = (value: unknown, path: string, depth: number) => {
    if (names.size >= namesMax) return
    if (typeof value !== 'object' || value === null || Array.isArray(value) || depth >= depthMax) {
      names.set(path, typeOf(value))
      return
    }
    for (const [key, inner] of Object.entries(value)) walk(inner, path === '' ? key : `${path}.${key}`, depth + 1)
  }
  if (metadata !== null) walk(JSON.parse(metadata), '', 0)
  return names
}

function typeOf(value: unknown): string {
  return value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value
}
