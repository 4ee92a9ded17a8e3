// The types a setting can have: text in, value out, and an error that says what to write instead.

import { formatDuration, parseDuration } from '../time.ts'

export interface Type<T> {
  /** What a value looks like, for the reference table. */
  form: string
  /** @throws Error whose message follows the variable's name: "must be a whole number from 1 to 50000" */
  parse(text: string): T
  /** For values that a file may give as a list. */
  parseItems?(items: readonly string[]): T
  /** Back to text for --print-config; secrets as `***`. */
  print(value: T): string
  /** The text as given, for error messages; secrets as `***`. */
  redact(text: string): string
  /** Also read from the file that NAME_FILE names. */
  isSecret: boolean
}

function type<T>(form: string, parse: (text: string) => T, print: (value: T) => string = String): Type<T> {
  return { form, parse, print, redact: clip, isSecret: false }
}

export const text = {
  ...type('text', value => value),
  /** `form` completes "must be …". */
  matching: (pattern: RegExp, form: string): Type<string> =>
    type(form, value => {
      if (!pattern.test(value)) throw new Error(`must be ${form}`)
      return value
    }),
}

function wholeBetween(min: number, max: number, form = `${min}…${max}`): Type<number> {
  return type(form, value => {
    if (!/^-?\d{1,16}$/.test(value.trim())) throw new Error(`must be a whole number from ${min} to ${max}`)
    const n = Number(value)
    if (n < min || n > max) throw new Error(`must be from ${min} to ${max}`)
    return n
  })
}

/** A whole number; narrow it with `count.between(1, 50_000)`. */
export const count = {
  ...wholeBetween(0, Number.MAX_SAFE_INTEGER, 'whole number'),
  between: (min: number, max: number) => wholeBetween(min, max),
}

/** A TCP port; 0 asks the system for a free one. */
export const port: Type<number> = wholeBetween(0, 65_535, 'port 0…65535')

/** A share from 0 to 1. */
export const ratio: Type<number> = type('0…1', value => {
  const n = /^(\d+\.?\d*|\.\d+)$/.test(value.trim()) ? Number(value) : Number.NaN
  if (!(n >= 0 && n <= 1)) throw new Error('must be a number from 0 to 1')
  return n
})

function durationBetween(minMs: number, maxMs: number): Type<number> {
  return type(
    minMs > 0 ? `duration ≥ ${formatDuration(minMs)}` : 'duration',
    value => {
      const ms = parseDuration(value.trim())
      if (ms < minMs) throw new Error(`must be at least ${formatDuration(minMs)}`)
      if (ms > maxMs) throw new Error(`must be at most ${formatDuration(maxMs)}`)
      return ms
    },
    formatDuration,
  )
}

/** Milliseconds from a Go duration, 0 or more; narrow it with `duration.between(minMs, maxMs)`. */
export const duration = {
  ...durationBetween(0, Number.MAX_SAFE_INTEGER),
  between: durationBetween,
  /** Anything above zero. */
  positive: durationBetween(1, Number.MAX_SAFE_INTEGER),
}

const byteUnits: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  k: 1024,
  kib: 1024,
  kb: 1000,
  m: 1024 ** 2,
  mib: 1024 ** 2,
  mb: 1000 ** 2,
  g: 1024 ** 3,
  gib: 1024 ** 3,
  gb: 1000 ** 3,
  t: 1024 ** 4,
  tib: 1024 ** 4,
  tb: 1000 ** 4,
}

function bytesBetween(min: number, max: number): Type<number> {
  return type('size, e.g. 64MiB', value => {
    const match = /^(\d+(?:\.\d+)?)\s*([a-zA-Z]*)$/.exec(value.trim())
    const unit = byteUnits[match?.[2]?.toLowerCase() ?? '?']
    if (!match || unit === undefined) throw new Error('must be a size such as 1048576, 64MiB, 4GiB or 100GB')
    const n = Number(match[1]) * unit
    if (!Number.isInteger(n)) throw new Error('must come to whole bytes')
    if (n < min || n > max) throw new Error(`must be from ${min} to ${max} bytes`)
    return n
  })
}

/** A number of bytes. KiB, MiB, GiB and bare k, m, g are powers of 1024; kB, MB, GB of 1000. */
export const bytes = { ...bytesBetween(0, Number.MAX_SAFE_INTEGER), between: bytesBetween }

/** The words Go's flag and env packages take, in any case, and yes/no/on/off. */
export const bool: Type<boolean> = type('true or false', value => {
  const word = value.trim().toLowerCase()
  if (['true', 't', '1', 'yes', 'on'].includes(word)) return true
  if (['false', 'f', '0', 'no', 'off'].includes(word)) return false
  throw new Error('must be true or false')
})

export function oneOf<const T extends string>(...words: readonly T[]): Type<T> {
  return type(words.join(' '), value => {
    const word = words.find(w => w === value.trim().toLowerCase())
    if (word !== undefined) return word
    const similar = nearest(value, words)
    throw new Error(`must be one of ${words.join(', ')}${similar ? `; did you mean ${similar}?` : ''}`)
  })
}

/** An absolute URL; credentials inside are hidden when printed. */
export const url: Type<string> = {
  ...type('URL', value => {
    if (!/^[a-z][a-z0-9+.-]*:\/\//i.test(value.trim()) || !URL.canParse(value.trim()))
      throw new Error('must be a URL such as http://127.0.0.1:8081')
    return value.trim()
  }),
  print: hideUserInfo,
  redact: value => clip(hideUserInfo(value)),
}

/** An address to bind or connect to, without port. */
export const host: Type<string> = type('host name or address', value => {
  if (!/^[A-Za-z0-9.:_[\]%-]{1,255}$/.test(value)) throw new Error('must be a host name or address without port')
  return value.replace(/^\[(.*)\]$/, '$1')
})

/** Comma separated, trimmed, empties skipped. */
export const list: Type<readonly string[]> = {
  ...type<readonly string[]>('comma list', splitList, items => items.join(',')),
  parseItems: trimItems,
}

const hidden = { print: () => '***', redact: () => '***', isSecret: true }

export const secret: Type<string> = { ...type('secret', value => value), ...hidden }

export const secretList: Type<readonly string[]> = { ...list, form: 'comma list of secrets', ...hidden }

function splitList(value: string): readonly string[] {
  return trimItems(value.split(','))
}

function trimItems(items: readonly string[]): readonly string[] {
  return items.map(item => item.trim()).filter(item => item !== '')
}

function hideUserInfo(value: string): string {
  return value
    .replace(/(:\/\/[^/?#@]*:)[^/?#@]*@/, '$1***@')
    .replace(/([?&](?:password|key|token|secret)=)[^&]*/gi, '$1***')
}

function clip(value: string): string {
  return value.length > 80 ? `${value.slice(0, 80)}…` : value
}

/** The candidate closest to `word` by edits, when it is close enough to be a slip of the pen. */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined
  let bestDistance = Math.max(2, Math.floor(word.length / 4)) + 1
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase(), bestDistance)
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance]
  }
  return best
}

/** Levenshtein distance, given up (as `limit`) once it cannot be below `limit`. */
function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit) return limit
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const substituted = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(substituted, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    if (Math.min(...next) >= limit) return limit
    row = next
  }
  return row[b.length] ?? limit
}
