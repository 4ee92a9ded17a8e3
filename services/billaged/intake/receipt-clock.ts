import { Counter } from 'prom-client'
import type { Base } from '#platform/lifecycle'

/** Wall time for what we receive. It never goes backwards within a process: after the clock was set back it runs at half
 *  speed until the wall has caught up, so that leases still have a length and no stamp is given twice for long. */
export interface ReceiptClock {
  nowNs(): bigint
  close(): Promise<void>
}

/** A wall clock that leaves the monotonic one by more than this was set, not corrected. */
const stepMsMin = 1_000
const watchEveryMs = 1_000

export function createReceiptClock({ clock, log, registry }: Base): ReceiptClock {
  const steps = new Counter({
    name: 'billaged_clock_steps_total',
    help: 'Times the wall clock jumped by more than a second.',
    registers: [registry],
  })
  let offsetMs = clock.now() - clock.monotonicMs()
  let stampMs = clock.now()
  let stampedAtMs = clock.monotonicMs()

  function read(): number {
    const [wallMs, monotonicMs] = [clock.now(), clock.monotonicMs()]
    const steppedMs = wallMs - monotonicMs - offsetMs
    if (Math.abs(steppedMs) > stepMsMin) {
      steps.inc()
      log.warn({ steppedMs: Math.round(steppedMs) }, 'the wall clock was set; check time synchronisation on this host')
      offsetMs += steppedMs
    }
    stampMs = Math.max(wallMs, stampMs + (monotonicMs - stampedAtMs) / 2)
    stampedAtMs = monotonicMs
    return stampMs
  }

  const timer = setInterval(read, watchEveryMs).unref()
  return {
    nowNs: () => BigInt(Math.floor(read())) * 1_000_000n,
    async close() {
      clearInterval(timer)
    },
  }
}
