// Usage on its way to billaged: written in the transaction that makes the fact true, sent afterwards, forgotten on 204.
//
//   report() in the caller's transaction ──commit──▶ waiting ──204──▶ deleted
//                                                       │  ▲
//                    4xx that means these events (400…) │  │ revive()
//                    or older than `waitMsMax`          ▼  │
//                                                      dead: kept with status and reason, counted, shown in /health
//
// Exactly once, by (source, id): a retried report inserts once; a row sent twice (a crash between the answer and the
// delete, a lost answer) is one event to billaged, which knows the pair. Order carries no meaning.
//
// billaged away: rows wait and nothing else suffers. The sender backs off from 100 ms to 30 s with jitter. Several
// replicas send side by side: each locks the rows of its batch for the length of one request (SKIP LOCKED), so a killed
// one gives them back at once. That takes one connection of the given pool while a request runs.
//
// At `rowsMax` rows, dead ones included, an event is not stored any more: it goes whole into the log, at level error,
// and into a counter. Failing the caller's transaction instead would turn a billing outage into an outage of everything.

import { setMaxListeners } from 'node:events'
import type { HealthCheck } from '../http/health.ts'
import type { Queryable, Sql } from '../postgres.ts'
import type { Logger, Registry } from '../telemetry.ts'
import { mintToken } from '../tenancy/token.ts'
import { type Clock, formatDuration, sleep } from '../time.ts'
import { encodeEvent, storable, type UsageEvent } from './event.ts'
import { outboxMetrics } from './metrics.ts'
import { createPoster, settle } from './post.ts'
import {
  type Backlog,
  buryOld,
  buryRow,
  countAttempt,
  createOutboxTable,
  deleteRows,
  insertRows,
  lockRows,
  readBacklog,
  reviveRows,
  type WaitingRow,
} from './table.ts'

export type { UsageEvent } from './event.ts'

export interface OutboxOptions {
  sql: Sql
  /** The owner's schema; the table is `<schema>.usage_outbox`. */
  schema: string
  service: string
  /** With the service it makes the CloudEvents source, `/purser/<service>/<clusterId>`: the same on all replicas. */
  clusterId: string
  /** Without it the integration is off: nothing is stored, nothing sent, and `status` says so. */
  billagedUrl?: string | undefined
  secret: Buffer
  log: Logger
  clock: Clock
  registry: Registry
  /** Most rows kept, dead ones included: about half a gigabyte. */
  rowsMax?: number
  /** How long an event waits before it is buried. Three billing months. */
  waitMsMax?: number
}

export interface Outbox {
  /** Inside the caller's transaction; the event is sent if and when that commits. Ids known already change nothing. */
  report(tx: Queryable, events: readonly UsageEvent[]): Promise<void>
  /** Sends all that is committed, now. @throws {Error} at the first batch that does not get through */
  flush(): Promise<void>
  /** Puts dead rows back into the queue, after whatever was wrong with them or with billaged is mended. */
  revive(): Promise<number>
  status(): HealthCheck
  /** Ends the request under way, or gives it up after 5 s; its rows are sent again by whoever comes next. */
  close(): Promise<void>
}

const batchRowsMax = 100
const batchBytesMax = 1024 * 1024
const backoffMsMin = 100
const backoffMsMax = 30_000
/** How often the table is looked at: soon after a report of ours, rarely otherwise (other replicas send their own). */
const busyPollMs = 250
const idlePollMs = 5_000
/** How old the count behind metrics and `status` may be. Failing passes are rare and count every time. */
const backlogAgeMsMax = 10_000
const busyBacklogAgeMsMax = 1_000
const closeTimeoutMs = 5_000
const defaultRowsMax = 1_000_000
const defaultWaitMsMax = 90 * 24 * 3_600_000

export async function openOutbox(o: OutboxOptions): Promise<Outbox> {
  const { sql, schema, log, clock, billagedUrl } = o
  if (billagedUrl === undefined) return outboxThatIsOff()
  const { rowsMax = defaultRowsMax, waitMsMax = defaultWaitMsMax } = o
  const source = `/purser/${o.service}/${o.clusterId}`
  const poster = createPoster({
    url: new URL('/api/v1/events', billagedUrl),
    // Any role: it is the subject that may post events, and nothing else.
    token: () => mintToken(o.secret, { audience: 'billaged', role: 'viewer', subject: 'usage', clock }),
  })
  await createOutboxTable(sql, schema)
  let backlog: Backlog = await readBacklog(sql, schema)
  let backlogReadMs = clock.monotonicMs()
  let reportedSince = 0
  /** Until then the table is looked at often: a report of ours is about to commit, or rows wait for their time. */
  let busyUntilMs = Number.NEGATIVE_INFINITY
  let failure: { reason: string; count: number } | undefined
  let isBacklogWrong = false
  const metrics = outboxMetrics(o.registry, { backlog: () => backlog, now: () => clock.now() })
  const stop = new AbortController()
  const abortRequest = new AbortController()
  // A request listens while it runs; a hundred of a halved batch are no leak.
  setMaxListeners(0, abortRequest.signal)
  let wake = () => {}

  const refreshBacklog = async () => {
    const waitedFor = formatDuration(waitMsMax)
    const buried = await buryOld(sql, schema, clock.now() - waitMsMax, `waited longer than ${waitedFor}`)
    if (buried > 0) {
      metrics.dead(buried)
      log.error({ events: buried, waitedFor }, 'usage events were given up; they are kept as dead and can be revived')
    }
    isBacklogWrong = false
    const reportedBefore = reportedSince
    backlog = await readBacklog(sql, schema)
    backlogReadMs = clock.monotonicMs()
    reportedSince -= reportedBefore
  }

  /** One batch, in one transaction; what it says is whether there may be more. @throws {Error} when it did not get through */
  const sendBatch = async (isAll: boolean): Promise<'nothing' | 'last' | 'more'> => {
    const outcome = await sql.begin(async tx => {
      const locked = await lockRows(tx, schema, { rowsMax: batchRowsMax, isAll })
      const rows = nextBatch(locked)
      if (rows.length === 0) return undefined
      const settled = await settle(rows, events => poster.post(events, abortRequest.signal))
      await deleteRows(tx, schema, settled.stored)
      for (const { row, status, reason } of settled.refused) await buryRow(tx, schema, row, status, reason)
      if (settled.failure?.isAnswered) await countAttempt(tx, schema, settled.left)
      return { ...settled, hasMore: locked.length === batchRowsMax || rows.length < locked.length }
    })
    if (!outcome) return 'nothing'
    const { stored, refused, hasMore } = outcome
    metrics.sent(stored.length)
    metrics.dead(refused.length)
    for (const { row, status, reason } of refused) {
      isBacklogWrong = true
      log.error({ seq: row.seq.toString(), status, reason }, 'billaged refused a usage event; it is kept as dead')
    }
    if (outcome.failure) {
      if (outcome.failure.isAnswered) busyUntilMs = clock.monotonicMs() + backoffMsMax
      throw new PostFailed(outcome.failure.reason, outcome.failure.retryAfterMs)
    }
    return hasMore ? 'more' : 'last'
  }

  const sendAll = async (isAll: boolean) => {
    for (;;) {
      const found = await sendBatch(isAll)
      // It takes some: what it does not take is no outage. Finding nothing proves nothing, rows may wait for their time.
      if (found !== 'nothing') isThrough()
      if (found !== 'more' || stop.signal.aborted) return
    }
  }

  const isThrough = () => {
    if (failure) log.info({ failures: failure.count }, 'usage events reach billaged again')
    failure = undefined
  }

  let sending: Promise<void> = Promise.resolve()
  /** The loop and flush() take turns. */
  const inTurn = (work: () => Promise<void>): Promise<void> => {
    const turn = sending.then(work)
    sending = turn.catch(() => {})
    return turn
  }

  const pass = async (isAll: boolean) => {
    try {
      await sendAll(isAll)
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      failure = { reason, count: (failure?.count ?? 0) + 1 }
      const of = error instanceof PostFailed ? 'billaged' : 'database'
      metrics.failed(of)
      if (failure.count === 1) log.warn({ err: error }, `usage events wait: the trouble is with ${of}`)
      throw error
    } finally {
      // Also when a pass failed: the age of what waits is most wanted then. The table may be as far away as billaged.
      const ageMs = clock.monotonicMs() - backlogReadMs
      const ageMsMax =
        failure !== undefined || isBacklogWrong ? 0 : reportedSince > 0 ? busyBacklogAgeMsMax : backlogAgeMsMax
      if (ageMs >= ageMsMax) await refreshBacklog().catch(error => log.debug({ err: error }, 'usage backlog unknown'))
    }
    if (backlog.waiting === 0) isThrough()
  }

  const run = async () => {
    while (!stop.signal.aborted) {
      const delayMs = await inTurn(() => pass(false)).then(
        () => (clock.monotonicMs() < busyUntilMs ? busyPollMs : idlePollMs),
        error => Math.max(backoffMs(failure?.count ?? 1), error instanceof PostFailed ? error.retryAfterMs : 0),
      )
      await pause(delayMs, delayMs === idlePollMs)
    }
  }

  /** Ends early on close, and on a report when there is no reason to hold back. */
  const pause = async (delayMs: number, isInterruptible: boolean) => {
    const early = new AbortController()
    if (isInterruptible) wake = () => early.abort()
    await sleep(delayMs, AbortSignal.any([stop.signal, early.signal])).catch(() => {})
    wake = () => {}
  }

  const running = run()

  return {
    async report(tx, events) {
      const rows = events.map(event => ({ source, id: storable(event.id), event: encodeEvent(event, source) }))
      const room = Math.max(0, rowsMax - backlog.waiting - backlog.dead - reportedSince)
      for (const { event } of rows.slice(room)) {
        metrics.lost()
        log.error({ event }, `usage event not stored: the outbox holds ${rowsMax} rows. Mend billaged or the dead rows`)
      }
      reportedSince += await insertRows(tx, schema, rows.slice(0, room))
      busyUntilMs = Math.max(busyUntilMs, clock.monotonicMs() + idlePollMs)
      wake()
    },
    async flush() {
      await inTurn(() => pass(true))
    },
    async revive() {
      const revived = await reviveRows(sql, schema)
      await refreshBacklog()
      wake()
      return revived
    },
    status() {
      const { waiting, dead, oldestMs } = backlog
      const age = oldestMs === null ? '' : `, the oldest for ${formatDuration(Math.max(0, clock.now() - oldestMs))}`
      const parts = [
        ...(failure ? [`${waiting} usage events wait${age}: ${failure.reason}`] : []),
        ...(dead > 0 ? [`${dead} usage events were refused and wait for a person (${schema}.usage_outbox)`] : []),
      ]
      return parts.length === 0 ? { status: 'ok' } : { status: 'degraded', detail: parts.join('; ') }
    },
    async close() {
      stop.abort()
      const giveUp = setTimeout(() => abortRequest.abort(), closeTimeoutMs)
      await running
      await sending
      clearTimeout(giveUp)
      await poster.close()
    },
  }
}

class PostFailed extends Error {
  readonly retryAfterMs: number

  constructor(reason: string, retryAfterMs: number) {
    super(reason)
    this.name = 'PostFailed'
    this.retryAfterMs = retryAfterMs
  }
}

/** Doubling, and of that a random half at most less: replicas that lost billaged together do not return in step. */
function backoffMs(failures: number): number {
  const full = Math.min(backoffMsMax, backoffMsMin * 2 ** Math.min(failures - 1, 20))
  return full * (0.5 + Math.random() / 2)
}

/**
 * Of the rows locked, what goes into one body; at least one. Only rows that failed equally often travel together, in
 * batches half as large after each failure: events on which billaged breaks end up alone without being given up.
 */
function nextBatch(rows: readonly WaitingRow[]): WaitingRow[] {
  const attempts = rows[0]?.attempts ?? 0
  const rowsMax = Math.max(1, batchRowsMax >> Math.min(attempts, 7))
  let bytes = 2
  const end = rows.findIndex((row, i) => {
    bytes += Buffer.byteLength(row.event) + 1
    return i > 0 && (i >= rowsMax || row.attempts !== attempts || bytes > batchBytesMax)
  })
  return rows.slice(0, end < 0 ? rows.length : end)
}

function outboxThatIsOff(): Outbox {
  return {
    report: async () => {},
    flush: async () => {},
    revive: async () => 0,
    status: () => ({ status: 'ok', detail: 'off: PURSER_BILLAGED_URL is not set' }),
    close: async () => {},
  }
}
