// GET /api/v1/ledger?from&to&key&present=true: what was accepted, what became of it, and whether that adds up.

import type { FastifyInstance } from 'fastify'
import { rfc3339 } from '#platform/time'
import type { LedgerAnswer, LedgerCounts, LedgerHour } from '../api.ts'
import { badParameter } from '../errors.ts'
import type { Backlog, PendingHour } from '../pipeline/backlog.ts'
import { type LedgerTotals, reconcile } from '../store/reconcile.ts'
import { parseTime } from '../time-range.ts'
import { authorize } from './caller.ts'
import { type QueryContext, withSql } from './context.ts'
import { parametersOf, timeParameter } from './parameters.ts'

export interface LedgerContext extends QueryContext {
  backlog: Backlog
  /** Rows that the journal's running total and the database's counts disagree about, as of now. */
  imbalanceRows: () => Promise<number>
}

const rowsMax = 10_000
const hourMs = 3_600_000

export function addLedger(app: FastifyInstance, context: LedgerContext): void {
  app.get('/api/v1/ledger', async (request): Promise<LedgerAnswer> => {
    const { caller, tenant: asked } = authorize(context.access, request, 'logs:read')
    const isForAll = caller.anyTenant && asked === caller.tenant
    const tenant = isForAll ? undefined : asked
    const parameters = parametersOf(request)
    const { key, from, to, present } = parameters
    const nowMs = context.clock.now()
    const ms = (name: 'from' | 'to', text: string) =>
      timeParameter(name, () => Number(parseTime(text, nowMs) / 1_000_000n))
    const fromMs = from === undefined ? undefined : ms('from', from)
    const toMs = to === undefined ? nowMs + hourMs : ms('to', to)
    if (fromMs !== undefined && fromMs >= toMs) throw badParameter('from', 'must be before `to`')
    const countsPresent = present === 'true' && key === undefined
    const read = () => withSql(context, sql => reconcile(sql, { tenant, key, fromMs, toMs, rowsMax, countsPresent }))
    // Counting reads everything: it waits its turn like a query.
    const ledger = countsPresent ? await context.gate.run(caller.key, read) : await read()

    const waiting = context.backlog
      .pending()
      .filter(item => tenant === undefined || item.tenant === tenant)
      .filter(item => key === undefined || item.key === key)
      .filter(item => item.hourMs >= (ledger.fromMs ?? fromMs ?? 0) && item.hourMs < toMs)
    const known = waiting.reduce((sum, item) => sum + item.rows, 0)
    // What an earlier life of this process left is in the total only.
    const pending = BigInt(isForAll && key === undefined ? Math.max(known, context.intake().pendingRows) : known)
    const { totals } = ledger
    const accounted = totals.stored + totals.quarantined + totals.duplicates + totals.damaged
    const missing = ledger.present === undefined ? 0n : totals.stored - totals.deleted - totals.expired - ledger.present
    const imbalance = isForAll ? BigInt(await context.imbalanceRows()) : 0n
    return {
      from: rfc3339(ledger.fromMs ?? fromMs ?? 0),
      to: rfc3339(toMs),
      rows: withPending(ledger.rows, waiting, context.replica),
      isCut: ledger.rows.length === rowsMax,
      totals: {
        ...counts(totals, pending),
        ...(ledger.present === undefined ? {} : { present: String(ledger.present) }),
      },
      quarantine_reasons: ledger.reasons,
      difference: String(differenceOf([totals.accepted - accounted, missing, imbalance])),
    }
  })
}

/** Errors that cancel each other are still errors. */
function differenceOf(parts: readonly bigint[]): bigint {
  return parts.reduce((sum, part) => sum + part, 0n) || (parts.find(part => part !== 0n) ?? 0n)
}

function withPending(
  rows: readonly (LedgerTotals & { replica: string; key: string; tenant: string; hourMs: number })[],
  waiting: readonly PendingHour[],
  replica: string,
): LedgerHour[] {
  const idOf = (o: { replica: string; key: string; tenant: string; hourMs: number }) =>
    `${o.replica}\0${o.key}\0${o.tenant}\0${o.hourMs}`
  const pendingOf = new Map(waiting.map(item => [idOf({ ...item, replica }), item]))
  const hours = rows.map(row => {
    const pending = pendingOf.get(idOf(row))
    pendingOf.delete(idOf(row))
    return hourOf(row, counts(row, BigInt(pending?.rows ?? 0)))
  })
  for (const item of pendingOf.values())
    hours.unshift(hourOf({ ...item, replica }, counts({ ...nothing, bytes: BigInt(item.bytes) }, BigInt(item.rows))))
  return hours
}

const nothing: LedgerTotals = {
  accepted: 0n,
  stored: 0n,
  quarantined: 0n,
  duplicates: 0n,
  damaged: 0n,
  deleted: 0n,
  expired: 0n,
  bytes: 0n,
}

function hourOf(
  row: { replica: string; key: string; tenant: string; hourMs: number },
  rowCounts: LedgerCounts,
): LedgerHour {
  const { replica, key, tenant } = row
  return { hour: rfc3339(row.hourMs), key, tenant, replica, ...rowCounts }
}

function counts(totals: LedgerTotals, pending: bigint): LedgerCounts {
  return {
    accepted: String(totals.accepted + pending),
    stored: String(totals.stored),
    quarantined: String(totals.quarantined),
    duplicates: String(totals.duplicates),
    pending: String(pending),
    damaged: String(totals.damaged),
    deleted: String(totals.deleted),
    expired: String(totals.expired),
    bytes: String(totals.bytes),
  }
}
