// When to try again, and how long to wait before it. The whole policy is here.

import { type Clock, sleep } from '#platform/time'
import { BuildError, systemCodeOf } from '../errors.ts'

export interface RetryPolicy {
  tries: number
  baseMs: number
  capMs: number
}

export const registryRetry: RetryPolicy = { tries: 5, baseMs: 250, capMs: 10_000 }

/** Longest Retry-After we follow; a registry that asks for more gets its answer as the failure. */
const retryAfterMsMax = 60_000

/** A failure that another try may mend. `final` is what the build fails with when none does. */
export class TryAgain extends Error {
  readonly final: BuildError
  readonly afterMs: number | undefined

  constructor(final: BuildError, afterMs?: number) {
    super(final.message, { cause: final })
    this.final = final
    this.afterMs = afterMs
  }
}

/** Runs `attempt` until it succeeds, fails for good or has used its tries. `madeProgress` gives tries back. */
export async function withRetry<T>(
  policy: RetryPolicy,
  signal: AbortSignal,
  attempt: () => Promise<T>,
  madeProgress: () => boolean = () => false,
): Promise<T> {
  for (let failures = 0; ; ) {
    try {
      return await attempt()
    } catch (error) {
      signal.throwIfAborted()
      const again = error instanceof TryAgain ? error : transient(error)
      if (!again) throw error
      failures = madeProgress() ? 1 : failures + 1
      if (failures >= policy.tries) throw again.final
      await sleep(again.afterMs ?? backoffMs(policy, failures), signal)
    }
  }
}

function backoffMs({ baseMs, capMs }: RetryPolicy, failures: number): number {
  return Math.min(capMs, baseMs * 2 ** (failures - 1)) * (0.5 + Math.random())
}

/** Milliseconds a Retry-After asks for; undefined when there is none, or it asks for more than we wait. */
export function retryAfterMs(header: string | undefined, clock: Clock): number | undefined {
  if (header === undefined) return undefined
  const ms = /^\d{1,9}$/.test(header) ? Number(header) * 1_000 : Date.parse(header) - clock.now()
  return ms >= 0 && ms <= retryAfterMsMax ? ms : undefined
}

/** Connection trouble as undici and Node name it. */
function transient(error: unknown): TryAgain | undefined {
  if (error instanceof BuildError) return undefined
  const code = systemCodeOf(error)
  if (code === undefined || !transientCodes.has(code)) return undefined
  const text = error instanceof Error ? error.message : code
  return new TryAgain(new BuildError('NETWORK_ERROR', `The connection failed (${code}: ${text}).`, error))
}

const transientCodes = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EPIPE',
  'ETIMEDOUT',
  'EAI_AGAIN',
  'UND_ERR_SOCKET',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
  'UND_ERR_RES_CONTENT_LENGTH_MISMATCH',
  'HPE_INVALID_CHUNK_SIZE',
  'HPE_INVALID_EOF_STATE',
])
