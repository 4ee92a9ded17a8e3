// Prometheus's text format, for people and for scrapers.

import type { Labels, MetricKind } from './sample.ts'

export interface ExposedSample {
  name: string
  labels: Labels
  kind: MetricKind
  value: number
}

export type ExpositionFormat = 'text' | 'openmetrics'

export const contentTypes: Readonly<Record<ExpositionFormat, string>> = {
  text: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
}

/** What a client's Accept header asks for; undefined when it names neither format. */
export function acceptedFormat(accept: string | undefined): ExpositionFormat | undefined {
  const ranges = (accept ?? '').toLowerCase().split(',')
  if (ranges.some(range => range.includes('application/openmetrics-text'))) return 'openmetrics'
  if (ranges.some(range => range.includes('text/plain') && /version\s*=\s*"?0\.0\.4/.test(range))) return 'text'
  return undefined
}

/** Families in order of name, each with its help and type. */
export function exposition(
  samples: readonly ExposedSample[],
  helpOf: (family: string) => string,
  format: ExpositionFormat,
): string {
  const families = new Map<string, ExposedSample[]>()
  const histograms = new Set(
    samples.filter(sample => sample.name.endsWith('_bucket') && 'le' in sample.labels).map(s => s.name.slice(0, -7)),
  )
  for (const sample of samples) {
    const base = sample.name.replace(/_(bucket|sum|count)$/, '')
    const family = histograms.has(base) ? base : sample.name
    const members = families.get(family)
    if (members) members.push(sample)
    else families.set(family, [sample])
  }
  const lines: string[] = []
  for (const [family, members] of [...families].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const type = histograms.has(family) ? 'histogram' : typeOf(family, members[0]?.kind, format)
    // OpenMetrics names a counter's family without the suffix its samples carry.
    const shown = format === 'openmetrics' && type === 'counter' ? family.replace(/_total$/, '') : family
    lines.push(`# HELP ${shown} ${escapeHelp(helpOf(family))}`, `# TYPE ${shown} ${type}`)
    for (const { name, labels, value } of members) lines.push(`${name}${labelText(labels)} ${valueText(value)}`)
  }
  if (format === 'openmetrics') lines.push('# EOF')
  return `${lines.join('\n')}\n`
}

/** node_exporter gives counters without the `_total` suffix no type, and checkers of the format want it so. */
function typeOf(family: string, kind: MetricKind | undefined, format: ExpositionFormat): string {
  const untyped = format === 'openmetrics' ? 'unknown' : 'untyped'
  if (kind === 'c') return family.endsWith('_total') ? 'counter' : untyped
  return kind === 'g' && !family.endsWith('_total') ? 'gauge' : untyped
}

export function labelText(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeValue(value)}"`)
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}

/** As Prometheus writes numbers; also the form of values in the query API. */
export function valueText(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return '+Inf'
  if (value === Number.NEGATIVE_INFINITY) return '-Inf'
  return String(value)
}

function escapeValue(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
}

function escapeHelp(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')
}
