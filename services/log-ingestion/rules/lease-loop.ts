// Work that only one replica does, again and again: whoever has the lease works, the others ask for it now and then.

import type { Sql } from '#platform/postgres'
import type { Logger } from '#platform/telemetry'
import { sleep } from '#platform/time'
import { giveUpLease, type Lease, LeaseLost, takeLease } from '../store/rules/leases.ts'

export interface LeaseLoop {
  /** There is something to do now. */
  wake(): void
  close(): Promise<void>
}

/** A third of the lease's length: two renewals may fail before it is lost. */
const renewEveryMs = 4_000
const closeTimeoutMs = 2_000

export function startLeaseLoop(o: {
  name: string
  holder: string
  sql: Sql
  everyMs: number
  log: Logger
  /** One round. What it writes must not happen twice is written after mustHoldLease in the same transaction. */
  work: (lease: Lease, signal: AbortSignal) => Promise<void>
}): LeaseLoop {
  const { name, holder, sql, log } = o
  const closing = new AbortController()
  let pause = new AbortController()
  let isAwake = false
  let lease: Lease | undefined
  let isFailing = false

  const round = async () => {
    lease = await takeLease(sql, name, holder)
    if (!lease) return
    const lost = new AbortController()
    const renewing = setInterval(() => {
      takeLease(sql, name, holder).then(
        kept => {
          if (kept?.token !== lease?.token) lost.abort(new LeaseLost(`the lease "${name}" is lost`))
        },
        () => {},
      )
    }, renewEveryMs)
    try {
      await o.work(lease, AbortSignal.any([closing.signal, lost.signal]))
    } finally {
      clearInterval(renewing)
    }
  }

  const run = async () => {
    while (!closing.signal.aborted) {
      isAwake = false
      try {
        await round()
        isFailing = false
      } catch (error) {
        if (closing.signal.aborted) return
        if (!isFailing && !(error instanceof LeaseLost))
          log.warn({ err: error, lease: name }, 'a round of upkeep failed; it is tried again')
        isFailing = true
      }
      if (isAwake) continue
      pause = new AbortController()
      await sleep(o.everyMs, AbortSignal.any([closing.signal, pause.signal])).catch(() => {})
    }
  }
  const running = run()

  return {
    wake() {
      isAwake = true
      pause.abort()
    },
    async close() {
      closing.abort()
      const end = running.then(() => lease && giveUpLease(sql, lease)).catch(() => {})
      // A database that does not answer must not keep us from stopping; the lease ends by itself.
      const patience = new AbortController()
      await Promise.race([end, sleep(closeTimeoutMs, patience.signal).catch(() => {})])
      patience.abort()
    },
  }
}
