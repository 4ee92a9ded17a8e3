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
  /** Runs `then` once it has replayed all that is committed now; at once when it is no replica. */
  afterReplay(then: () => void): void
  health(): HealthCheck
  close(): Promise<void>
}

const lookEveryMs = 1_000
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

  let isLooking = false
  const timer = setInterval(() => {
    // A server that hangs must not collect statements.
    if (isLooking) return
    isLooking = true
    look()
      .catch(error => fail(error instanceof Error ? error.message : String(error)))
      .finally(() => {
        isLooking = false
      })
  }, lookEveryMs)
  timer.unref()

  const replayed = async (): Promise<boolean> => {
    const [end] = await primary<{ lsn: string }[]>`select pg_current_wal_lsn()::text as lsn`
    for (;;) {
      const [row] = await sql<{ isThere: boolean }[]>`
        select coalesce(pg_last_wal_replay_lsn() >= ${end?.lsn ?? '0/0'}::pg_lsn, true) as "isThere"`
      if (row?.isThere) return true
      await new Promise(resolve => setTimeout(resolve, 100).unref())
    }
  }

  return {
    sql,
    get watermarkUs() {
      return watermarkUs
    },
    afterReplay(then) {
      const tryAgain = () => {
        // Nobody reads from it now: it says so itself when it is back, and by then it has replayed more.
        if (watermarkUs === undefined) return void setTimeout(tryAgain, lookEveryMs).unref()
        replayed().then(then, () => void setTimeout(tryAgain, lookEveryMs).unref())
      }
      tryAgain()
    },
    health: () => (problem === undefined ? { status: 'ok' } : { status: 'degraded', detail: problem }),
    async close() {
      clearInterval(timer)
      await sql.end({ timeout: 2 })
    },
  }
}
