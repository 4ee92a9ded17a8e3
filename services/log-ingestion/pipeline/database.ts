// The database side, from "not reached yet" to draining, while intake works all the time.
//
//   connecting ──▶ ready          embedded server up or address answers, tables there, directory read, writer running
//   connecting ──▶ connecting     anything of that fails: 100 ms … 10 s, and /health says what and what to grant
//   ready      ──▶ closed         drained
// Outages while ready are the writer's and the pools' own business: they wait and go on.

import type { HealthCheck } from '#platform/http'
import type { Journal } from '#platform/journal'
import { createSilence, isUnavailable, migrate, openSql, resolveDatabase, type Sql } from '#platform/postgres'
import type { Logger, Registry } from '#platform/telemetry'
import { openTenancy, type Tenancy } from '#platform/tenancy/tenancy'
import { type Clock, rfc3339, sleep } from '#platform/time'
import type { BufferPool } from '../buffer-pool.ts'
import { createEvidenceKey } from '../evidence-key.ts'
import { type Encoder, openEncoder } from '../store/columnar/encoder.ts'
import { columnarSink } from '../store/columnar/sink.ts'
import { openStore } from '../store/open-store.ts'
import { throughPooler } from '../store/pooler.ts'
import type { JournalBegin } from '../store/rewound.ts'
import { attachLogsTable } from '../store/rows/logs-table.ts'
import { openDailyPartitions, openPartitions, type Partitions } from '../store/rows/partitions.ts'
import { rowsSink } from '../store/rows/sink.ts'
import type { Store } from '../store/store.ts'
import type { Visibility } from '../store/visibility.ts'
import { type Compactor, startCompactor } from './compactor.ts'
import type { IntakeMetrics } from './metrics.ts'
import { openReadReplica, type ReadReplica } from './read-replica.ts'
import { timedStore } from './timed-store.ts'
import { openWriter, type Writer, type WriterOptions } from './writer.ts'

export interface DatabaseOptions {
  /** For what is read from the journal. */
  pool: BufferPool
  /** Undefined: embedded. */
  url: string | undefined
  /** Of the embedded server. */
  dir: string
  /** A streaming replica for queries. */
  readUrl: string | undefined
  poolMax: number
  statementTimeoutMs: number
  /** Where entries go; what either sink holds is read. */
  storage: 'rows' | 'columnar'
  indexProfile: 'fast' | 'compat'
  /** Whether commits to `rows` are chained. */
  isChained: boolean
  visibility: Visibility
  /** Slugs that environment keys are mapped to; made when missing. */
  tenants: readonly string[]
  secret: Buffer
  journal: Journal
  replica: string
  batchRows: number
  flushIntervalMs: number
  clock: Clock
  log: Logger
  registry: Registry
  metrics: IntakeMetrics
  begin: JournalBegin
  onCommitted: WriterOptions['onCommitted']
  onCaughtUp: WriterOptions['onCaughtUp']
  acceptedRows: WriterOptions['acceptedRows']
  resends: WriterOptions['resends']
  /** Each time all of it is up: once, as things are. */
  onReady: (parts: ReadyDatabase) => void | Promise<void>
  /** Once, while stopping: nothing more is stored. */
  onDrained: (parts: ReadyDatabase) => Promise<void>
}

export interface ReadyDatabase {
  reads: Sql
  writes: Sql
  store: Store
  /** The store as people query it: on the read replica while that answers. */
  readonly queries: Store
  /** Everything accepted before is in `queries`, in µs; undefined: whatever is stored is there. */
  readonly queriesWatermarkUs: bigint | undefined
  writer: Writer
  partitions: Partitions
  tenancy: Tenancy
}

export interface Database {
  readonly parts: ReadyDatabase | undefined
  readonly ready: Promise<void>
  /** What keeps it from being ready, for people. */
  readonly problem: string | undefined
  health(): HealthCheck
  /** Undefined: none was asked for. */
  replicaHealth(): HealthCheck | undefined
  close(drainMs: number): Promise<void>
}

/** Connections for the writer: two batches, and one for partitions and merging. */
const writerPool = 3
const backoffMaxMs = 10_000
/** Beyond the time limit of a statement, for an answer that is on its way. A connection that is cut too early only costs
 *  its batch another attempt. */
const silenceGraceMs = 3_000

export function openDatabase(o: DatabaseOptions): Database {
  const { log, clock } = o
  const closing = new AbortController()
  const ready = Promise.withResolvers<void>()
  const closers: (() => Promise<void>)[] = []
  const silence = {
    writes: createSilence(() => clock.monotonicMs()),
    reads: createSilence(() => clock.monotonicMs()),
  }
  let parts: ReadyDatabase | undefined
  let problem: string | undefined = 'not reached yet'
  let since = rfc3339(clock.now())

  // Kept over attempts: what worked is not done again.
  let server: Awaited<ReturnType<typeof resolveDatabase>> | undefined
  let pools: { writes: Sql; reads: Sql } | undefined
  let tenancy: Tenancy | undefined
  let encoder: Encoder | undefined
  let store: (Store & { close(): Promise<void> }) | undefined
  let compactor: Compactor | undefined
  let writer: Writer | undefined
  let replica: ReadReplica | undefined
  let replicaStore: typeof store

  const connect = async (): Promise<ReadyDatabase> => {
    // Between its steps: what a stop finds half open is not opened further.
    const goOn = () => closing.signal.throwIfAborted()
    if (!server) {
      const opened = await resolveDatabase({ url: o.url, dir: o.dir, log })
      server = opened
      closers.push(() => opened.close())
      goOn()
    }
    if (!pools) {
      const url = o.url === undefined ? server.url : await throughPooler(server.url, log)
      goOn()
      const common = { url, statementTimeoutMs: o.statementTimeoutMs, log }
      const writes = openSql({
        ...common,
        silence: silence.writes,
        max: writerPool,
        applicationName: 'log-ingestion writer',
      })
      const reads = openSql({
        ...common,
        silence: silence.reads,
        max: Math.max(2, o.poolMax - writerPool),
        applicationName: 'log-ingestion',
      })
      pools = { writes, reads }
      closers.push(async () => {
        await Promise.all([writes.end({ timeout: 2 }), reads.end({ timeout: 2 })])
      })
    }
    const { writes, reads } = pools
    const table = await attachLogsTable(writes, { indexProfile: o.indexProfile, log })
    await migrate(writes, {
      schema: 'purser_logs',
      folder: new URL('../migrations/purser_logs/', import.meta.url),
      log,
    })
    if (!tenancy) {
      const opened = await openTenancy({ sql: reads, secret: o.secret, log, clock, registry: o.registry })
      tenancy = opened
      closers.push(() => opened.close())
    }
    goOn()
    for (const slug of o.tenants) await tenancy.tenants.ensure(slug, { kind: 'system', name: 'configuration' })
    const isColumnar = o.storage === 'columnar'
    const partitions = isColumnar
      ? openDailyPartitions(writes, { schema: 'purser_logs', table: 'blocks', boundOf: date => date })
      : openPartitions(writes, table)
    encoder ??= openEncoder()
    const sink = isColumnar
      ? columnarSink({ encoder, partitions })
      : rowsSink({ sql: writes, partitions, isChained: o.isChained })
    goOn()
    // One writer, whatever else of this has to be tried again.
    writer ??= await openWriter({
      journal: o.journal,
      begin: o.begin,
      pool: o.pool,
      replica: o.replica,
      sql: writes,
      sink,
      sequence: table.sequence,
      // Read each time: a reload may change them.
      get batchRows() {
        return o.batchRows
      },
      get flushIntervalMs() {
        return o.flushIntervalMs
      },
      clock,
      log,
      metrics: o.metrics,
      onCommitted: o.onCommitted,
      onCaughtUp: o.onCaughtUp,
      acceptedRows: o.acceptedRows,
      resends: o.resends,
      cutSilent() {
        if (!silence.writes.hasLasted(o.statementTimeoutMs + silenceGraceMs)) return
        const count = silence.writes.cut() + silence.reads.cut()
        if (count > 0) log.warn({ count }, 'the database does not answer; connections to it were cut')
      },
    })
    const common = {
      writes,
      table,
      visibility: o.visibility,
      evidence: createEvidenceKey(o.secret),
      now: () => clock.now(),
    }
    const open = (sql: Sql) => {
      const opened = openStore({ ...common, sql })
      return { ...timedStore(opened, o.metrics.databaseQueried), close: () => opened.close() }
    }
    store ??= open(reads)
    compactor ??= startCompactor({ store, acceptedRows: o.acceptedRows, clock, log })
    if (o.readUrl !== undefined && !replica) {
      const { poolMax, statementTimeoutMs } = o
      replica = await openReadReplica({
        ...{ url: o.readUrl, primary: reads, replica: o.replica, poolMax, statementTimeoutMs, clock, log },
      })
      const opened = replica
      closers.push(() => opened.close())
      replicaStore = open(replica.sql)
    }
    return partsOf({ reads, writes, store, writer, partitions, tenancy })
  }

  const partsOf = (own: Omit<ReadyDatabase, 'queries' | 'queriesWatermarkUs'>): ReadyDatabase => {
    const { store: stored } = own
    if (!replica || !replicaStore) return { ...own, queries: stored, queriesWatermarkUs: undefined }
    const [copy, copied] = [replica, replicaStore]
    const queries: Store = {
      ...copied,
      // Someone who has an id has seen the entry: behind by a moment is no reason not to find it.
      find: async (tenant, id) => (await copied.find(tenant, id)) ?? (await stored.find(tenant, id)),
    }
    return {
      ...own,
      // What was deleted is shown no earlier than it is gone from the copy as well.
      store: { ...stored, hide: deletion => copy.afterReplay.bind(copy, stored.hide(deletion)) },
      get queries() {
        return copy.watermarkUs === undefined ? stored : queries
      },
      get queriesWatermarkUs() {
        return copy.watermarkUs
      },
    }
  }

  const keepConnecting = async () => {
    for (let attempt = 0; !closing.signal.aborted; attempt++) {
      try {
        const opened = await connect()
        parts = opened
        problem = undefined
        since = rfc3339(clock.now())
        await o.onReady(opened)
        log.info({ attempt }, 'database ready')
        ready.resolve()
        return
      } catch (error) {
        if (closing.signal.aborted) return
        const message = error instanceof Error ? error.message : String(error)
        if (message !== problem)
          log.error({ err: error }, 'the database is not usable yet; entries wait in the journal')
        problem = message
        const ms = isUnavailable(error) ? Math.min(backoffMaxMs, 100 * 2 ** Math.min(attempt, 10)) : backoffMaxMs / 2
        await sleep(ms * (0.75 + Math.random() / 2), closing.signal).catch(() => {})
      }
    }
  }
  const connecting = keepConnecting()

  return {
    get parts() {
      return parts
    },
    ready: ready.promise,
    get problem() {
      return problem ?? parts?.writer.status().problem
    },
    health() {
      if (!parts) return { status: 'down', since, detail: problem ?? 'not reached yet' }
      const status = parts.writer.status()
      if (status.isHealthy) return { status: 'ok' }
      return {
        status: 'down',
        detail: status.problem ?? 'commits fail',
        ...(status.since ? { since: status.since } : {}),
      }
    },
    replicaHealth: () => replica?.health(),
    async close(drainMs) {
      closing.abort()
      // Whatever it waits for there ends with its connections; a writer that exists has its own time.
      if (!parts && !writer && pools)
        await Promise.all([pools.writes.end({ timeout: 0 }), pools.reads.end({ timeout: 0 })])
      await connecting
      await writer?.close(drainMs)
      // A database that is away must not keep us from stopping.
      if (parts?.writer.status().isHealthy) {
        const lastWord = o.onDrained(parts).catch(error => log.debug({ err: error }, 'the last word was not written'))
        await Promise.race([lastWord, sleep(1_000)])
      }
      await compactor?.close()
      await Promise.all([encoder?.close(), store?.close(), replicaStore?.close()])
      for (let close = closers.pop(); close; close = closers.pop())
        await close().catch(error => log.warn({ err: error }, 'a part of the database side did not close cleanly'))
    },
  }
}
