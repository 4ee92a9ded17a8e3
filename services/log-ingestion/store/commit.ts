// One batch, one transaction: the journal range, the entries, the ledger, the totals and the usage, all or nothing.
//
// The range goes in first. Its primary key makes a second attempt wait for a first one that may still be committing on
// the server, and then do nothing: that is how an in-doubt COMMIT is settled.

import { arrayLiteral, isDataError, type Sql, type Tx } from '#platform/postgres'
import { levelAt } from '../level.ts'
import type { LogRecord, RowWalk } from '../record.ts'
import { formatMoment } from '../rfc3339.ts'
import { insertPlaces } from './batches.ts'
import { claimMarked, type Losers, settleLosers, withoutLosers } from './idempotency.ts'
import type { DoubtfulResends } from './resends.ts'
import { eachRow, type PendingRecord, type PreparedRows, type Sink, type TotalRows, totalsOf } from './sink.ts'

export interface Batch {
  replica: string
  records: readonly PendingRecord[]
  rows: number
  /** One per row, ascending; the same again on every attempt. */
  ids: BigInt64Array
  /** Rows known to be lost to damage just before this batch. */
  damagedRows: number
}

export interface CommitOutcome {
  stored: number
  /** The same by tenant. */
  storedOf: ReadonlyMap<string, number>
  quarantined: number
  /** Of resends that were acknowledged too. */
  duplicates: number
  /** The range was there already: an earlier attempt had succeeded. */
  wasPresent: boolean
}

export interface CommitOptions {
  /** Awaited before the rows that other batches touch too are locked; throws to give up this attempt. */
  myTurn: () => Promise<void>
  /** Find the entries that the database refuses and quarantine them. */
  quarantines: boolean
  /** Undefined: no other replica can have accepted the same. */
  resends?: DoubtfulResends | undefined
}

export async function commitBatch(sql: Sql, sink: Sink, batch: Batch, o: CommitOptions): Promise<CommitOutcome> {
  // Encoded before the transaction: the database should not wait for us with locks held.
  const whole = o.quarantines ? null : await sink.prepare(batch)
  return await sql.begin(async tx => {
    await tx`select set_config('synchronous_commit', 'on', true), pg_advisory_xact_lock_shared(hashtextextended(${`purser.replica:${batch.replica}`}, 0))`
    if (!(await insertRanges(tx, batch))) return nothing
    const losers = await claimMarked(tx, batch, o)
    const kept = withoutLosers(batch, losers)
    let refused: Refused[] = []
    let written: readonly PreparedRows[] = []
    if (whole) {
      const rows = losers ? await sink.prepare(kept) : whole
      await rows.write(tx)
      written = [rows]
    } else {
      // Deferred constraints of somebody else's making must speak up while a savepoint can still catch them.
      await tx`set constraints all immediate`
      const found = await writeBisecting(tx, sink, kept)
      refused = found.refused
      written = found.written
      await insertQuarantine(tx, kept, refused)
    }
    if (losers) await insertQuarantine(tx, batch, conflictsIn(batch, losers))
    await o.myTurn()
    // From here on rows are locked that other batches touch too: keep it short, and the order the same for all.
    for (const part of written) await part.link(tx)
    await insertPlaces(tx, batch)
    await addToLedger(tx, kept, refused)
    await addDamaged(tx, batch)
    await addToTotals(tx, whole ? written[0]?.totals : undefined, kept, refused)
    await addToUsage(tx, kept, refused)
    const refusedOf = refusedPerRecord(kept, refused)
    const lost = await settleLosers(tx, batch, losers, refusedOf)
    return {
      stored: kept.rows - refused.length,
      storedOf: storedPerTenant(kept, refusedOf),
      quarantined: refused.length + lost.quarantined,
      duplicates: lost.duplicates,
      wasPresent: false,
    }
  })
}

const nothing: CommitOutcome = { stored: 0, storedOf: new Map(), quarantined: 0, duplicates: 0, wasPresent: true }

function storedPerTenant(
  { records }: Batch,
  refusedOf: ReadonlyMap<PendingRecord, number>,
): ReadonlyMap<string, number> {
  const sums = new Map<string, number>()
  for (const pending of records) {
    const { tenant, rows } = pending.record
    sums.set(tenant, (sums.get(tenant) ?? 0) + rows - (refusedOf.get(pending) ?? 0))
  }
  return sums
}

/** False when they are there already. A batch may span segments; all its ranges came in one transaction. */
async function insertRanges(tx: Tx, batch: Batch): Promise<boolean> {
  const ranges = rangesOf(batch.records)
  const inserted = await tx`
    insert into purser_logs.commits (replica, segment, from_off, to_off, rows)
    select ${batch.replica}::uuid, * from unnest(
      ${ranges.map(range => range.segment)}::uuid[], ${arrayLiteral(ranges.map(range => BigInt(range.from)))}::int8[],
      ${arrayLiteral(ranges.map(range => BigInt(range.to)))}::int8[], ${arrayLiteral(ranges.map(range => BigInt(range.rows)))}::int8[])
    on conflict do nothing returning 1`
  if (inserted.length !== 0 && inserted.length !== ranges.length)
    throw new Error('BUG: a part of a batch is committed and another part is not')
  return inserted.length > 0
}

interface Range {
  segment: string
  from: number
  to: number
  rows: number
}

function rangesOf(records: readonly PendingRecord[]): Range[] {
  const ranges: Range[] = []
  let wasPart = false
  for (const { segment, from, to, record, whole } of records) {
    const last = ranges.at(-1)
    const isPart = whole !== undefined
    // A hole between two records is a damaged one: it was not stored, and its receipt must not say so. Parts of a record
    // stay by themselves: a range that begins at a record ends at one, or inside of it, and never inside of another.
    if (last?.segment === segment && last.to === from && !isPart && !wasPart) {
      last.to = to
      last.rows += record.rows
    } else ranges.push({ segment, from, to, rows: record.rows })
    wasPart = isPart
  }
  return ranges
}

// Quarantine

interface Refused {
  /** Index in the batch. */
  index: number
  reason: string
  detail: string
}

/** Stores what can be stored; each failing COPY is halved, or cut at the line the server names, until the bad entries are
 *  alone. */
async function writeBisecting(
  tx: Tx,
  sink: Sink,
  batch: Batch,
): Promise<{ refused: Refused[]; written: PreparedRows[] }> {
  const refused: Refused[] = []
  const written: PreparedRows[] = []
  const pieces: [number, number][] = [[0, batch.rows]]
  for (let piece = pieces.shift(); piece; piece = pieces.shift()) {
    const [from, to] = piece
    if (from === to) continue
    try {
      const part = await sink.prepare({ ...batch, keeps: index => index >= from && index < to })
      await tx.savepoint(inner => part.write(inner))
      written.push(part)
    } catch (error) {
      if (!isDataError(error)) throw error
      if (to - from === 1) {
        refused.push({ index: from, reason: sqlState(error), detail: error instanceof Error ? error.message : '' })
        continue
      }
      // Lines of a COPY are rows of one sink only.
      const bad = sink.kind === 'rows' ? from + reportedLine(error) - 1 : Number.NaN
      const at = bad >= from && bad < to ? bad : from + Math.floor((to - from) / 2)
      if (at === bad) pieces.unshift([from, at], [at, at + 1], [at + 1, to])
      else pieces.unshift([from, at], [at, to])
    }
  }
  return { refused: refused.sort((a, b) => a.index - b.index), written }
}

function sqlState(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}

/** "COPY logs, line 3, column metadata": 3; NaN when no line is named. */
function reportedLine(error: unknown): number {
  const where = error instanceof Error && 'where' in error ? String(error.where) : ''
  return Number(/^COPY [^,]+, line (\d+)/m.exec(where)?.[1])
}

function conflictsIn(batch: Batch, { conflicts }: Losers): Refused[] {
  const refused: Refused[] = []
  eachRow(batch, (walk, _, pending, __, index) => {
    if (!conflicts.has(pending)) return
    const { isSetAside, idempotencyKey } = pending.record
    if (isSetAside) refused.push({ index, reason: 'unusable', detail: whyUnusable(walk.metadata) })
    else {
      const detail = `another body was stored under Idempotency-Key ${JSON.stringify(idempotencyKey)}`
      refused.push({ index, reason: 'idempotency_conflict', detail })
    }
  })
  return refused
}

/** Protocols write it beside the text that they set aside. */
function whyUnusable(metadata: string | null): string {
  const parsed: unknown = JSON.parse(metadata ?? '{}')
  return typeof parsed === 'object' && parsed !== null && '_refused' in parsed ? String(parsed._refused) : ''
}

async function insertQuarantine(tx: Tx, batch: Batch, refused: readonly Refused[]): Promise<void> {
  if (refused.length === 0) return
  const wanted = new Map(refused.map(item => [item.index, item]))
  const rows: Record<string, unknown>[] = []
  eachRow(batch, (walk, _, pending, rowInRecord, index) => {
    const item = wanted.get(index)
    if (!item) return
    const { record } = pending
    rows.push({
      tenant: record.tenant,
      key_id: record.key,
      replica: batch.replica,
      position: positionOf(pending, rowInRecord),
      received_at: microsText(record.receivedUs),
      protocol: record.protocol,
      reason: item.reason,
      detail: item.detail.slice(0, 2_000),
      entry: Buffer.from(entryJson(walk)),
    })
  })
  for (const row of rows) await tx`insert into purser_logs.quarantine ${tx(row)}`
}

/** Of a row, for ever: the place of the request and the row's number in it. */
function positionOf({ segment, from, whole }: PendingRecord, row: number): string {
  return whole ? `${segment}:${whole.from}:${whole.rowsBefore + row}` : `${segment}:${from}:${row}`
}

/** The entry as it would be sent again; metadata keeps its text. */
function entryJson(walk: RowWalk): string {
  const { service, message, metadata } = walk
  const fixed = { timestamp: formatMoment(walk.seconds, walk.nanos), service, level: levelAt(walk.level), message }
  const text = JSON.stringify(fixed)
  return metadata === null ? text : `${text.slice(0, -1)},"metadata":${metadata}}`
}

// Counting: every number is a sum over the rows of this batch, added once with them.

const hourUs = 3_600_000_000n

async function addToLedger(tx: Tx, batch: Batch, refused: readonly Refused[]): Promise<void> {
  const refusedOf = refusedPerRecord(batch, refused)
  const sums = new Map<
    string,
    { key: string; tenant: string; hour: bigint; accepted: bigint; quarantined: bigint; bytes: bigint }
  >()
  batch.records.forEach(pending => {
    const { record } = pending
    // It only marks where a segment ends.
    if (record.rows === 0) return
    const hour = (record.receivedUs / hourUs) * hourUs
    const id = `${record.key}\0${record.tenant}\0${hour}`
    const sum = sums.get(id) ?? {
      key: record.key,
      tenant: record.tenant,
      hour,
      accepted: 0n,
      quarantined: 0n,
      bytes: 0n,
    }
    sum.accepted += BigInt(record.rows)
    sum.quarantined += BigInt(refusedOf.get(pending) ?? 0)
    sum.bytes += BigInt(record.accountedBytes)
    sums.set(id, sum)
  })
  const rows = [...sums.values()]
  if (rows.length === 0) return
  await tx`
    insert into purser_logs.ledger as l (replica, key_id, tenant, hour, accepted, stored, quarantined, bytes)
    select ${batch.replica}::uuid, key_id, tenant, hour, accepted, accepted - quarantined, quarantined, bytes from unnest(
      ${rows.map(row => row.key)}::text[], ${rows.map(row => row.tenant)}::text[],
      ${rows.map(row => microsText(row.hour))}::timestamptz[], ${arrayLiteral(rows.map(row => row.accepted))}::int8[],
      ${arrayLiteral(rows.map(row => row.quarantined))}::int8[], ${arrayLiteral(rows.map(row => row.bytes))}::int8[])
      as u(key_id, tenant, hour, accepted, quarantined, bytes)
    on conflict (replica, key_id, tenant, hour) do update
    set accepted = l.accepted + excluded.accepted, stored = l.stored + excluded.stored,
        quarantined = l.quarantined + excluded.quarantined, bytes = l.bytes + excluded.bytes`
}

async function addDamaged(tx: Tx, batch: Batch): Promise<void> {
  const [first] = batch.records
  if (batch.damagedRows === 0 || !first) return
  // Whose rows they were went with them: they count for the replica alone.
  await tx`
    insert into purser_logs.ledger as l (replica, key_id, tenant, hour, accepted, damaged)
    values (${batch.replica}::uuid, '', '', ${microsText((first.record.receivedUs / hourUs) * hourUs)}::timestamptz,
            ${BigInt(batch.damagedRows)}, ${BigInt(batch.damagedRows)})
    on conflict (replica, key_id, tenant, hour) do update
    set accepted = l.accepted + excluded.accepted, damaged = l.damaged + excluded.damaged`
}

/** Only records of which something was refused. */
function refusedPerRecord(batch: Batch, refused: readonly Refused[]): Map<PendingRecord, number> {
  const counts = new Map<PendingRecord, number>()
  if (refused.length === 0) return counts
  let start = 0
  for (const pending of batch.records) {
    const end = start + pending.record.rows
    const count = refused.filter(({ index }) => index >= start && index < end).length
    if (count > 0) counts.set(pending, count)
    start = end
  }
  return counts
}

async function addToTotals(
  tx: Tx,
  known: readonly TotalRows[] | undefined,
  batch: Batch,
  refused: readonly Refused[],
): Promise<void> {
  const skipped = new Set(refused.map(({ index }) => index))
  const sums = known ?? totalsOf({ ...batch, keeps: index => !skipped.has(index) })
  // Replicas share these rows; locking them in one order keeps two of them from waiting for each other.
  const nameOf = (row: TotalRows) => `${row.tenant}\0${row.hour}\0${row.level}\0${row.service}`
  const rows = [...sums].sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1))
  if (rows.length === 0) return
  await tx`
    insert into purser_logs.totals as t (tenant, hour, service, level, rows)
    select tenant, to_timestamp(hour * 3600), service, level, rows from unnest(
      ${rows.map(row => row.tenant)}::text[], ${arrayLiteral(rows.map(row => BigInt(row.hour)))}::int8[],
      ${rows.map(row => row.service)}::text[], ${rows.map(row => row.level)}::text[], ${arrayLiteral(rows.map(row => row.rows))}::int8[])
      as u(tenant, hour, service, level, rows)
    on conflict (tenant, hour, service, level) do update set rows = t.rows + excluded.rows`
}

/** Usage counts what is stored: bytes of quarantined rows are not billed. */
async function addToUsage(tx: Tx, batch: Batch, refused: readonly Refused[]): Promise<void> {
  const sums = new Map<string, { tenant: string; hour: bigint; rows: bigint; bytes: bigint }>()
  const add = (record: LogRecord, rows: number, bytes: number) => {
    const hour = (record.receivedUs / hourUs) * hourUs
    const id = `${record.tenant}\0${hour}`
    const sum = sums.get(id) ?? { tenant: record.tenant, hour, rows: 0n, bytes: 0n }
    sum.rows += BigInt(rows)
    sum.bytes += BigInt(bytes)
    sums.set(id, sum)
  }
  for (const { record } of batch.records) if (record.rows > 0) add(record, record.rows, record.accountedBytes)
  if (refused.length > 0) {
    const wanted = new Set(refused.map(({ index }) => index))
    eachRow(batch, (walk, _, { record }, __, index) => {
      if (wanted.has(index)) add(record, -1, -(walk.end - walk.serviceFrom + levelAt(walk.level).length))
    })
  }
  const rows = [...sums.values()]
  if (rows.length === 0) return
  await tx`
    insert into purser_logs.usage_hours as u (replica, tenant, hour, rows, bytes)
    select ${batch.replica}::uuid, * from unnest(
      ${rows.map(row => row.tenant)}::text[], ${rows.map(row => microsText(row.hour))}::timestamptz[],
      ${arrayLiteral(rows.map(row => row.rows))}::int8[], ${arrayLiteral(rows.map(row => row.bytes))}::int8[])
    on conflict (replica, tenant, hour) do update set rows = u.rows + excluded.rows, bytes = u.bytes + excluded.bytes`
}

function microsText(us: bigint): string {
  const seconds = Number(us / 1_000_000n)
  return formatMoment(seconds, Number(us % 1_000_000n) * 1_000)
}
