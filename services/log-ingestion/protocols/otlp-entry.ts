// A log record of OpenTelemetry as both its encodings give it, on its way to becoming an entry.

import type { EntryWriter } from '../entry-writer.ts'
import { metadataDepthMax, refusals } from '../intake-rules.ts'
import type { Redaction } from '../json/metadata.ts'
import { type Level, levelOfText } from '../level.ts'
import type { Moment } from '../rfc3339.ts'
import { setNanos } from '../unix-time.ts'

/** Deeper values are refused; also what keeps recursion short. */
export class TooDeep extends Error {
  constructor() {
    super(refusals.metadataTooDeep)
  }
}

/** An AnyValue as JSON; `text` is set when it is a string. */
export interface Value {
  json: string
  text: string | null
  /** A key, an escape or a number in it may have to be changed. */
  isSuspect: boolean
  deepest: number
}

export const nullValue: Value = { json: 'null', text: null, isSuspect: false, deepest: 0 }

export function textValue(text: string): Value {
  const json = JSON.stringify(text)
  return { json, text, isSuspect: json.includes('\\u'), deepest: 0 }
}

export function plainValue(json: string): Value {
  return { json, text: null, isSuspect: /e/i.test(json), deepest: 0 }
}

export function listValue(items: readonly Value[]): Value {
  return {
    json: `[${items.map(({ json }) => json).join(',')}]`,
    text: null,
    isSuspect: items.some(({ isSuspect }) => isSuspect),
    deepest: 1 + deepestOf(items),
  }
}

export interface Attribute {
  key: string
  value: Value
}

export function objectValue(attributes: readonly Attribute[], redaction: Redaction): Value {
  return {
    json: `{${attributes.map(memberOf).join(',')}}`,
    text: null,
    isSuspect: attributes.some(attribute => isSuspectMember(attribute, redaction)),
    deepest: 1 + deepestOf(attributes.map(({ value }) => value)),
  }
}

/** @throws TooDeep */
export function deeper(depth: number): number {
  if (depth > metadataDepthMax) throw new TooDeep()
  return depth + 1
}

function memberOf({ key, value }: Attribute): string {
  return `${JSON.stringify(key)}:${value.json}`
}

function isSuspectMember({ key, value }: Attribute, redaction: Redaction): boolean {
  return value.isSuspect || redaction.redacts(key) || JSON.stringify(key).includes('\\u')
}

function deepestOf(values: readonly Value[]): number {
  return values.reduce((deepest, value) => Math.max(deepest, value.deepest), 0)
}

/** Resource and scope, prepared once for all their records. */
export interface Surroundings {
  service: string
  attributes: Attribute[]
}

export function surroundingsOf(
  resource: readonly Attribute[],
  scope: readonly Attribute[],
  redaction: Redaction,
): Surroundings {
  const named = resource.findLast(({ key }) => key === 'service.name')?.value
  const attributes: Attribute[] = []
  if (resource.length > 0) attributes.push({ key: 'resource', value: objectValue(resource, redaction) })
  if (scope.length > 0) attributes.push({ key: 'scope', value: objectValue(scope, redaction) })
  return { service: named?.text || 'unknown_service', attributes }
}

/** The fields of a LogRecord; empty and 0 where it has none. */
export interface LogRecord {
  timeNanos: bigint
  observedNanos: bigint
  severityNumber: number
  severityText: string
  body: Value | null
  attributes: Attribute[]
  droppedAttributes: number
  flags: number
  traceId: string
  spanId: string
  eventName: string
}

export function emptyRecord(): LogRecord {
  return {
    timeNanos: 0n,
    observedNanos: 0n,
    severityNumber: 0,
    severityText: '',
    body: null,
    attributes: [],
    droppedAttributes: 0,
    flags: 0,
    traceId: '',
    spanId: '',
    eventName: '',
  }
}

const moment: Moment = { seconds: 0, nanos: 0 }

/** Adds it, or says why not. */
export function addRecord(
  writer: EntryWriter,
  record: LogRecord,
  { service, attributes }: Surroundings,
  redaction: Redaction,
): string | null {
  const own: Attribute[] = [...attributes]
  const add = (key: string, value: Value) => own.push({ key, value })
  if (record.body !== null && record.body.text === null) add('body', record.body)
  if (record.traceId !== '') add('trace_id', textValue(record.traceId))
  if (record.spanId !== '') add('span_id', textValue(record.spanId))
  if (record.eventName !== '') add('event_name', textValue(record.eventName))
  if (record.flags !== 0) add('flags', plainValue(String(record.flags)))
  if (record.droppedAttributes !== 0) add('dropped_attributes_count', plainValue(String(record.droppedAttributes)))
  const level = levelOf(record, own)
  // Our keys come last and would win; an attribute of the same name keeps its value beside them.
  const taken = new Set(own.map(({ key }) => key))
  const all = [
    ...record.attributes.map(({ key, value }) => ({ key: taken.has(key) ? `attributes.${key}` : key, value })),
    ...own,
  ]
  const unixNanos = record.timeNanos || record.observedNanos
  setNanos(unixNanos, moment)
  return writer.add({
    message: record.body === null ? '' : (record.body.text ?? record.body.json),
    service,
    level,
    time: unixNanos === 0n ? null : moment,
    members: all.map(memberOf),
    isSuspect: all.some(attribute => isSuspectMember(attribute, redaction)),
    deepest: deepestOf(all.map(({ value }) => value)),
  })
}

const bySeverity = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'] as const

/** The number counts; a text that says something else is kept. */
function levelOf({ severityNumber, severityText }: LogRecord, own: Attribute[]): Level {
  const byNumber = severityNumber >= 1 ? bySeverity[Math.floor((severityNumber - 1) / 4)] : undefined
  const byText = severityText === '' ? undefined : levelOfText(severityText)
  if (severityText !== '' && (byText === undefined || (byNumber !== undefined && byText !== byNumber)))
    own.push({ key: 'severity_text', value: textValue(severityText) })
  return byNumber ?? byText ?? 'INFO'
}
