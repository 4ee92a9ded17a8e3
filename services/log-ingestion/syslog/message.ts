// One syslog message, RFC 5424 or RFC 3164 as it is really sent. What does not parse is its own message.

import { readTime } from '../fields.ts'
import { type Level, levelOfSyslog } from '../level.ts'
import type { Moment } from '../rfc3339.ts'

export interface SyslogMessage {
  message: string
  service: string
  level: Level
  time: Moment | null
  /** For metadata, in this order. */
  fields: [key: string, value: unknown][]
}

const facilities = (
  'kern user mail daemon auth syslog lpr news uucp cron authpriv ftp ntp audit alert clock ' +
  'local0 local1 local2 local3 local4 local5 local6 local7'
).split(' ')
const defaultService = 'syslog'
const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']

/** `zone` is that of times without one. */
export function parseSyslog(text: string, o: { nowMs: number; zone: string }): SyslogMessage {
  const [whole = '', digits = ''] = /^<(\d{1,3})>/.exec(text) ?? []
  const priority = digits === '' ? -1 : Number(digits)
  if (priority < 0 || priority > 191)
    return { message: text, service: defaultService, level: 'INFO', time: null, fields: [] }
  const rest = text.slice(whole.length)
  const facility = facilities[priority >> 3] ?? ''
  const parsed = parse5424(rest) ?? parse3164(rest, o)
  return { ...parsed, level: levelOfSyslog(priority & 7) ?? 'INFO', fields: [['facility', facility], ...parsed.fields] }
}

type Parsed = Omit<SyslogMessage, 'level'>

/** `1 TIMESTAMP HOST APP PROCID MSGID SD MSG`; null when it is not that. */
function parse5424(text: string): Parsed | null {
  const header = /^1 (\S{1,64}) (\S{1,255}) (\S{1,255}) (\S{1,128}) (\S{1,64}) /.exec(`${text} `)
  if (!header) return null
  const [whole, stamp = '', host = '', app = '', pid = '', msgid = ''] = header
  const data = structuredData(text, whole.length)
  if (data === null) return null
  const moment: Moment = { seconds: 0, nanos: 0 }
  const hasTime = stamp !== '-' && readTime(stamp, moment)
  const fields: [string, unknown][] = []
  if (stamp !== '-' && !hasTime) fields.push(['timestamp', stamp])
  for (const [key, value] of [
    ['host', host],
    ['pid', pid],
    ['msgid', msgid],
  ] as const)
    if (value !== '-') fields.push([key, value])
  if (data.elements.size > 0) fields.push(['sd', Object.fromEntries(data.elements)])
  // A byte order mark says the message is UTF-8, which it is taken for anyway.
  const message = text.slice(data.end + 1).replace(/^\ufeff/, '')
  return { message, service: app === '-' ? defaultService : app, time: hasTime ? moment : null, fields }
}

interface StructuredData {
  elements: Map<string, Record<string, string | string[]>>
  end: number
}

/** `-` or `[id name="value" …]…` at `from`. */
function structuredData(text: string, from: number): StructuredData | null {
  const elements: StructuredData['elements'] = new Map()
  if (text[from] === '-')
    return text[from + 1] === undefined || text[from + 1] === ' ' ? { elements, end: from + 1 } : null
  let at = from
  while (text[at] === '[') {
    const id = /^\[([^\s="\]]{1,128})/.exec(text.slice(at, at + 130))?.[1]
    if (id === undefined) return null
    at += 1 + id.length
    const values = new Map<string, string | string[]>()
    while (text[at] === ' ') {
      while (text[at] === ' ') at++
      if (text[at] === ']') break
      const name = /^([^\s="\]]{1,128})="/.exec(text.slice(at, at + 132))?.[1]
      if (name === undefined) return null
      const value = quotedValue(text, at + name.length + 2)
      if (value === null) return null
      const before = values.get(name)
      values.set(name, before === undefined ? value.text : [before, value.text].flat())
      at = value.end
    }
    if (text[at] !== ']') return null
    elements.set(id, { ...elements.get(id), ...Object.fromEntries(values) })
    at++
  }
  const isEnded = at > from && (text[at] === undefined || text[at] === ' ')
  return isEnded ? { elements, end: at } : null
}

/** Up to the closing quote; `\"`, `\\` and `\]` are escapes, other backslashes are themselves. */
function quotedValue(text: string, from: number): { text: string; end: number } | null {
  let out = ''
  let start = from
  for (let at = from; at < text.length; at++) {
    const char = text[at]
    if (char === '"') return { text: out + text.slice(start, at), end: at + 1 }
    const next = text[at + 1]
    if (char === '\\' && (next === '"' || next === '\\' || next === ']')) {
      out += text.slice(start, at)
      start = ++at
    }
  }
  return null
}

/** `Mmm dd hh:mm:ss host tag[pid]: message`, each part of which may be missing; RFC 3339 times are taken too. */
function parse3164(text: string, o: { nowMs: number; zone: string }): Parsed {
  const moment: Moment = { seconds: 0, nanos: 0 }
  const fields: [string, unknown][] = []
  const bsd = /^([A-Z][a-z]{2}) ([ 0-3]?\d) (\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,6}))?:? /.exec(text)
  const iso = bsd ? null : /^(\d{4}-\d{2}-\d{2}T\S{1,40}) /.exec(text)
  const hasTime = bsd ? readBsdTime(bsd, o, moment) : iso !== null && readTime(iso[1] ?? '', moment)
  if (!hasTime) return { message: text, service: defaultService, time: null, fields }
  let rest = text.slice((bsd ?? iso)?.[0].length ?? 0)
  // Local senders leave the host out: then the first word is the tag.
  const host = /^(\S{1,255}) /.exec(rest)?.[1]
  if (host !== undefined && !/[:\]]$/.test(host) && !/^[^\s[:]+\[[^\]]*\]/.test(host)) {
    fields.push(['host', host])
    rest = rest.slice(host.length + 1)
  }
  // Some relays drop the colon behind `tag[pid]`.
  const tag = /^([^\s:[\]]{1,128})(?:\[([^\]\s]{0,64})\]:?|:) ?/.exec(rest)
  if (!tag) return { message: rest, service: defaultService, time: moment, fields }
  const [whole, name = '', pid = ''] = tag
  if (pid !== '') fields.push(['pid', pid])
  return { message: rest.slice(whole.length), service: name, time: moment, fields }
}

/** The year is not sent: it is the one that brings the time nearest to now. */
function readBsdTime(match: RegExpExecArray, { nowMs, zone }: { nowMs: number; zone: string }, out: Moment): boolean {
  const [, name = '', day = '', hour = '', minute = '', second = '', fraction = ''] = match
  const month = months.indexOf(name) + 1
  if (month === 0) return false
  const thisYear = new Date(nowMs).getUTCFullYear()
  let best: number | undefined
  for (const year of [thisYear - 1, thisYear, thisYear + 1]) {
    const ms = epochMs(
      { year, month, day: Number(day), hour: Number(hour), minute: Number(minute), second: Number(second) },
      zone,
    )
    if (ms !== undefined && (best === undefined || Math.abs(ms - nowMs) < Math.abs(best - nowMs))) best = ms
  }
  if (best === undefined) return false
  out.seconds = Math.floor(best / 1_000)
  out.nanos = Number(fraction.padEnd(9, '0'))
  return true
}

interface Wall {
  year: number
  month: number
  day: number
  hour: number
  minute: number
  second: number
}

/** Undefined for days and times that are none in that year. */
function epochMs(wall: Wall, zone: string): number | undefined {
  const { year, month, day, hour, minute, second } = wall
  if (hour > 23 || minute > 59 || second > 59 || day < 1) return undefined
  const utc = Date.UTC(year, month - 1, day, hour, minute, second)
  if (new Date(utc).getUTCDate() !== day) return undefined
  if (zone === 'UTC') return utc
  return Temporal.PlainDateTime.from(wall).toZonedDateTime(zone).epochMilliseconds
}
