// The search line of the error tracker: `is:resolved -env:staging tag:db after:2h "no such table"`.

import { parseTime, TimeError } from '../time-range.ts'

export type FaultTerm = { isNegated: boolean } & (
  | { kind: 'resolved' | 'ignored' }
  | { kind: 'environment' | 'tag' | 'text'; text: string }
  | { kind: 'assignee'; userId: number | null }
  | { kind: 'assigneeEmail'; email: string }
  | { kind: 'after' | 'before'; timeMs: number }
)

export class FaultQueryError extends Error {}

const queryMax = 1_000
const termsMax = 50
const durationMs: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000, w: 7 * 86_400_000 }

/** `me` is the one who asks; a key is nobody, and nobody's faults are none. @throws FaultQueryError */
export function parseFaultQuery(q: string, o: { nowMs: number; me: number | undefined }): FaultTerm[] {
  if (q.length > queryMax) throw new FaultQueryError(`q has ${q.length} characters; at most ${queryMax}`)
  const terms = [...q.matchAll(/(-?)(?:([a-zA-Z]+):)?(?:"((?:[^"\\]|\\.)*)"|(\S+))/g)].map(
    ([whole, minus, rawName, quoted, word]): FaultTerm => {
      const isNegated = minus === '-'
      const value = quoted === undefined ? (word ?? '') : quoted.replaceAll(/\\(.)/g, '$1')
      const name = rawName?.toLowerCase()
      switch (name) {
        case 'is':
          if (value === 'resolved' || value === 'ignored') return { isNegated, kind: value }
          throw new FaultQueryError(`is:${value} is unknown; there are is:resolved and is:ignored`)
        case 'env':
        case 'environment':
          return { isNegated, kind: 'environment', text: value }
        case 'tag':
          return { isNegated, kind: 'tag', text: value }
        case 'assignee':
          return { isNegated, ...assignee(value, o.me) }
        case 'after':
        case 'before':
          return { isNegated, kind: name, timeMs: timeOf(name, value, o.nowMs) }
        default:
          // `http://x`, `TypeError:` and the like are text.
          return { isNegated, kind: 'text', text: quoted === undefined ? whole.slice(isNegated ? 1 : 0) : value }
      }
    },
  )
  if (terms.length > termsMax) throw new FaultQueryError(`q has ${terms.length} terms; at most ${termsMax}`)
  return terms
}

function assignee(value: string, me: number | undefined) {
  if (value === 'none') return { kind: 'assignee', userId: null } as const
  if (value === 'me') return { kind: 'assignee', userId: me ?? -1 } as const
  if (/^\d{1,15}$/.test(value)) return { kind: 'assignee', userId: Number(value) } as const
  if (value.includes('@')) return { kind: 'assigneeEmail', email: value.toLowerCase() } as const
  throw new FaultQueryError(`assignee:${value} must be an id, an email, me or none`)
}

function timeOf(name: string, value: string, nowMs: number): number {
  const ago = /^(\d{1,6})([mhdw])$/.exec(value)
  if (ago) return nowMs - Number(ago[1]) * (durationMs[ago[2] ?? ''] ?? 0)
  const text = /^\d{4}-\d\d-\d\d$/.test(value) ? `${value}T00:00:00Z` : value
  try {
    return Number(parseTime(text, nowMs) / 1_000_000n)
  } catch (error) {
    if (!(error instanceof TimeError)) throw error
    throw new FaultQueryError(`${name}:${value} must be a time such as 30m, 2h, 3d, 1w, 2026-01-31 or RFC 3339`)
  }
}
