// What one entry must satisfy, in the order in which failures are reported, with the sentences clients already know.

import type { Redaction } from './json/metadata.ts'
import type { Moment } from './rfc3339.ts'

export interface IntakeRules {
  messageBytesMax: number
  metadataBytesMax: number
  /** How far from the receipt an event may lie; both ends included. Milliseconds. */
  timestampPastMaxMs: number
  timestampFutureMaxMs: number
  redaction: Redaction
}

export const serviceBytesMax = 255
/** PostgreSQL's jsonb parser recurses; people do not nest this deep on purpose. */
export const metadataDepthMax = 128

export const refusals = {
  timestampMissing: 'timestamp is required',
  serviceMissing: 'service is required',
  serviceTooLong: `service name exceeds maximum length of ${serviceBytesMax}`,
  messageMissing: 'message is required',
  metadataTooDeep: `metadata nesting exceeds ${metadataDepthMax} levels`,
  timestampFuture: (maxMs: number) => `timestamp cannot be more than ${inWords(maxMs)} in the future`,
  timestampPast: (maxMs: number) => `timestamp cannot be more than ${inWords(maxMs)} in the past`,
  outlived: (sent: string, oldestMs: number) =>
    `timestamp ${sent} is older than the retention of this tenant, which keeps entries from ${new Date(oldestMs).toISOString()} on`,
  level: (sent: string) => `invalid log level: ${sent.length > 256 ? `${sent.slice(0, 256)}…` : sent}`,
  messageTooLong: (bytesMax: number) => `message exceeds maximum length of ${bytesMax}`,
  metadataTooLarge: (bytesMax: number) => `metadata exceeds maximum size of ${bytesMax}`,
} as const

export function refuseTime(moment: Moment, nowMs: number, rules: IntakeRules): string | null {
  if (compareToMs(moment, nowMs + rules.timestampFutureMaxMs) > 0)
    return refusals.timestampFuture(rules.timestampFutureMaxMs)
  if (compareToMs(moment, nowMs - rules.timestampPastMaxMs) < 0) return refusals.timestampPast(rules.timestampPastMaxMs)
  return null
}

/** Exact to the nanosecond, so the bounds are truly inclusive. */
export function compareToMs(moment: Moment, ms: number): number {
  const seconds = Math.floor(ms / 1_000)
  return moment.seconds - seconds || moment.nanos - (ms - seconds * 1_000) * 1_000_000
}

function inWords(ms: number): string {
  for (const [unit, unitMs] of [
    ['day', 86_400_000],
    ['hour', 3_600_000],
    ['minute', 60_000],
  ] as const) {
    const count = ms / unitMs
    if (Number.isInteger(count) && count > 0) return `${count} ${unit}${count === 1 ? '' : 's'}`
  }
  return `${ms / 1_000} seconds`
}

/** The name an emptied service is stored under; the original goes into metadata. */
export const unknownService = 'unknown'

/** Native service names keep letters, digits, `_` and `-` only. */
export function sanitizeService(name: string): string {
  return name.replaceAll(/[^A-Za-z0-9_-]/g, '')
}

export function isServiceByte(byte: number): boolean {
  return (
    (byte >= 0x61 && byte <= 0x7a) ||
    (byte >= 0x41 && byte <= 0x5a) ||
    (byte >= 0x30 && byte <= 0x39) ||
    byte === 0x5f ||
    byte === 0x2d
  )
}
