// What a source reads and what the store keeps: a named, labelled number.
//
// Everything that leaves this machine goes through `toSeries` once per new series, so names and labels are valid
// Prometheus from there on and nobody checks them again.

import { createHash } from 'node:crypto'

/** counter · gauge · untyped */
export type MetricKind = 'c' | 'g' | 'u'

export type Labels = Readonly<Record<string, string>>

/** One number as a source found it, before device_id and external labels. */
export interface Reading {
  name: string
  labels: Labels
  kind: MetricKind
  value: number
}

/** What a sample belongs to. Labels are complete and sorted by name; `name` is not among them. */
export interface Series {
  name: string
  labels: Labels
  kind: MetricKind
}

const noLabels: Labels = Object.freeze({})

export function gauge(name: string, value: number, labels: Labels = noLabels): Reading {
  return { name, labels, kind: 'g', value }
}

export function counter(name: string, value: number, labels: Labels = noLabels): Reading {
  return { name, labels, kind: 'c', value }
}

/** VictoriaMetrics silently cuts series to this many labels, so we cut first, always the same ones. */
const labelsMax = 30

/** Longer values are cut silently by receivers; two long values would then become one series. */
const labelValueBytesMax = 1_024

/** Makes a reading's name and labels valid for every receiver and adds the labels that all series of this host carry. */
export function toSeries(reading: Reading, hostLabels: Labels): Series {
  const labels: Record<string, string> = {}
  for (const [name, value] of Object.entries(hostLabels)) labels[labelName(name)] = labelValue(value)
  for (const [name, value] of Object.entries(reading.labels)) {
    const clean = labelName(name)
    // The host's identity is not for a source to change; every other clash is won by the more specific label.
    if (clean !== 'device_id') labels[clean] = labelValue(value)
  }
  const names = Object.keys(labels)
    .filter(name => labels[name] !== '') // an empty label is the same as no label
    .sort()
  const kept =
    names.length <= labelsMax
      ? names
      : ['device_id', ...names.filter(name => name !== 'device_id').slice(0, labelsMax - 1)].sort()
  const sorted: Record<string, string> = {}
  for (const name of kept) sorted[name] = labels[name] ?? ''
  return { name: metricName(reading.name), labels: sorted, kind: reading.kind }
}

/** The value to store, or undefined when receivers would refuse it or silently drop it. */
export function toValue(value: number): number | undefined {
  if (!Number.isFinite(value)) return undefined
  return value === 0 ? 0 : value // −0 is 0: some receivers tell them apart when they deduplicate
}

/** Identity of a series in memory and, as JSON, in the `series` table. */
export function seriesKey(series: Series): string {
  return series.name + JSON.stringify(series.labels)
}

export function metricName(name: string): string {
  const clean = name.replace(/[^a-zA-Z0-9_:]/g, '_')
  return /^[a-zA-Z_:]/.test(clean) ? clean : `_${clean}`
}

function labelName(name: string): string {
  const clean = name.replace(/[^a-zA-Z0-9_]/g, '_')
  return /^[a-zA-Z_]/.test(clean) ? clean : `_${clean}`
}

function labelValue(value: string): string {
  const text = value.toWellFormed().replaceAll('\0', '\uFFFD')
  if (text.length * 3 <= labelValueBytesMax || Buffer.byteLength(text) <= labelValueBytesMax) return text
  const suffix = createHash('sha256').update(text).digest('hex').slice(0, 8)
  let bytes = suffix.length
  let kept = ''
  for (const point of text) {
    bytes += Buffer.byteLength(point)
    if (bytes > labelValueBytesMax) break
    kept += point
  }
  return kept + suffix
}
