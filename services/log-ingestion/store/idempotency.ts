// Who was first under an Idempotency-Key: a unique row, written in the transaction that stores the entries. The memory of
// a replica spares senders the wait; this row is what makes it true across replicas and restarts.
//
// A request that lost was acknowledged too, so it is accounted for: with the same body its rows are duplicates, with
// another body they go to quarantine. A replay from quarantine is claimed in the same way, by the entry it replays.

import { arrayLiteral, type Queryable, type Sql, type Tx } from '#platform/postgres'
import type { AcceptedPlace, RememberedRequest } from '../pipeline/remembered.ts'
import type { Batch } from './commit.ts'
import { claimResends, type DoubtfulResends } from './resends.ts'
import type { PendingRecord } from './sink.ts'

export interface Losers {
  /** Rows that are stored already. */
  duplicates: ReadonlySet<PendingRecord>
  /** Another body under a key that is taken, or what its protocol set aside: for quarantine. */
  conflicts: ReadonlySet<PendingRecord>
}

/** Null when no request of the batch is marked, or all of them are first. Marked requests wait for the batch before this
 *  one: which of two is first must not depend on which transaction is quicker. */
export async function claimMarked(
  tx: Tx,
  batch: Batch,
  { myTurn, resends }: { myTurn: () => Promise<void>; resends?: DoubtfulResends | undefined },
): Promise<Losers | null> {
  const setAside = batch.records.filter(({ record }) => record.isSetAside)
  const marked = batch.records.filter(({ record }) => record.idempotencyKey !== '')
  const doubtful = resends ? batch.records.filter(pending => isUnmarked(pending) && resends.isInDoubt(pending)) : []
  if (marked.length + setAside.length + doubtful.length === 0) return null
  if (marked.length + doubtful.length > 0) await myTurn()
  const duplicates = new Set<PendingRecord>()
  if (resends && doubtful.length > 0) {
    const { replica } = batch
    await claimResends(tx, { replica, windowMs: resends.windowMs }, doubtful, duplicates)
  }
  const conflicts = new Set<PendingRecord>(setAside)
  await claimKeys(
    tx,
    marked.filter(({ record }) => record.protocol !== 'replay'),
    duplicates,
    conflicts,
  )
  for (const pending of marked)
    if (pending.record.protocol === 'replay' && !(await claimReplay(tx, pending))) duplicates.add(pending)
  // What was set aside twice is in quarantine once.
  for (const pending of duplicates) conflicts.delete(pending)
  return duplicates.size + conflicts.size === 0 ? null : { duplicates, conflicts }
}

async function claimKeys(
  tx: Tx,
  marked: readonly PendingRecord[],
  duplicates: Set<PendingRecord>,
  conflicts: Set<PendingRecord>,
): Promise<void> {
  if (marked.length === 0) return
  const firsts = new Map<string, PendingRecord>()
  for (const pending of marked) if (!firsts.has(idOf(pending))) firsts.set(idOf(pending), pending)
  // In one order everywhere: two replicas that claim the same keys must not wait for each other.
  const wanted = [...firsts.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, pending]) => pending)
  const records = wanted.map(({ record }) => record)
  await tx`
    insert into purser_logs.idempotency (tenant, key_id, idem_key, body_sha256, receipt, created_at)
    select tenant, key_id, idem_key, decode(body, 'hex'), receipt, to_timestamp(received / 1000000.0) from unnest(
      ${records.map(record => record.tenant)}::text[], ${records.map(record => record.key)}::text[],
      ${records.map(record => record.idempotencyKey)}::text[], ${records.map(record => hex(record.dedupeHash))}::text[],
      ${wanted.map(placeText)}::text[], ${arrayLiteral(records.map(record => record.receivedUs))}::int8[])
      as u(tenant, key_id, idem_key, body, receipt, received)
    on conflict do nothing`
  const owners = await findOwners(
    tx,
    records.map(({ tenant, key, idempotencyKey }) => ({ tenant, key, idempotencyKey })),
  )
  for (const pending of marked) {
    const owner = owners.get(idOf(pending))
    if (!owner) throw new Error('BUG: an Idempotency-Key that was just claimed is gone')
    // The first part of a request speaks for the others.
    if (owner.segment === pending.segment && owner.from === (pending.whole ?? pending).from) continue
    if (hex(owner.body) === hex(pending.record.dedupeHash)) duplicates.add(pending)
    else conflicts.add(pending)
  }
}

/** False when the entry was replayed by another request, or discarded. */
async function claimReplay(tx: Tx, { record, segment, from }: PendingRecord): Promise<boolean> {
  const place = `${segment}:${from}`
  const claimed = await tx`
    update purser_logs.quarantine
    set status = 'replayed', replayed_as = ${place}, decided_at = coalesce(decided_at, now()),
        decided_by = coalesce(decided_by, 'replay')
    where position = ${record.idempotencyKey} and (status = 'open' or replayed_as = ${place}) returning 1`
  if (claimed.length > 0) return true
  const [known] = await tx`select 1 from purser_logs.quarantine where position = ${record.idempotencyKey}`
  // The entry left with an export or an older database came back: what was acknowledged is stored.
  return known === undefined
}

/** And recognisable: every entry has a time of its own. */
function isUnmarked({ record }: PendingRecord): boolean {
  return record.idempotencyKey === '' && record.dedupeHash.some(byte => byte !== 0)
}

export interface Mark {
  tenant: string
  key: string
  idempotencyKey: string
}

/** The requests that own these keys, by `idOfMark`. */
export async function findOwners(sql: Queryable, marks: readonly Mark[]): Promise<Map<string, RememberedRequest>> {
  const rows = await sql<{ tenant: string; key: string; idempotencyKey: string; body: Buffer; receipt: string }[]>`
    select i.tenant, i.key_id as key, i.idem_key as "idempotencyKey", i.body_sha256 as body, i.receipt
    from purser_logs.idempotency i join unnest(
      ${marks.map(mark => mark.tenant)}::text[], ${marks.map(mark => mark.key)}::text[],
      ${marks.map(mark => mark.idempotencyKey)}::text[]) as u(tenant, key_id, idem_key)
    using (tenant, key_id, idem_key)`
  return new Map(rows.map(row => [idOfMark(row), { ...placeOf(row.receipt), body: new Uint8Array(row.body) }]))
}

export function idOfMark({ tenant, key, idempotencyKey }: Mark): string {
  return `${tenant}\0${key}\0${idempotencyKey}`
}

export async function sweepKeys(sql: Sql, acceptedBeforeMs: number): Promise<number> {
  const swept = await sql`
    delete from purser_logs.idempotency where created_at < to_timestamp(${acceptedBeforeMs / 1_000}::float8)`
  return swept.count
}

function idOf({ record }: PendingRecord): string {
  return idOfMark(record)
}

function placeText({ segment, from, to, record, whole }: PendingRecord): string {
  const place = whole ?? { from, to, rows: record.rows }
  return [segment, place.from, place.to, place.rows, record.receivedUs].join(':')
}

function placeOf(text: string): AcceptedPlace {
  const [segment = '', from, to, rows, receivedUs] = text.split(':')
  return { segment, from: Number(from), to: Number(to), rows: Number(rows), receivedUs: BigInt(receivedUs ?? 0) }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex')
}

// What the rows of losers count as

/** The batch without the requests that lost. */
export function withoutLosers(batch: Batch, losers: Losers | null): Batch {
  if (!losers) return batch
  const records: PendingRecord[] = []
  const ids: bigint[] = []
  let at = 0
  for (const pending of batch.records) {
    const end = at + pending.record.rows
    if (!losers.duplicates.has(pending) && !losers.conflicts.has(pending)) {
      records.push(pending)
      for (const id of batch.ids.slice(at, end)) ids.push(id)
    }
    at = end
  }
  return { ...batch, records, ids: BigInt64Array.from(ids), rows: ids.length }
}

export interface LostCounts {
  duplicates: number
  quarantined: number
}

/** Losers in the ledger, and for every request that was not stored whole what its receipt will say. */
export async function settleLosers(
  tx: Tx,
  batch: Batch,
  losers: Losers | null,
  refusedOf: ReadonlyMap<PendingRecord, number>,
): Promise<LostCounts> {
  const counts = { duplicates: 0, quarantined: 0 }
  const outcomes = new Map<PendingRecord, LostCounts>()
  for (const [pending, quarantined] of refusedOf) outcomes.set(pending, { duplicates: 0, quarantined })
  for (const pending of losers?.duplicates ?? []) {
    outcomes.set(pending, { duplicates: pending.record.rows, quarantined: 0 })
    counts.duplicates += pending.record.rows
  }
  for (const pending of losers?.conflicts ?? []) {
    outcomes.set(pending, { duplicates: 0, quarantined: pending.record.rows })
    counts.quarantined += pending.record.rows
  }
  for (const [{ segment, from }, { duplicates, quarantined }] of outcomes)
    await tx`
      insert into purser_logs.outcomes (segment, from_off, quarantined, duplicates)
      values (${segment}::uuid, ${BigInt(from)}, ${BigInt(quarantined)}, ${BigInt(duplicates)}) on conflict do nothing`
  for (const pending of losers ? [...losers.duplicates, ...losers.conflicts] : []) {
    const { record } = pending
    const lost = outcomes.get(pending) ?? counts
    await tx`
      insert into purser_logs.ledger as l (replica, key_id, tenant, hour, accepted, duplicates, quarantined, bytes)
      values (${batch.replica}::uuid, ${record.key}, ${record.tenant},
              to_timestamp((${record.receivedUs}::int8 / 3600000000) * 3600), ${BigInt(record.rows)},
              ${BigInt(lost.duplicates)}, ${BigInt(lost.quarantined)}, ${BigInt(record.accountedBytes)})
      on conflict (replica, key_id, tenant, hour) do update
      set accepted = l.accepted + excluded.accepted, duplicates = l.duplicates + excluded.duplicates,
          quarantined = l.quarantined + excluded.quarantined, bytes = l.bytes + excluded.bytes`
  }
  return counts
}
