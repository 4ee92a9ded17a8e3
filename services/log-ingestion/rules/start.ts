// What tenants set, put to work: the rule book, alerts with their webhooks, deletions, expiry. Made once, by service.ts.

import { randomUUID } from 'node:crypto'
import { join, resolve, sep } from 'node:path'
import type { FastifyInstance } from 'fastify'
import { Counter, Gauge, type Registry } from 'prom-client'
import { deniedNetworks } from '#platform/network'
import type { Sql } from '#platform/postgres'
import type { Logger } from '#platform/telemetry'
import { deriveKey } from '#platform/tenancy/secret'
import type { Tenancy } from '#platform/tenancy/tenancy'
import { type Clock, sleep } from '#platform/time'
import { createEvidenceKey } from '../evidence-key.ts'
import { addAlerts } from '../http/alerts.ts'
import type { QueryContext } from '../http/context.ts'
import { addDeletions } from '../http/deletions.ts'
import { addLimits } from '../http/limits.ts'
import { addRedaction } from '../http/redaction.ts'
import { addRetention } from '../http/retention.ts'
import { addSearches } from '../http/searches.ts'
import type { Redaction } from '../json/metadata.ts'
import { sweepAlerts } from '../store/rules/alerts.ts'
import { forgetReplica, noteWatermark } from '../store/rules/leases.ts'
import type { Store } from '../store/store.ts'
import { createEvaluator, type Evaluator } from './alerts.ts'
import { parseSpan } from './definitions.ts'
import { type DeletionMemory, openDeletionMemory } from './deletion-memory.ts'
import { runDeletions, runExpiry } from './deletions.ts'
import { type LeaseLoop, startLeaseLoop } from './lease-loop.ts'
import { openRuleBook, type RuleBook } from './rule-book.ts'
import { createWebhookSender } from './webhook.ts'

export interface Rules {
  readonly book: RuleBook
  readonly deletions: DeletionMemory
  /** Whether reads may be answered: before, nobody knows what is hidden and what has expired. */
  readonly isReady: boolean
  connect(parts: { reads: Sql; store: Store }): Promise<void>
  reload(settings: RuleSettings): void
  addRoutes(
    app: FastifyInstance,
    context: QueryContext,
    more: { tenancy: () => Tenancy | undefined; decoderRedaction: Redaction },
  ): void
  /** Nothing is accepted any more, and what could be stored is stored. */
  drained(parts: { reads: Sql }): Promise<void>
  close(): Promise<void>
}

/** The settings behind it; a reload brings others. */
export interface RuleSettings {
  retention: string | undefined
  redactKeys: readonly string[]
  redactPatterns: readonly string[]
  webhookDeny: readonly string[]
}

export interface RulesOptions {
  config: RuleSettings
  /** State of this replica. */
  dir: string
  /** The embedded database keeps its files somewhere below. */
  installationDir: string
  secret: Buffer
  replica: string
  watermarkUs: () => bigint
  pendingRows: () => number
  /** The database came back from a backup. */
  onOlderDatabase: () => void
  clock: Clock
  log: Logger
  registry: Registry
}

const ownDatabaseKeepMs = 30 * 86_400_000
const noteEveryMs = 2_000
const alertsEveryMs = 2_000
const eraseEveryMs = 5_000
/** Expired entries are invisible at once; their disk may wait this long. */
const expireEveryMs = 10 * 60_000

export async function startRules(o: RulesOptions): Promise<Rules> {
  const { clock, log, registry } = o
  let settings = o.config
  let isOwnDatabase = false
  /** What was noted for this replica was said before it knew how old the database is. */
  let mayGoBack = false
  const defaultKeepMs = () => {
    const { retention } = settings
    if (retention === undefined) return isOwnDatabase ? ownDatabaseKeepMs : null
    return retention === 'forever' ? null : parseSpan(retention)
  }
  const deletions = await openDeletionMemory({ file: join(o.dir, 'deletions.json'), clock, log })
  const book = await openRuleBook({
    defaultKeepMs,
    settings: () => settings,
    file: join(o.dir, 'redaction-rules.json'),
    deletions,
    onOlderDatabase() {
      mayGoBack = true
      o.onOlderDatabase()
    },
    clock,
    log,
  })
  let denied = deniedNetworks(settings.webhookDeny)
  const sender = createWebhookSender({ has: address => denied.has(address) })
  const webhookKey = deriveKey(o.secret, 'alert webhook')
  const metrics = createRuleMetrics(registry, () => evaluator)
  const loops: LeaseLoop[] = []
  let evaluator: Evaluator | undefined
  let noting: NodeJS.Timeout | undefined
  let isReady = false
  const closing = new AbortController()

  const startLoops = ({ reads: sql, store }: { reads: Sql; store: Store }) => {
    const holder = randomUUID()
    const started = createEvaluator({ sql, store, sender, webhookKey, clock, log, ...metrics })
    evaluator = started
    const eraser = {
      sql,
      store,
      rules: book,
      evidence: createEvidenceKey(o.secret),
      digestKey: deriveKey(o.secret, 'tombstone digest'),
      clock,
      log,
      removed: metrics.removed,
    }
    let expiredAtMs = Number.NEGATIVE_INFINITY
    let expiredUnder: unknown
    const common = { holder, sql, log }
    loops.push(
      startLeaseLoop({
        ...common,
        name: 'alerts',
        everyMs: alertsEveryMs,
        work: (lease, signal) => started.round(lease, signal),
      }),
      startLeaseLoop({
        ...common,
        name: 'erasure',
        everyMs: eraseEveryMs,
        async work(lease, signal) {
          await runDeletions(eraser, lease, signal)
          // New rules act at once: who shortens a retention wants to see the disk move.
          if (expiredUnder === book.retention && clock.monotonicMs() - expiredAtMs < expireEveryMs) return
          const rules = book.retention
          await runExpiry(eraser, lease, signal)
          await sweepAlerts(sql, clock.now())
          expiredAtMs = clock.monotonicMs()
          expiredUnder = rules
        },
      }),
    )
  }

  const attach = async (parts: { reads: Sql; store: Store }) => {
    isOwnDatabase = await isBelow(parts.reads, o.installationDir)
    await book.connect({ sql: parts.reads, store: parts.store })
    const note = async () => {
      const goesBack = mayGoBack
      await noteWatermark(parts.reads, o.replica, o.watermarkUs(), goesBack)
      if (goesBack) mayGoBack = false
    }
    await note()
    isReady = true
    if (noting) return
    let isNoting = false
    noting = setInterval(() => {
      // A database that hangs must not collect statements.
      if (isNoting) return
      isNoting = true
      note()
        .catch(() => {})
        .finally(() => {
          isNoting = false
        })
    }, noteEveryMs)
    noting.unref()
    startLoops(parts)
  }

  return {
    book,
    deletions,
    get isReady() {
      return isReady
    },
    async connect(parts) {
      // The database may leave again at any moment; what is already up must not be torn down for it.
      while (!closing.signal.aborted) {
        try {
          await attach(parts)
          return
        } catch (error) {
          log.warn({ err: error }, 'rules of tenants could not be read; reads wait for them')
          await sleep(1_000, closing.signal).catch(() => {})
        }
      }
    },
    reload(next) {
      settings = next
      denied = deniedNetworks(next.webhookDeny)
      void book.settingsChanged().catch(error => log.warn({ err: error }, 'retention is applied with the next round'))
      for (const loop of loops) loop.wake()
    },
    addRoutes(app, context, more) {
      const full = {
        ...context,
        ...more,
        rules: book,
        webhookKey,
        sender,
        wakeWorker: () => {
          for (const loop of loops) loop.wake()
        },
      }
      addSearches(app, full)
      addAlerts(app, full)
      addRetention(app, full)
      addRedaction(app, full)
      addLimits(app, full)
      addDeletions(app, full)
    },
    async drained({ reads }) {
      // Gone with nothing left to store, it must not hold back the others.
      if (o.pendingRows() === 0) await forgetReplica(reads, o.replica)
      else await noteWatermark(reads, o.replica, o.watermarkUs())
    },
    async close() {
      closing.abort()
      clearInterval(noting)
      await Promise.all(loops.map(loop => loop.close()))
      await book.close()
    },
  }
}

/** Whether the server keeps its files in this installation's folder: then it is ours, made by us. */
async function isBelow(sql: Sql, dir: string): Promise<boolean> {
  const [row] = await sql<{ path: string | null }[]>`select current_setting('data_directory', true) as path`.catch(
    () => [],
  )
  return row?.path != null && resolve(row.path).startsWith(resolve(dir) + sep)
}

function createRuleMetrics(registry: Registry, evaluator: () => Evaluator | undefined) {
  const registers = [registry]
  new Gauge({
    name: 'log_ingestion_alert_rules',
    help: 'Alert rules by state, on the replica that evaluates them.',
    labelNames: ['state'],
    registers,
    collect() {
      this.reset()
      for (const [state, count] of evaluator()?.states() ?? []) this.labels(state).set(count)
    },
  })
  return {
    evaluations: new Counter({
      name: 'log_ingestion_alert_evaluations_total',
      help: 'Verdicts on alert rules: ok, failed, stalled.',
      labelNames: ['result'] as const,
      registers,
    }),
    deliveries: new Counter({
      name: 'log_ingestion_webhook_deliveries_total',
      help: 'Attempts to notify: delivered, retried, failed (given up).',
      labelNames: ['result'] as const,
      registers,
    }),
    removed: new Counter({
      name: 'log_ingestion_removed_rows_total',
      help: 'Entries that left the store: deleted by filter, or expired.',
      labelNames: ['why'] as const,
      registers,
    }),
  }
}
