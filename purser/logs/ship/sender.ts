// Sends a batch until the service has it on disk. Whatever is not an answer is tried again, with the same body under the
// same key: the service stores it once.

import { sleep } from '#platform/time'
import type { ServiceClient } from '../client.ts'
import { CommandFailed } from '../main.ts'
import { causeOf, refusalOf } from '../search.ts'
import type { Batch } from './followed-file.ts'

export interface Sent {
  accepted: number
  rejected: number
  /** It had arrived before. */
  isDuplicate: boolean
}

export interface Sender {
  /** Undefined: stopped before it was acknowledged. @throws CommandFailed for what trying again will not change */
  send(batch: Pick<Batch, 'key' | 'body' | 'rows'>): Promise<Sent | undefined>
}

const timeoutMs = 60_000
const backoffMaxMs = 30_000

export function createSender(o: {
  client: ServiceClient
  parameters: URLSearchParams
  stop: AbortSignal
  warn: (message: string) => void
}): Sender {
  const { client, stop, warn } = o
  const path = `/api/v1/logs/ndjson?${o.parameters}`

  const attempt = async (
    batch: Pick<Batch, 'key' | 'body' | 'rows'>,
  ): Promise<Sent | { retryAfterMs: number; why: string }> => {
    const response = await fetch(client.url + path, {
      method: 'POST',
      headers: { ...client.headers(), 'content-type': 'application/x-ndjson', 'idempotency-key': batch.key },
      body: batch.body,
      signal: AbortSignal.any([stop, AbortSignal.timeout(timeoutMs)]),
    })
    const text = await response.text()
    if (response.status === 202) {
      const {
        accepted,
        rejected = 0,
        errors = [],
      } = JSON.parse(text) as { accepted: number; rejected?: number; errors?: string[] }
      if (rejected > 0) warn(`${rejected} of ${batch.rows} entries were refused: ${errors[0] ?? ''}`)
      return { accepted, rejected, isDuplicate: response.headers.get('x-duplicate') === 'true' }
    }
    // The key is taken by an earlier body of these very bytes, sent with other flags: they are stored.
    if (response.status === 422) return { accepted: batch.rows, rejected: 0, isDuplicate: true }
    if (response.status === 429 || response.status >= 500 || response.status === 408) {
      const retryAfterS = Number(response.headers.get('retry-after') ?? 0)
      return { retryAfterMs: Math.min(60, retryAfterS) * 1_000, why: refusalOf(response.status, text) }
    }
    throw new CommandFailed(refusalOf(response.status, text))
  }

  return {
    async send(batch) {
      if (batch.body === '') return { accepted: 0, rejected: 0, isDuplicate: false }
      for (let tries = 0; !stop.aborted; tries++) {
        const outcome = await attempt(batch).catch(error => {
          if (error instanceof CommandFailed) throw error
          return { retryAfterMs: 0, why: causeOf(error) }
        })
        if ('accepted' in outcome) return outcome
        if (stop.aborted) return undefined
        if (tries === 0) warn(`not accepted yet (${outcome.why}); trying again`)
        const backoffMs = Math.min(backoffMaxMs, 100 * 2 ** Math.min(tries, 10)) * (0.5 + Math.random() / 2)
        await sleep(Math.max(outcome.retryAfterMs, backoffMs), stop).catch(() => {})
      }
      return undefined
    },
  }
}
