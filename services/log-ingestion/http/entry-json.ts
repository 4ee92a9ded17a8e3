// Entries as JSON text. Metadata goes out as the database wrote it: parsing it would cost digits.

import { formatMicros, formatNanos } from '../rfc3339.ts'
import type { StoredEntry } from '../store/store.ts'

export const entryFields = ['id', 'timestamp', 'service', 'level', 'message', 'metadata', 'created_at'] as const
export type EntryField = (typeof entryFields)[number]

export function entryJson(entry: StoredEntry, fields: readonly EntryField[] = entryFields): string {
  return `{${fields.map(field => `"${field}":${memberJson(entry, field)}`).join(',')}}`
}

/** RFC 4180: CRLF ends a line; a value with a quote, comma, CR or LF stands in quotes, its quotes doubled. */
export function csvHead(fields: readonly EntryField[]): string {
  return `${fields.join(',')}\r\n`
}

export function csvRow(entry: StoredEntry, fields: readonly EntryField[]): string {
  return `${fields.map(field => csvValue(entry, field)).join(',')}\r\n`
}

function csvValue(entry: StoredEntry, field: EntryField): string {
  const text = textOf(entry, field)
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}

function textOf(entry: StoredEntry, field: EntryField): string {
  switch (field) {
    case 'id':
      return String(entry.id)
    case 'timestamp':
      return formatNanos(entry.timestampNs)
    case 'created_at':
      return formatMicros(entry.createdUs)
    case 'metadata':
      return entry.metadata ?? ''
    case 'service':
    case 'level':
    case 'message':
      return entry[field]
    default:
      return field satisfies never
  }
}

/** The guide's own shape: the id is a JSON number, `metadata` is left out when there is none. */
export function guideEntryJson(entry: StoredEntry): string {
  const { id, service, level, message, metadata } = entry
  const fixed = JSON.stringify({ timestamp: formatNanos(entry.timestampNs), service, level, message })
  return `{"id":${id},${fixed.slice(1, -1)}${metadata === null ? '' : `,"metadata":${metadata}`}}`
}

function memberJson(entry: StoredEntry, field: EntryField): string {
  switch (field) {
    case 'id':
      return `"${entry.id}"`
    case 'timestamp':
      return `"${formatNanos(entry.timestampNs)}"`
    case 'created_at':
      return `"${formatMicros(entry.createdUs)}"`
    case 'metadata':
      return entry.metadata ?? 'null'
    case 'service':
    case 'level':
    case 'message':
      return JSON.stringify(entry[field])
    default:
      return field satisfies never
  }
}
