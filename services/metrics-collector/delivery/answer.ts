// What the endpoint's answer means for the chunk it was given.

export type Verdict =
  | { kind: 'delivered' }
  /** Keep the chunk, wait, send it again; counts as an attempt. */
  | { kind: 'retry'; reason: string; isTimeout?: boolean }
  /** Told to come back later; does not count as an attempt. */
  | { kind: 'throttled'; afterMs: number; reason: string }
  /** The body is refused: halve it until the culprit stands alone. */
  | { kind: 'refused'; reason: string }
  /** The body is too large: halve it. */
  | { kind: 'too-large'; reason: string }
  /** Nothing will change by sending again soon. */
  | { kind: 'unauthorized'; reason: string }
  | { kind: 'hold'; reason: string }

export interface Answer {
  status: number
  contentType: string
  retryAfter: string | undefined
  location: string | undefined
  /** Up to 64 KiB of it. */
  body: string
}

export function judge(answer: Answer, o: { url: string; nowMs: number; retryAfterMsMax: number }): Verdict {
  const { status } = answer
  const reason = `${shownUrl(o.url)} answers ${status}`
  if (status >= 200 && status < 300) {
    // Hotel and mobile portals answer everything with a page.
    const isPage = answer.contentType.toLowerCase().includes('text/html') || answer.body.trimStart().startsWith('<')
    if (status !== 204 && isPage)
      return { kind: 'retry', reason: `${shownUrl(o.url)} answers a web page; a captive portal is in the way` }
    return { kind: 'delivered' }
  }
  if (status === 400 || status === 409 || status === 422) return { kind: 'refused', reason }
  if (status === 413) return { kind: 'too-large', reason }
  if (status === 401 || status === 403) return { kind: 'unauthorized', reason: `${reason}: the token is not accepted` }
  if (status === 429 || status === 503)
    return { kind: 'throttled', afterMs: retryAfterMs(answer.retryAfter, o.nowMs, o.retryAfterMsMax), reason }
  if (status >= 300 && status < 400)
    return { kind: 'hold', reason: `${reason} and points elsewhere; set remote.url to where it points` }
  return status >= 500 ? { kind: 'retry', reason } : { kind: 'hold', reason: `${reason}; check remote.url` }
}

/** Seconds or an HTTP date, from 0 to `maxMs`; malformed or negative counts as absent. */
export function retryAfterMs(header: string | undefined, nowMs: number, maxMs: number): number {
  const text = header?.trim() ?? ''
  const ms = /^\d+$/.test(text)
    ? Number(text) * 1_000
    : /^[A-Za-z]{3},/.test(text)
      ? Date.parse(text) - nowMs
      : Number.NaN
  return Number.isNaN(ms) || ms < 0 ? 0 : Math.min(ms, maxMs)
}

export interface BackoffOptions {
  initialMs: number
  maxMs: number
  multiplier: number
  jitterPercent: number
}

/** Wait before retry `n`, from 0. `random` is uniform in [0, 1). */
export function backoffMs(n: number, o: BackoffOptions, random: number): number {
  const straight = Math.min(o.initialMs * o.multiplier ** Math.min(n, 1_000), o.maxMs)
  return straight * (1 + (o.jitterPercent / 100) * (2 * random - 1))
}

/** Without credentials that may be inside. */
export function shownUrl(url: string): string {
  const { origin, pathname } = new URL(url)
  return origin + pathname
}
