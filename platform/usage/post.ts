// One batch to billaged, and what its answer means.

import { Agent, request } from 'undici'

export type Answer =
  | { kind: 'stored' }
  /** billaged will never take this batch as it is. */
  | { kind: 'refused'; status: number; reason: string }
  /** Try again later. `isAnswered`: it was billaged that failed, maybe over these very events. */
  | { kind: 'failed'; isAnswered: boolean; reason: string; retryAfterMs: number }

export interface Poster {
  post(events: readonly string[], signal: AbortSignal): Promise<Answer>
  close(): Promise<void>
}

/** For connecting, for the answer's head and for its body, each. The batch is resent after it, so be patient. */
const timeoutMs = 10_000
const reasonCharsMax = 1_024
const answerBytesMax = 64 * 1024
const retryAfterMsMax = 60_000

/** 4xx that speak of the moment and not of the events: no or an old token, too slow, too many. */
const passingStatuses = new Set([401, 408, 429])

export function createPoster({ url, token }: { url: URL; token: () => string }): Poster {
  const dispatcher = new Agent({
    connections: 2,
    connect: { timeout: timeoutMs },
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
    maxResponseSize: answerBytesMax,
  })
  return {
    async post(events, signal) {
      try {
        const { statusCode, headers, body } = await request(url, {
          dispatcher,
          method: 'POST',
          headers: { 'content-type': 'application/cloudevents-batch+json', authorization: `Bearer ${token()}` },
          body: `[${events.join(',')}]`,
          signal,
        })
        const text = await body.text()
        return interpret(statusCode, retryAfterMs(headers['retry-after']), text)
      } catch (error) {
        const reason = error instanceof Error ? error.message || error.name : String(error)
        return { kind: 'failed', isAnswered: false, reason, retryAfterMs: 0 }
      }
    },
    close: () => dispatcher.close(),
  }
}

function interpret(status: number, retryAfterMs: number, text: string): Answer {
  if (status >= 200 && status < 300) return { kind: 'stored' }
  const reason = `${status} ${detailOf(text)}`.trim().slice(0, reasonCharsMax)
  if (status >= 400 && status < 500 && !passingStatuses.has(status)) return { kind: 'refused', status, reason }
  return { kind: 'failed', isAnswered: status >= 500, reason, retryAfterMs }
}

/** The sentence of a problem document, or whatever came. */
function detailOf(text: string): string {
  try {
    const problem: unknown = JSON.parse(text)
    if (typeof problem === 'object' && problem !== null && 'detail' in problem && typeof problem.detail === 'string') {
      return problem.detail
    }
  } catch {
    // Not JSON: shown as it is.
  }
  return text
}

function retryAfterMs(header: string | string[] | undefined): number {
  const seconds = Number(header)
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 0) * 1_000, retryAfterMsMax) : 0
}

export interface Settled<T> {
  stored: T[]
  refused: { row: T; status: number; reason: string }[]
  /** Neither, because of this. */
  failure: (Answer & { kind: 'failed' }) | undefined
  left: T[]
}

/** Posts `rows`; when they are refused together, halves them until the culprits stand alone: one bad event costs at most
 *  2·log2(n) + 1 requests and none of its neighbours. Stops at the first failure; what is settled by then is settled. */
export async function settle<T extends { event: string }>(
  rows: readonly T[],
  post: (events: readonly string[]) => Promise<Answer>,
): Promise<Settled<T>> {
  const settled: Settled<T> = { stored: [], refused: [], failure: undefined, left: [] }
  const queue: (readonly T[])[] = [rows]
  for (let part = queue.shift(); part; part = queue.shift()) {
    if (part.length === 0) continue
    const answer = await post(part.map(row => row.event))
    const [only] = part
    switch (answer.kind) {
      case 'stored':
        settled.stored.push(...part)
        break
      case 'refused':
        if (part.length === 1 && only) settled.refused.push({ row: only, status: answer.status, reason: answer.reason })
        else queue.unshift(part.slice(0, part.length >> 1), part.slice(part.length >> 1))
        break
      case 'failed':
        return { ...settled, failure: answer, left: [...part, ...queue.flat()] }
    }
  }
  return settled
}
