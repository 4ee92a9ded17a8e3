import { hash } from 'node:crypto'

export type Json = string | number | boolean | null | Json[] | { [key: string]: Json }

/** A usage event after its one validation. (source, id) is its identity; `digest` names its content. */
export interface UsageEvent {
  source: string
  id: string
  type: string
  subject: string | null
  /** As the sender said, or when we received it. Unix nanoseconds. */
  atNs: bigint
  /** The sender gave the time; a time of ours is no part of the content. */
  hasTime: boolean
  data: Json
}

export class InvalidEvent extends Error {
  override name = 'InvalidEvent'
}

export const eventLimits = { batchMax: 10_000, attributeBytesMax: 1024, dataDepthMax: 32 }

/** Validates one event in structured form. Throws InvalidEvent naming the field; `where` is its place in the batch. */
export function parseEvent(value: unknown, where: string, receivedNs: bigint): UsageEvent {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new InvalidEvent(`${where || 'event'} is not an object; a CloudEvent has specversion, id, source and type`)
  const field = (name: string) => (where === '' ? name : `${where}.${name}`)
  const attribute = (name: string): string | null => {
    const given: unknown = Object.hasOwn(value, name) ? Reflect.get(value, name) : undefined
    if (given === undefined || given === null) return null
    if (typeof given !== 'string' || given === '')
      throw new InvalidEvent(`${field(name)} is not a text of at least one character`)
    if (Buffer.byteLength(given) > eventLimits.attributeBytesMax)
      throw new InvalidEvent(
        `${field(name)} has ${Buffer.byteLength(given)} bytes; at most ${eventLimits.attributeBytesMax}`,
      )
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
    if (/[\u0000-\u001f\u007f]/.test(given) || !given.isWellFormed())
      throw new InvalidEvent(`${field(name)} holds a control character or half a surrogate pair`)
    return given
  }
  const required = (name: string) => {
    const given = attribute(name)
    if (given === null) throw new InvalidEvent(`${field(name)} is required`)
    return given
  }
  const specversion = required('specversion')
  if (specversion !== '1.0') throw new InvalidEvent(`${field('specversion')} is ${specversion}; this takes 1.0`)
  const time = attribute('time')
  const data: unknown = Reflect.get(value, 'data')
  return {
    id: required('id'),
    source: required('source'),
    type: required('type'),
    subject: attribute('subject'),
    atNs: time === null ? receivedNs : parseTime(time, field('time')),
    hasTime: time !== null,
    data: checkedJson(data, field('data'), eventLimits.dataDepthMax),
  }
}

/** SHA-256 over the content in one canonical form; equal content, however it was spelled, has one digest. */
export function digestEvent(event: UsageEvent): Buffer {
  const content = canonical({
    type: event.type,
    subject: event.subject,
    time: event.hasTime ? `${event.atNs}` : null,
    data: event.data,
  })
  return hash('sha256', content, 'buffer')
}

/** Whom the event is for: its subject, or what its data says, in the order of the specification (G29). */
export function customerOf(event: Pick<UsageEvent, 'subject' | 'data'>): string | null {
  if (event.subject !== null) return event.subject
  const { data } = event
  if (typeof data !== 'object' || data === null || Array.isArray(data)) return null
  for (const key of ['customer_id', 'tenant_id', 'tenant']) {
    const value = Object.hasOwn(data, key) ? data[key] : undefined
    if (typeof value === 'string' && value !== '' && Buffer.byteLength(value) <= 255) return value
  }
  return null
}

/** RFC 3339 to Unix nanoseconds; digits beyond the ninth are cut. */
export function parseTime(text: string, name: string): bigint {
  if (!/^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/.test(text))
    throw new InvalidEvent(`${name} is ${JSON.stringify(text.slice(0, 40))}; a time looks like 2026-01-02T03:04:05Z`)
  try {
    return Temporal.Instant.from(text.replace(/(\.\d{9})\d+/, '$1')).epochNanoseconds
  } catch {
    throw new InvalidEvent(`${name} is ${text.slice(0, 40)}, which is no instant of the calendar`)
  }
}

function checkedJson(value: unknown, name: string, depthLeft: number): Json {
  if (value === undefined || value === null) return null
  if (typeof value === 'number' || typeof value === 'boolean') return value
  if (typeof value === 'string') {
    if (value.includes('\0') || !value.isWellFormed())
      throw new InvalidEvent(`${name} holds a NUL character or half a surrogate pair, which cannot be stored`)
    return value
  }
  if (depthLeft === 0) throw new InvalidEvent(`${name} nests deeper than ${eventLimits.dataDepthMax} levels`)
  if (Array.isArray(value)) return value.map((item, i) => checkedJson(item, `${name}[${i}]`, depthLeft - 1))
  const entries = Object.entries(value as object).map(([key, item]): [string, Json] => {
    checkedJson(key, `${name} (a key)`, 0)
    return [key, checkedJson(item, `${name}.${key.slice(0, 60)}`, depthLeft - 1)]
  })
  return Object.fromEntries(entries)
}

function canonical(value: Json): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`
  const keys = Object.keys(value).toSorted()
  return `{${keys.map(key => `${JSON.stringify(key)}:${canonical(value[key] ?? null)}`).join()}}`
}
