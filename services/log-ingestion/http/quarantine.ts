// GET /api/v1/quarantine · GET …/:id · POST …/:id/replay {entry?} · POST …/:id/discard {reason}
//
// A replay goes through the journal like any request, while the entry is locked; the commit that stores it claims the
// entry once more (store/idempotency.ts), so a crash at any point leaves it open or stored, never both and never twice.

import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Problem } from '#platform/http'
import { JournalClosed, JournalDiskError, JournalFull } from '#platform/journal'
import type { Sql } from '#platform/postgres'
import type { Tenancy } from '#platform/tenancy/tenancy'
import type { QuarantineAnswer, QuarantinedEntry } from '../api.ts'
import { badParameter, notFound } from '../errors.ts'
import type { IntakeRules } from '../intake-rules.ts'
import { newTally } from '../json/metadata.ts'
import { levelIndex, levelOfWord } from '../level.ts'
import { DecodeError, decodeNative } from '../native.ts'
import type { Acceptance } from '../pipeline/acceptance.ts'
import { noDedupe, RecordBuilder } from '../record.ts'
import { formatMicros, type Moment, parseRfc3339 } from '../rfc3339.ts'
import { decide, findQuarantined, listQuarantined, lockQuarantined, type Quarantined } from '../store/quarantine.ts'
import { type Asker, authorize } from './caller.ts'
import { type QueryContext, withSql } from './context.ts'
import { oneOf, parametersOf, whole } from './parameters.ts'

export interface QuarantineContext extends QueryContext {
  acceptance: Acceptance
  rules: IntakeRules
  tenancy: () => Tenancy | undefined
}

const limitDefault = 100
const limitMax = 1_000
const reasonCharsMax = 1_000
/** An entry may be as old as quarantine keeps them, and older when it was old on arrival. */
const replayAgeMaxMs = 20 * 366 * 86_400_000

export function addQuarantine(app: FastifyInstance, context: QuarantineContext): void {
  app.get('/api/v1/quarantine', async (request): Promise<QuarantineAnswer> => {
    const asker = authorize(context.access, request, 'logs:read')
    const parameters = parametersOf(request)
    const limit = whole(parameters, 'limit', limitDefault, limitMax)
    const status = oneOf(parameters, 'status', ['open', 'replayed', 'discarded', 'all'])
    const { cursor, reason } = parameters
    if (cursor !== undefined && !/^\d{1,18}$/.test(cursor)) throw badParameter('cursor', 'is not one we gave')
    const entries = await withSql(context, sql =>
      listQuarantined(sql, {
        tenant: tenantOf(asker),
        status: status === 'all' ? undefined : status,
        reason,
        before: cursor === undefined ? undefined : BigInt(cursor),
        limit,
      }),
    )
    const last = entries.at(-1)
    return {
      entries: entries.map(entryOf),
      cursor: last && entries.length === limit ? String(last.id) : null,
    }
  })

  app.get('/api/v1/quarantine/:id', async (request): Promise<QuarantinedEntry> => {
    const asker = authorize(context.access, request, 'logs:read')
    const found = await withSql(context, sql => findQuarantined(sql, idOf(request), tenantOf(asker)))
    if (!found) throw noEntry()
    return entryOf(found)
  })

  app.post('/api/v1/quarantine/:id/replay', async (request): Promise<QuarantinedEntry & { receipt: string }> => {
    const asker = authorize(context.access, request, 'logs:admin')
    const edited = bodyOf(request).entry
    if (edited !== undefined && (typeof edited !== 'object' || edited === null))
      throw badParameter('entry', 'must be an entry: timestamp, service, level, message, metadata')
    const id = idOf(request)
    return await withSql(context, async sql => {
      const receipt = await sql.begin(async tx => {
        const found = await lockOpen(() => lockQuarantined(tx, id, tenantOf(asker)))
        const builder = edited === undefined ? rowOf(found) : editedRow(context, edited)
        const accepted = await accept(context, builder, found)
        await decide(tx, id, {
          status: 'replayed',
          by: asker.caller.keyName,
          decision: edited === undefined ? null : 'edited',
          replayedAs: `${accepted.segment}:${accepted.from}`,
        })
        await audit(context, asker, request, 'quarantine.replay', id, { isEdited: edited !== undefined }, tx)
        return context.receipts.issue(accepted, found.tenant)
      })
      return { ...(await mustFind(sql, id)), receipt }
    })
  })

  app.post('/api/v1/quarantine/:id/discard', async (request): Promise<QuarantinedEntry> => {
    const asker = authorize(context.access, request, 'logs:admin')
    const { reason } = bodyOf(request)
    if (typeof reason !== 'string' || reason.trim() === '' || reason.length > reasonCharsMax)
      throw badParameter('reason', `say why, in 1 to ${reasonCharsMax} characters`)
    const id = idOf(request)
    return await withSql(context, async sql => {
      await sql.begin(async tx => {
        await lockOpen(() => lockQuarantined(tx, id, tenantOf(asker)))
        await decide(tx, id, { status: 'discarded', by: asker.caller.keyName, decision: reason, replayedAs: null })
        await audit(context, asker, request, 'quarantine.discard', id, { reason }, tx)
      })
      return await mustFind(sql, id)
    })
  })
}

async function lockOpen(lock: () => Promise<Quarantined | undefined>): Promise<Quarantined> {
  const found = await lock()
  if (!found) throw noEntry()
  if (found.status === 'open') return found
  throw new Problem({
    status: 409,
    reason: 'QUARANTINE_DECIDED',
    detail: `This entry was ${found.status} by ${found.decidedBy ?? 'somebody'} already.`,
  })
}

async function accept(context: QuarantineContext, builder: RecordBuilder, found: Quarantined) {
  try {
    return await context.acceptance.accept(builder, {
      protocol: 'replay',
      receivedUs: BigInt(context.clock.now()) * 1_000n,
      tenant: found.tenant,
      key: found.key,
      idempotencyKey: found.position,
      dedupeHash: noDedupe,
    })
  } catch (error) {
    const isTrouble =
      error instanceof JournalFull || error instanceof JournalDiskError || error instanceof JournalClosed
    if (!isTrouble) throw error
    throw new Problem({
      status: 429,
      reason: 'JOURNAL_UNAVAILABLE',
      detail: `The journal takes nothing now: ${error.message}. Try again.`,
      headers: { 'Retry-After': '5' },
    })
  }
}

/** As it was, to the last digit of its metadata. */
function rowOf({ entry }: Quarantined): RecordBuilder {
  const { timestamp, service, level, message } = JSON.parse(entry) as Record<string, string>
  const fixed = JSON.stringify({ timestamp, service, level, message })
  const metadata = entry.length > fixed.length ? entry.slice(fixed.length + ',"metadata":'.length - 1, -1) : null
  const moment: Moment = { seconds: 0, nanos: 0 }
  const bytes = Buffer.from(timestamp ?? '')
  if (!parseRfc3339(bytes, 0, bytes.length, moment)) throw new Error(`BUG: a quarantined entry of time ${timestamp}`)
  const builder = new RecordBuilder()
  const number = levelIndex(levelOfWord(level ?? '') ?? 'INFO')
  builder.row(moment.seconds, moment.nanos, number, service ?? '', message ?? '', metadata)
  return builder
}

function editedRow(context: QuarantineContext, entry: object): RecordBuilder {
  const builder = new RecordBuilder()
  const steps = decodeNative(Buffer.from(JSON.stringify({ log: entry })), builder, {
    shape: 'single',
    errors: 'whole',
    rules: { ...context.rules, timestampPastMaxMs: replayAgeMaxMs },
    entriesMax: 1,
    nowMs: context.clock.now(),
    tally: newTally(),
  })
  try {
    let step = steps.next()
    while (!step.done) step = steps.next()
    const [refused] = step.value.total === 0 ? ['timestamp is required'] : step.value.rejected
    if (refused !== undefined) throw badParameter('entry', refused)
    return builder
  } catch (error) {
    throw error instanceof DecodeError ? badParameter('entry', error.message) : error
  }
}

async function audit(
  { tenancy }: QuarantineContext,
  { caller }: Asker,
  request: FastifyRequest,
  action: string,
  id: bigint,
  after: object,
  tx: Parameters<Tenancy['audit']>[1],
): Promise<void> {
  const actor = { kind: 'key', name: caller.keyName, address: request.ip } as const
  await tenancy()?.audit({ actor, action, object: `quarantined entry ${id}`, after }, tx)
}

async function mustFind(sql: Sql, id: bigint): Promise<QuarantinedEntry> {
  const found = await findQuarantined(sql, id, undefined)
  if (!found) throw noEntry()
  return entryOf(found)
}

function entryOf(found: Quarantined): QuarantinedEntry {
  return {
    id: String(found.id),
    tenant: found.tenant,
    key: found.key,
    position: found.position,
    received_at: formatMicros(found.receivedUs),
    protocol: found.protocol,
    reason: found.reason,
    detail: found.detail,
    entry: JSON.parse(found.entry),
    status: found.status,
    decided_by: found.decidedBy,
    decided_at: found.decidedUs === null ? null : formatMicros(found.decidedUs),
    decision: found.decision,
  }
}

/** Undefined: an operator who named no tenant sees all. */
function tenantOf({ caller, tenant }: Asker): string | undefined {
  return caller.anyTenant && tenant === caller.tenant ? undefined : tenant
}

function idOf(request: FastifyRequest): bigint {
  const { id } = request.params as { id: string }
  if (!/^\d{1,18}$/.test(id)) throw noEntry()
  return BigInt(id)
}

function bodyOf(request: FastifyRequest): Record<string, unknown> {
  return typeof request.body === 'object' && request.body !== null ? (request.body as Record<string, unknown>) : {}
}

function noEntry(): Problem {
  return notFound('There is no such entry in quarantine.')
}
