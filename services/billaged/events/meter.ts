import { e9, parseDecimal } from '../decimal.ts'

/** What makes usage out of events of one type. The built-in ones are those of the platform's own services. */
export interface Meter {
  slug: string
  name: string
  eventType: string
  aggregation: Aggregation
  /** Paths into `data` whose values are added; one that is missing counts 0 when there are several. COUNT has none. */
  valuePaths: readonly string[][]
  /** Group name → path into `data`. */
  groupBy: Readonly<Record<string, string[]>>
  /** Of one whole unit of quantity. */
  unit: string
  /** WEIGHTED_SUM: whether an event sets the level or changes it. */
  valueMode?: 'set' | 'delta'
  /** Unix nanoseconds; events before it do not count. */
  eventFromNs?: bigint | null
}

export const aggregations = ['SUM', 'COUNT', 'UNIQUE_COUNT', 'MIN', 'MAX', 'LATEST', 'AVG', 'WEIGHTED_SUM'] as const
export type Aggregation = (typeof aggregations)[number]

const sum = (slug: string, name: string, eventType: string, unit: string, ...fields: string[]): Meter => ({
  slug,
  name,
  eventType,
  aggregation: 'SUM',
  valuePaths: fields.map(field => [field]),
  groupBy: {},
  unit,
})
const count = (slug: string, name: string, eventType: string, unit: string): Meter => ({
  ...sum(slug, name, eventType, unit),
  aggregation: 'COUNT',
})
const grouped = (meter: Meter, ...names: string[]): Meter => ({
  ...meter,
  groupBy: Object.fromEntries(names.map(name => [name, [name]])),
})

const aiCall = 'purser.ai.call.v1'

export const builtInMeters: readonly Meter[] = [
  grouped(sum('build_ms', 'Build time', 'builderd.build_time', 'ms', 'running_ms'), 'result', 'tier'),
  grouped(count('build_count', 'Builds', 'builderd.build_time', 'builds'), 'result', 'tier'),
  sum('build_pull_bytes', 'Bytes pulled by builds', 'builderd.bytes_pulled', 'bytes', 'bytes'),
  sum('artifact_byte_seconds', 'Artifact storage', 'builderd.artifact_storage', 'byte-s', 'byte_seconds'),
  sum('log_bytes', 'Log bytes', 'purser.logs.ingested.v1', 'bytes', 'bytes'),
  sum('log_entries', 'Log entries', 'purser.logs.ingested.v1', 'entries', 'rows'),
  grouped(sum('ai_cost', 'AI cost', aiCall, 'nano', 'costNanoUsd'), 'provider', 'model'),
  // The token classes of a call are disjoint; reasoning tokens are part of the output and not added again.
  grouped(
    sum(
      'ai_tokens',
      'AI tokens',
      aiCall,
      'tokens',
      'inputTokens',
      'cachedInputTokens',
      'cacheWriteTokens',
      'outputTokens',
    ),
    'provider',
    'model',
  ),
  grouped(count('ai_requests', 'AI requests', aiCall, 'requests'), 'provider', 'model'),
]

/** The event's value for a meter in billionths, or a sentence that says why it has none. */
export function meterValue(meter: Meter, data: unknown): bigint | string {
  if (meter.aggregation === 'COUNT') return e9
  if (meter.aggregation === 'UNIQUE_COUNT') {
    const [path = []] = meter.valuePaths
    const value = valueAt(data, path)
    if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return e9
    return `meter ${meter.slug}: data.${path.join('.')} is missing or no text, number or boolean`
  }
  let total = 0n
  let found = 0
  for (const path of meter.valuePaths) {
    const value = valueAt(data, path)
    if (value === undefined || value === null) continue
    const parsed = typeof value === 'number' || typeof value === 'string' ? parseDecimal(String(value)) : null
    const name = `data.${path.join('.')}`
    if (parsed === null)
      return `meter ${meter.slug}: ${name} is not a number with up to 9 fractional digits below 10^27`
    total += parsed
    found++
  }
  if (found === 0)
    return `meter ${meter.slug}: ${meter.valuePaths.map(path => `data.${path.join('.')}`).join(', ')} missing`
  return total
}

/** Why an event of this type and data cannot be metered; null when every meter of its type can. */
export function validationError(meters: readonly Meter[], type: string, data: unknown): string | null {
  const ofType = meters.filter(meter => meter.eventType === type)
  if (ofType.length === 0) return `no meter takes events of type ${type}`
  const problems = ofType.map(meter => meterValue(meter, data)).filter(value => typeof value === 'string')
  return problems.length === 0 ? null : problems.join('; ')
}

function valueAt(data: unknown, path: readonly string[]): unknown {
  let value = data
  for (const key of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined
    value = Reflect.get(value, key)
  }
  return value
}
