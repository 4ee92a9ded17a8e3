// When an alert fires, as a function of verdicts. No clock, no database.
//
//   ok ──true──▶ pending ──true for as long as `for`──▶ firing ──false──▶ ok
//                pending ──false──▶ ok                  `for` of 0: ok ──true──▶ firing
//   any ──no verdict for 5 minutes──▶ stalled ──verdict──▶ as if it had never stalled
//
// Times are those of the windows' ends, not of the evaluation: a backlog delays a verdict and changes none.

import type { AlertDefinition } from './definitions.ts'

export type AlertState = 'ok' | 'pending' | 'firing' | 'stalled'
/** What a notification can say. */
export type Announced = 'ok' | 'firing' | 'stalled'

export interface Standing {
  state: AlertState
  /** What it was before it stalled. */
  beforeStall: 'ok' | 'pending' | 'firing' | null
  /** Unix ms, all of these. */
  sinceMs: number
  pendingSinceMs: number | null
  /** End of the last window looked at. */
  evaluatedToMs: number
  announced: Announced
  value: string | null
}

export interface Step {
  standing: Standing
  hasChanged: boolean
  /** What somebody has to be told. */
  notice: Announced | null
}

export interface Verdict {
  isTrue: boolean
  /** As text: a count, or a change in percent; `new` where there was nothing before. */
  value: string
}

export function freshStanding(evaluatedToMs: number, announced: Announced = 'ok'): Standing {
  return {
    state: 'ok',
    beforeStall: null,
    sinceMs: evaluatedToMs,
    pendingSinceMs: null,
    evaluatedToMs,
    announced,
    value: null,
  }
}

/** The verdict on [at − window, at). */
export function step(standing: Standing, atMs: number, verdict: Verdict, forMs: number): Step {
  const before = standing.state === 'stalled' ? (standing.beforeStall ?? 'ok') : standing.state
  const pendingSinceMs = verdict.isTrue ? (before === 'ok' ? atMs : (standing.pendingSinceMs ?? atMs)) : null
  const state: AlertState = !verdict.isTrue
    ? 'ok'
    : before === 'firing' || atMs - (pendingSinceMs ?? atMs) >= forMs
      ? 'firing'
      : 'pending'
  return moved(standing, { state, beforeStall: null, pendingSinceMs, evaluatedToMs: atMs, value: verdict.value }, atMs)
}

/** Nothing could be said for too long. */
export function stall(standing: Standing, nowMs: number): Step {
  if (standing.state === 'stalled') return { standing, hasChanged: false, notice: null }
  return moved(standing, { state: 'stalled', beforeStall: standing.state }, nowMs)
}

function moved(standing: Standing, change: Partial<Standing> & { state: AlertState }, atMs: number): Step {
  const hasChanged = change.state !== standing.state
  // What is pending is not yet worth anybody's sleep.
  const announced = change.state === 'pending' ? 'ok' : change.state
  const next = { ...standing, ...change, announced, sinceMs: hasChanged ? atMs : standing.sinceMs }
  return { standing: next, hasChanged, notice: announced === standing.announced ? null : announced }
}

/** `previous` is the window before this one; only `rate` asks for it. */
export function verdictOf(definition: AlertDefinition, current: number, previous: number): Verdict {
  const { kind, op = '>=', threshold = 0 } = definition
  switch (kind) {
    case 'absence':
      return { isTrue: current === 0, value: String(current) }
    case 'count':
      return { isTrue: compares(current - threshold, op), value: String(current) }
    case 'rate': {
      if (previous === 0)
        return current === 0
          ? { isTrue: compares(-threshold, op), value: '0' }
          : { isTrue: op === '>' || op === '>=', value: 'new' }
      // Compared without dividing: 50 % of three entries is a whole question.
      const change = (current - previous) * 100
      return { isTrue: compares(change - threshold * previous, op), value: (change / previous).toFixed(1) }
    }
    default:
      return kind satisfies never
  }
}

function compares(difference: number, op: '>' | '>=' | '<' | '<='): boolean {
  switch (op) {
    case '>':
      return difference > 0
    case '>=':
      return difference >= 0
    case '<':
      return difference < 0
    case '<=':
      return difference <= 0
    default:
      return op satisfies never
  }
}
