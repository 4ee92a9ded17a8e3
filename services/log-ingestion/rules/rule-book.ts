// Everything that tenants have set, in memory, the same on every replica within seconds.
//
// Replicas look at one small table of counters every two seconds and read again what changed: that works behind a pooler,
// where LISTEN does not. A change made here is in force here before it is answered.
//
// Redaction must hold while the database is away, at the start too: its rules are also kept in the data directory.

import { readFile, rename, writeFile } from 'node:fs/promises'
import type { Sql } from '#platform/postgres'
import type { Logger } from '#platform/telemetry'
import type { Clock } from '#platform/time'
import { parseQuery } from '../query/parse.ts'
import { loadDeletionsSince, loadRunningDeletions } from '../store/rules/deletions.ts'
import { type ChangeKind, loadRevisions, loadRules, type StoredRule } from '../store/rules/rules.ts'
import type { Store } from '../store/store.ts'
import type { Deletion, RetentionRule } from '../store/visibility.ts'
import { redactionDefinition } from './definitions.ts'
import type { DeletionMemory } from './deletion-memory.ts'
import { type Limits, limitsOf, noLimits } from './limits.ts'
import { compileRedaction, type RedactionRule, type RowRedaction, settingsRules } from './redaction.ts'
import { longestKeepMs, retentionRules } from './retention.ts'

export interface RuleBook {
  readonly limits: Limits
  readonly retention: readonly RetentionRule[]
  /** Entries older than this have outlived everything the tenant keeps. Undefined: no limit. */
  oldestAllowedMs(tenant: string): number | undefined
  /** Undefined: nothing beyond what decoders do. */
  redactionOf(tenant: string): RowRedaction | undefined
  /** The same with one more rule, for previews. */
  redactionWith(tenant: string, rules: readonly RedactionRule[]): RowRedaction | undefined
  /** Reads everything; from then on changes of others are noticed. Reads of entries must wait for it. */
  connect(o: { sql: Sql; store: Store }): Promise<void>
  /** Reads again what changed. */
  refresh(): Promise<void>
  /** Other settings are in force from here on. */
  settingsChanged(): Promise<void>
  close(): Promise<void>
}

export interface RuleBookOptions {
  /** Asked again whenever rules are read. */
  defaultKeepMs: () => number | null
  /** Patterns are built-in names, or `name=pattern`. Asked again after `settingsChanged`. */
  settings: () => { redactKeys: readonly string[]; redactPatterns: readonly string[] }
  /** Where redaction rules are kept for a start without the database. */
  file: string
  deletions: DeletionMemory
  /** It did not know of something that it knew. */
  onOlderDatabase: () => void
  clock: Clock
  log: Logger
}

const lookEveryMs = 2_000
/** A replica that was away for longer hears of deletions that are done by then from nobody, and has nothing to add. */
const heardWithinMs = 7 * 86_400_000
const kinds: readonly ChangeKind[] = ['limits', 'retention_rules', 'redaction_rules', 'deletions']

export async function openRuleBook(o: RuleBookOptions): Promise<RuleBook> {
  const { clock, log } = o
  let limits: Limits = noLimits
  let retention: readonly RetentionRule[] = retentionRules(o.defaultKeepMs(), [])
  let redactionRules: readonly StoredRule[] = await readSnapshot(o.file)
  let redactions = new Map<string, RowRedaction | undefined>()
  const seen = new Map<string, bigint>()
  /** Shows again what a deletion hid, by its id. */
  const hidden = new Map<string, () => void>()
  let connected: { sql: Sql; store: Store } | undefined
  let isClosed = false

  const rulesOf = (tenant: string): RedactionRule[] => [
    ...settingsRules(o.settings().redactPatterns),
    ...redactionRules.filter(rule => rule.tenant === tenant).flatMap(rule => asRedactionRule(rule, log)),
  ]

  const read = async ({ sql, store }: { sql: Sql; store: Store }, kind: ChangeKind): Promise<void> => {
    switch (kind) {
      case 'limits':
        limits = limitsOf(await loadRules(sql, kind))
        return
      case 'retention_rules':
        retention = retentionRules(o.defaultKeepMs(), await loadRules(sql, kind))
        store.setRetention(retention)
        return
      case 'redaction_rules':
        redactionRules = await loadRules(sql, kind)
        redactions = new Map()
        await writeSnapshot(o.file, redactionRules).catch(error =>
          log.warn(
            { err: error },
            'redaction rules were not kept on disk: a start without the database would not know them',
          ),
        )
        return
      case 'deletions':
        if ((await o.deletions.restore(sql)) > 0) o.onOlderDatabase()
        hideAsStored(store, await loadRunningDeletions(sql))
        // One may have begun and ended between two looks.
        await o.deletions.note(await loadDeletionsSince(sql, clock.now() - heardWithinMs))
        return
      case 'searches':
      case 'alert_rules':
        return
      default:
        return kind satisfies never
    }
  }

  const hideAsStored = (store: Store, running: readonly (Omit<Deletion, 'query'> & { q: string })[]) => {
    for (const { q, ...deletion } of running)
      if (!hidden.has(deletion.id)) hidden.set(deletion.id, store.hide({ ...deletion, query: parseQuery(q) }))
    const ids = new Set(running.map(({ id }) => id))
    for (const [id, show] of hidden) {
      if (ids.has(id)) continue
      show()
      hidden.delete(id)
    }
  }

  let turn: Promise<void> = Promise.resolve()
  const refresh = (): Promise<void> => {
    const parts = connected
    if (!parts || isClosed) return Promise.resolve()
    const next = turn.then(async () => {
      const revisions = await loadRevisions(parts.sql)
      for (const kind of kinds) {
        const revision = revisions.get(kind) ?? 0n
        if (seen.get(kind) === revision) continue
        await read(parts, kind)
        seen.set(kind, revision)
      }
    })
    turn = next.catch(() => {})
    return next
  }

  let isFailing = false
  let isLooking = false
  const timer = setInterval(() => {
    // A database that hangs must not collect statements.
    if (isLooking) return
    isLooking = true
    const look = refresh().finally(() => {
      isLooking = false
    })
    look.then(
      () => {
        isFailing = false
      },
      error => {
        if (!isFailing && !isClosed)
          log.warn({ err: error }, 'rules could not be read again; those known stay in force')
        isFailing = true
      },
    )
  }, lookEveryMs)
  timer.unref()

  return {
    get limits() {
      return limits
    },
    get retention() {
      return retention
    },
    oldestAllowedMs(tenant) {
      const keepMs = longestKeepMs(retention, tenant)
      return keepMs === null ? undefined : clock.now() - keepMs
    },
    redactionOf(tenant) {
      if (redactions.has(tenant)) return redactions.get(tenant)
      const compiled = compileRedaction(o.settings().redactKeys, rulesOf(tenant))
      if (redactions.size > 10_000) redactions.clear()
      redactions.set(tenant, compiled)
      return compiled
    },
    redactionWith: (tenant, rules) => compileRedaction(o.settings().redactKeys, [...rulesOf(tenant), ...rules]),
    async connect(parts) {
      connected = parts
      // At least the default, which may depend on the database.
      await read(parts, 'retention_rules')
      await refresh()
    },
    refresh,
    async settingsChanged() {
      redactions = new Map()
      if (connected) await read(connected, 'retention_rules')
    },
    async close() {
      isClosed = true
      clearInterval(timer)
    },
  }
}

function asRedactionRule({ name, definition }: StoredRule, log: Logger): RedactionRule[] {
  const parsed = redactionDefinition.safeParse(definition)
  if (!parsed.success) {
    log.error({ rule: name }, 'a redaction rule cannot be read; it was written by another version of the program')
    return []
  }
  const { enabled, ...rule } = parsed.data
  return enabled ? [{ name, ...rule }] : []
}

async function readSnapshot(file: string): Promise<StoredRule[]> {
  const text = await readFile(file, 'utf8').catch(() => '[]')
  try {
    const rows: unknown = JSON.parse(text)
    if (!Array.isArray(rows)) return []
    return rows.map(row => ({
      ...row,
      id: BigInt(row.id),
      createdAt: new Date(row.createdAt),
      updatedAt: new Date(row.updatedAt),
    }))
  } catch {
    return []
  }
}

async function writeSnapshot(file: string, rules: readonly StoredRule[]): Promise<void> {
  const temporary = `${file}.${process.pid}`
  await writeFile(temporary, JSON.stringify(rules.map(rule => ({ ...rule, id: String(rule.id) }))), { mode: 0o600 })
  await rename(temporary, file)
}
