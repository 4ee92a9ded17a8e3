// A usage event as services report it, and as it travels: CloudEvents 1.0 in JSON.

import { rfc3339 } from '../time.ts'

export interface UsageEvent {
  /** Stable: the same fact reported again has the same id, whatever happened in between. */
  id: string
  /** `purser.ai.call.v1`, `builderd.build_time`, … */
  type: string
  /** Tenant slug. */
  subject: string
  time: Date
  /** Integers as decimal strings: a JSON number loses what lies beyond 2^53. */
  data: Readonly<Record<string, string | number | boolean | readonly string[]>>
}

/** Largest event as JSON. Sixteen of them still make a batch. */
export const eventBytesMax = 64 * 1024

/** @throws {RangeError} when it is too large to be sent; a service that reports such a thing has a bug */
export function encodeEvent(event: UsageEvent, source: string): string {
  const text = JSON.stringify({
    specversion: '1.0',
    id: storable(event.id),
    source,
    type: event.type,
    subject: storable(event.subject),
    time: rfc3339(event.time.getTime()),
    datacontenttype: 'application/json',
    data: Object.fromEntries(Object.entries(event.data).map(([key, value]) => [storable(key), storableValue(value)])),
  })
  const bytes = Buffer.byteLength(text)
  if (bytes > eventBytesMax) {
    throw new RangeError(`BUG: usage event ${event.type} ${event.id} has ${bytes} bytes; at most ${eventBytesMax}`)
  }
  return text
}

function storableValue(value: UsageEvent['data'][string]) {
  if (typeof value === 'string') return storable(value)
  return typeof value === 'object' ? value.map(storable) : value
}

/** Tags come from customers. A NUL or half a surrogate pair cannot be stored, and must not fail the transaction that
 *  the event rides on: it is replaced, as a decoder would have done. */
export function storable(text: string): string {
  return text.toWellFormed().replaceAll('\0', '\ufffd')
}
