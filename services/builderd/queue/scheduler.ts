// The slots of this daemon: what they run, how they are filled, how leases are kept alive.
//
// A NOTIFY wakes it; a poll every second stands behind that. Every five seconds leases are renewed, those of dead
// daemons are given back to the queue, and cancels nobody answered are carried out.

import { type Sql, subscribe } from '#platform/postgres'
import type { Logger } from '#platform/telemetry'
import type { Clock } from '#platform/time'
import type { Build } from '../store/build.ts'
import { queueChannel } from '../store/builds.ts'
import { cancelChannel, type Ends, overtakeCancelled } from '../store/finish.ts'
import { claimBuild, heartbeatMs, leaseS, renewLeases, requeue, type TierFigures } from '../store/leases.ts'
import type { Lease } from '../store/logs.ts'
import type { Run, Verdict } from './runner.ts'

export interface SchedulerOptions {
  ends: Ends
  log: Logger
  clock: Clock
  /** New in each life of the daemon. */
  owner: string
  slots: number
  tiers: () => readonly TierFigures[]
  /** False while nothing new may start, such as with a disk that is nearly full. */
  mayStart: () => Promise<boolean>
  startRun: (build: Build, lease: Lease) => Run
  onEnded: (build: Build, verdict: Verdict) => void
}

export interface Scheduler {
  running(): readonly Run[]
  /** The database answered the last heartbeat. */
  isConnected(): boolean
  /** Again is the same stop. */
  close(drainMs: number): Promise<void>
}

const pollEveryMs = 1_000
/** How long an owner has to answer a cancel before it is carried out over its head. */
const cancelPatienceMs = 1_500

export async function openScheduler(o: SchedulerOptions): Promise<Scheduler> {
  const { clock, log, owner } = o
  const sql: Sql = o.ends.sql
  const runs = new Map<string, Run>()
  let isClosing = false
  let isConnected = true
  let renewedAtMs = clock.monotonicMs()

  // At most one pass runs and at most one more is wanted, however often someone knocks.
  let filling: Promise<void> | undefined
  let isWanted = false
  const fill = () => {
    isWanted = true
    filling ??= fillSlots().finally(() => {
      filling = undefined
    })
  }
  const fillSlots = async () => {
    await null
    while (isWanted && !isClosing) {
      isWanted = false
      try {
        while (runs.size < o.slots && !isClosing && (await o.mayStart())) {
          const claimed = await claimBuild(sql, owner, o.tiers(), clock.now())
          if (!claimed) break
          watch(o.startRun(claimed.build, claimed.lease))
        }
      } catch (error) {
        log.debug({ err: error }, 'nothing could be claimed; tried again in a second')
      }
    }
  }
  const watch = (run: Run) => {
    const { buildId } = run.build
    runs.set(buildId, run)
    void run.ended.then(verdict => {
      // A build that lost its lease may be running here again already.
      if (runs.get(buildId) === run) runs.delete(buildId)
      o.onEnded(run.build, verdict)
      fill()
    })
  }

  const beat = async () => {
    const held = [...runs.values()]
    try {
      const kept = await renewLeases(
        sql,
        owner,
        held.map(run => run.lease),
      )
      renewedAtMs = clock.monotonicMs()
      isConnected = true
      for (const run of held) {
        const lease = kept.get(run.build.buildId)
        if (!lease) run.lose()
        else if (lease.isCancelled) run.cancel()
      }
      const lost = await requeue(o.ends, { expired: true }, 'expired', clock.now())
      if (lost > 0) log.warn({ builds: lost }, 'leases expired; their builds are queued again')
    } catch (error) {
      isConnected = false
      log.warn({ err: error, builds: held.length }, 'leases could not be renewed')
      // Without a database for a whole lease, the builds may be someone else's by now.
      if (clock.monotonicMs() - renewedAtMs > leaseS * 1_000) for (const run of held) run.lose()
    }
  }
  const overtake = async () => {
    try {
      const count = await overtakeCancelled(o.ends, cancelPatienceMs, clock.now())
      if (count > 0) log.warn({ builds: count }, 'cancelled builds whose owner did not answer')
    } catch (error) {
      log.debug({ err: error }, 'cancelled builds could not be looked at')
    }
  }

  const wake = await subscribe(sql, queueChannel, fill, fill)
  const cancels = await subscribe(sql, cancelChannel, buildId => runs.get(buildId)?.cancel())
  const polling = setInterval(() => {
    fill()
    void overtake()
  }, pollEveryMs)
  const beating = setInterval(() => void beat(), heartbeatMs)
  await beat()
  fill()
  let closing: Promise<void> | undefined

  return {
    running: () => [...runs.values()],
    isConnected: () => isConnected,
    close(drainMs) {
      closing ??= drain(drainMs)
      return closing
    },
  }

  /** No new builds; those that run may finish for `drainMs`, the rest goes back into the queue. */
  async function drain(drainMs: number) {
    isClosing = true
    clearInterval(polling)
    await filling
    const ended = () => Promise.all([...runs.values()].map(run => run.ended))
    let timer: NodeJS.Timeout | undefined
    const patience = new Promise<void>(resolve => {
      timer = setTimeout(resolve, drainMs)
    })
    await Promise.race([ended(), patience])
    clearTimeout(timer)
    for (const run of runs.values()) run.drain()
    await ended()
    clearInterval(beating)
    await wake.close()
    await cancels.close()
  }
}
