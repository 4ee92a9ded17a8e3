// Queries from a streaming replica of the database (READ_URL), as long as it answers and keeps up; otherwise from the
// database itself. What is stored, ruled, deleted or alerted on never goes through here.

import type { HealthCheck } from '#platform/http'
import { openSql, type Sql } from '#platform/postgres'
import type { Logger } from '#platform/telemetry'
import type { Clock } from '#platform/time'
import { throughPooler } from '../store/pooler.ts'

export interface ReadReplica {
  readonly sql: Sql
  /** Everything accepted before is there, in µs; undefined while it is not to be asked. */
  readonly watermarkUs: bigint | undefined
  /** Runs `then` once it has replayed all that is committed now, or can only be asked again when it has; at once when it is
   *  no replica. */
  afterReplay(then: () => void): void
  health(): HealthCheck
  close(): Promise<void>
}

const lookEveryMs = 1_000
const replayEveryMs = 200
/** So long it may take to answer. */
const patienceMs = 3_000
/** Further behind than this, its answers are too old to be worth the relief. */
const lagMaxMs = 30_000

export async function openReadReplica(o: {
  url: string
  /** The database itself. */
  primary: Sql
  /** Which row of purser_logs.replicas is ours. */
  replica: string
  poolMax: number
  statementTimeoutMs: number
  clock: Clock
  log: Logger
}): Promise<ReadReplica> {
  const { primary, clock, log } = o
  const url = await throughPooler(o.url, log)
  const sql = openSql({
    url,
    max: o.poolMax,
    applicationName: 'log-ingestion queries',
    statementTimeoutMs: o.statementTimeoutMs,
    log,
  })
  let watermarkUs: bigint | undefined
  let problem: string | undefined = 'not asked yet'

  const look = async () => {
    // Our own note: committed behind everything that it speaks of, so it is replayed behind it as well.
    const [row] = await sql<{ us: bigint; seenMs: bigint }[]>`
      select (extract(epoch from watermark) * 1000000)::int8 as us, (extract(epoch from seen_at) * 1000)::int8 as "seenMs"
      from purser_logs.replicas where replica = ${o.replica}::uuid`
    if (!row) return fail('it knows nothing of this service: it is no copy of the database, or has not caught up yet')
    const lagMs = clock.now() - Number(row.seenMs)
    if (lagMs > lagMaxMs) return fail(`it is ${Math.round(lagMs / 1_000)} s behind`)
    if (problem !== undefined) log.info('queries go to the read replica')
    problem = undefined
    watermarkUs = row.us
  }
  const fail = (why: string) => {
    if (watermarkUs !== undefined)
      log.warn({ problem: why }, 'queries go to the database itself: the read replica fell out')
    problem = why
    watermarkUs = undefined
  }

  let lookingSinceMs: number | undefined
  const timer = setInterval(() => {
    // A server that hangs must not collect statements, nor queries.
    if (lookingSinceMs !== undefined) {
      if (clock.monotonicMs() - lookingSinceMs > patienceMs) fail('it does not answer')
      return
    }
    lookingSinceMs = clock.monotonicMs()
    look()
      .catch(error => fail(error instanceof Error ? error.message : String(error)))
      .finally(() => {
        lookingSinceMs = undefined
      })
  }, lookEveryMs)
  timer.unref()

  /** Where the database is now. */
  const endOf = async (): Promise<string> => {
    const [end] = await primary<{ lsn: string }[]>`select pg_current_wal_lsn()::text as lsn`
    return end?.lsn ?? '0/0'
  }
  const hasReplayed = async (lsn: string): Promise<boolean> => {
    const [row] = await sql<{ isThere: boolean }[]>`
      select coalesce(pg_last_wal_replay_lsn() >= ${lsn}::pg_lsn, true) as "isThere"`
    return row?.isThere ?? false
  }
  /** Whoever is asked after so long is less than `lagMaxMs` behind, and so has what was committed before. */
  const forgetAfterMs = lagMaxMs + patienceMs + 2 * lookEveryMs
  let isClosed = false

  return {
    sql,
    get watermarkUs() {
      return watermarkUs
    },
    afterReplay(then) {
      const beganMs = clock.monotonicMs()
      let end: string | undefined
      const tryNow = async () => {
        if (isClosed) return
        try {
          end ??= await endOf()
          if (watermarkUs !== undefined && (await hasReplayed(end))) return then()
        } catch {
          // One of the two is away for the moment.
        }
        if (clock.monotonicMs() - beganMs > forgetAfterMs) return then()
        setTimeout(() => void tryNow(), replayEveryMs).unref()
      }
      void tryNow()
    },
    health: () => (problem === undefined ? { status: 'ok' } : { status: 'degraded', detail: problem }),
    async close() {
      isClosed = true
      clearInterval(timer)
      await sql.end({ timeout: 2 })
    },
  }
}
