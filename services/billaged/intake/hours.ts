import type { Base } from '#platform/lifecycle'
import { sleep } from '#platform/time'
import { drainOne } from '../store/fold-queue.ts'
import type { PartReader } from '../store/parts.ts'
import type { FoldRules } from '../usage/fold.ts'

/** An hour is taken for whole this long after its end; what comes later is late, and folds it again. */
export const sealAfterMs = 15 * 60_000
const idleMs = 1_000
/** Intake comes first: for each second of folding this rests so many. */
const restPerWork = 3
const retryMsMax = 30_000

/** Folds hours that are over into the cache of usage, whoever queued them; as many replicas do as there are. */
export function startHours(o: { reader: PartReader; rules: FoldRules; base: Base }): () => Promise<void> {
  const { log, clock } = o.base
  const stopping = new AbortController()
  let retryMs = idleMs

  async function pass() {
    const beganMs = clock.monotonicMs()
    const nowMs = clock.now()
    const beforeHour = Math.floor((nowMs - sealAfterMs) / 3_600_000)
    const didWork = await drainOne(o.reader, o.rules, { beforeHour, nowMs })
    await sleep(didWork ? restPerWork * (clock.monotonicMs() - beganMs) : idleMs, stopping.signal)
  }

  async function run() {
    while (!stopping.signal.aborted) {
      try {
        await pass()
        retryMs = idleMs
      } catch (error) {
        if (stopping.signal.aborted) return
        // Answers do not wait for it: what is not kept is folded when it is asked for.
        log.warn({ err: error }, 'hours of usage are not folded now; trying again')
        await sleep(retryMs, stopping.signal).catch(() => {})
        retryMs = Math.min(retryMs * 2, retryMsMax)
      }
    }
  }

  const running = run()
  return async () => {
    stopping.abort()
    await running
  }
}
