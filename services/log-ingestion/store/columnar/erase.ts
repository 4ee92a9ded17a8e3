// Taking entries out of blocks: by a deletion's filter, or because they have expired. A block is written anew without them;
// one of which nothing is left just goes.

import type { Sql, Tx } from '#platform/postgres'
import type { EvidenceKey } from '../../evidence-key.ts'
import { levelAt, levels } from '../../level.ts'
import { type HourCount, reduceTotals, reduceTotalsBy } from '../rows/totals.ts'
import type { ErasePlan, OnErased, StoredEntry } from '../store.ts'
import { deletionMatcher, horizonNs, keepOf, type RetentionRule, retentionView } from '../visibility.ts'
import { type BlockHeader, dateOf, listHeaders, loadSections, nextDay } from './blocks.ts'
import { Block } from './decode.ts'
import type { Encoder } from './encoder.ts'
import { headerMayMatch } from './prune.ts'
import { BlocksMoved, loadWhole, replaceBlocks } from './rewrite.ts'
import { dayOfNs, entryAt, rowsBetween } from './search.ts'

export interface EraseOptions {
  sql: Sql
  encoder: Encoder
  evidence: EvidenceKey
  nowMs: () => number
}

const dayNs = 86_400_000_000_000n
const headersAtOnce = 256

export async function eraseBlocks(
  o: EraseOptions,
  plan: ErasePlan,
  onErased: OnErased,
  signal?: AbortSignal,
): Promise<void> {
  const matches = deletionMatcher(plan)
  const lastDay = dayOfNs(plan.toNs - 1n)
  let day = await nextDay(o.sql, plan.tenant, dayOfNs(plan.fromNs), lastDay, 'asc')
  while (day !== undefined) {
    const base = BigInt(day) * dayNs
    const low = plan.fromNs > base ? plan.fromNs - base : 0n
    const high = plan.toNs < base + dayNs ? plan.toNs - base : dayNs
    await eachBlock(o.sql, plan.tenant, day, { low, high }, signal, async header => {
      if (!headerMayMatch(header, plan.query, base)) return
      await eraseFrom(o, header, 'deletion', onErased, (block, row) => matches(entryAt(block, base, row)), [low, high])
    })
    day = await nextDay(o.sql, plan.tenant, day + 1, lastDay, 'asc')
  }
}

export async function expireBlocks(
  o: EraseOptions,
  rules: readonly RetentionRule[],
  nowMs: number,
  onErased: OnErased,
  signal?: AbortSignal,
): Promise<void> {
  const keeps = rules.flatMap(rule => (rule.keepMs === null ? [] : [rule.keepMs]))
  if (keeps.length === 0) return
  // Nothing younger than the shortest rule can have expired.
  const newest = horizonNs(Math.min(...keeps), nowMs)
  const days = await o.sql<{ tenant: string; day: bigint }[]>`
    select distinct tenant, (day - date '1970-01-01')::int8 as day from purser_logs.blocks
    where day <= ${dateOf(dayOfNs(newest))}::date order by 2, 1`
  for (const { tenant, day } of days) {
    const base = BigInt(day) * dayNs
    const { fromNs, isVisible } = retentionView(rules, tenant, nowMs)
    const isKept = (entry: StoredEntry) =>
      (fromNs === null || entry.timestampNs >= fromNs) && (isVisible === null || isVisible(entry))
    const horizonOf = (service: string, level: string) => {
      const keepMs = keepOf(rulesOf(rules, tenant), service, level)
      return keepMs === null ? null : horizonNs(keepMs, nowMs)
    }
    await eachBlock(o.sql, tenant, Number(day), { low: 0n, high: newest - base }, signal, async header => {
      const horizons = combinationsOf(header).map(({ service, level }) => horizonOf(service, level))
      if (horizons.every(horizon => horizon !== null && base + header.maxNs < horizon))
        await dropWhole(o, header, onErased)
      else if (horizons.some(horizon => horizon !== null && base + header.minNs < horizon))
        await eraseFrom(o, header, 'retention', onErased, (block, row) => !isKept(headEntry(block, base, row)))
    })
  }
  await dropEmptyPartitions(o.sql, nowMs)
}

function rulesOf(rules: readonly RetentionRule[], tenant: string): RetentionRule[] {
  return rules.filter(rule => rule.tenant === null || rule.tenant === tenant)
}

function combinationsOf(header: BlockHeader): { service: string; level: string }[] {
  const present = levels.filter((_, n) => (header.levelMask & (1 << n)) !== 0)
  return header.services.flatMap(service => present.map(level => ({ service, level })))
}

/** Rules look at nothing else. */
function headEntry(block: Block, base: bigint, row: number): StoredEntry {
  return {
    id: 0n,
    timestampNs: base + BigInt(block.nsOfDay[row] as number),
    service: block.services[block.serviceNumbers[row] as number] as string,
    level: levelAt(block.levels[row] as number),
    message: '',
    metadata: null,
    createdUs: 0n,
  }
}

/** Every block of the day that overlaps the range, oldest first; once more when another rewrite got in between. */
async function eachBlock(
  sql: Sql,
  tenant: string,
  day: number,
  range: { low: bigint; high: bigint },
  signal: AbortSignal | undefined,
  visit: (header: BlockHeader) => Promise<void>,
): Promise<void> {
  let isDone = false
  while (!isDone) {
    isDone = true
    let after: { ns: bigint; id: bigint } | undefined
    for (;;) {
      const headers = await listHeaders(sql, {
        tenant,
        day,
        order: 'asc',
        fromNs: range.low,
        toNs: range.high,
        after,
        limit: headersAtOnce,
      })
      for (const header of headers) {
        signal?.throwIfAborted()
        try {
          await visit(header)
        } catch (error) {
          if (!(error instanceof BlocksMoved)) throw error
          isDone = false
        }
      }
      const last = headers.at(-1)
      if (!last || headers.length < headersAtOnce) break
      after = { ns: last.minNs, id: last.id }
    }
  }
}

async function eraseFrom(
  o: EraseOptions,
  header: BlockHeader,
  reason: 'deletion' | 'retention',
  onErased: OnErased,
  goes: (block: Block, row: number) => boolean,
  [low, high]: [bigint, bigint] = [0n, dayNs],
): Promise<void> {
  const [sections] = await loadWhole(o.sql, [header])
  if (!sections) return
  const block = new Block(sections)
  const base = BigInt(header.day) * dayNs
  const entries: StoredEntry[] = []
  const keeps = new Uint8Array(block.rows).fill(1)
  const [from, to] = rowsBetween(block.nsOfDay, low, high)
  for (let row = from; row < to; row++) {
    if (!goes(block, row)) continue
    keeps[row] = 0
    entries.push(entryAt(block, base, row))
  }
  if (entries.length === 0) return
  const rest =
    entries.length === block.rows ? [] : await o.encoder.merge(header.tenant, header.day, [sections], [keeps])
  await o.sql.begin(async tx => {
    const hashes = await replaceBlocks(tx, o.evidence, { before: [header], after: rest, reason, nowMs: o.nowMs() })
    await reduceTotals(tx, header.tenant, entries)
    await onErased(tx, {
      rows: entries.length,
      bytes: entries.reduce((sum, entry) => sum + bytesOf(entry), 0),
      blocks: linksOf(header, hashes),
      entries,
      tenant: header.tenant,
    })
  })
}

/** Without looking at its texts. */
async function dropWhole(o: EraseOptions, header: BlockHeader, onErased: OnErased): Promise<void> {
  await o.sql.begin(async (tx: Tx) => {
    const [sections] = await loadSections(tx, [header], ['head'])
    const [row] = await tx<{ bytes: bigint }[]>`
      select raw_bytes as bytes from purser_logs.blocks where day = ${dateOf(header.day)}::date and id = ${header.id}`
    if (!sections?.head || !row) throw new BlocksMoved()
    const block = new Block({ head: sections.head })
    const counts = new Map<string, HourCount>()
    let bytes = Number(row.bytes)
    for (let i = 0; i < block.rows; i++) {
      const service = block.services[block.serviceNumbers[i] as number] as string
      const level = levelAt(block.levels[i] as number)
      const hour = BigInt(header.day * 24 + Math.floor((block.nsOfDay[i] as number) / 3_600_000_000_000))
      const id = `${hour}\0${level}\0${service}`
      const count = counts.get(id) ?? { tenant: header.tenant, hour, service, level, rows: 0n }
      count.rows += 1n
      counts.set(id, count)
      bytes += Buffer.byteLength(service) + level.length
    }
    const hashes = await replaceBlocks(tx, o.evidence, {
      before: [header],
      after: [],
      reason: 'retention',
      nowMs: o.nowMs(),
    })
    await reduceTotalsBy(tx, [...counts.values()])
    await onErased(tx, { rows: block.rows, bytes, blocks: linksOf(header, hashes), tenant: header.tenant })
  })
}

function linksOf(header: BlockHeader, { before, after }: { before: string[]; after: string[] }) {
  const { tenant, day } = header
  return before.map(hash => ({ tenant, day: dateOf(day), before: hash, after: after[0] ?? null }))
}

function bytesOf({ service, level, message, metadata }: StoredEntry): number {
  return Buffer.byteLength(service) + level.length + Buffer.byteLength(message) + Buffer.byteLength(metadata ?? '')
}

/** Days that are over and have nothing left. Nobody waits for a drop that would have to wait itself. */
async function dropEmptyPartitions(sql: Sql, nowMs: number): Promise<void> {
  const yesterday = dateOf(Math.floor(nowMs / 86_400_000) - 1).replaceAll('-', '')
  const parts = await sql<{ name: string }[]>`
    select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'purser_logs.blocks'::regclass and c.relname ~ '^blocks_p[0-9]{8}$' and c.relname < ${`blocks_p${yesterday}`}`
  for (const { name } of parts) {
    const [row] = await sql<{ found: boolean }[]>`select exists(select from purser_logs.${sql(name)}) as found`
    if (row?.found) continue
    await sql
      .begin(async tx => {
        await tx`select set_config('lock_timeout', '200', true)`
        await tx`lock table purser_logs.${tx(name)} in access exclusive mode`
        const [still] = await tx<{ found: boolean }[]>`select exists(select from purser_logs.${tx(name)}) as found`
        if (!still?.found) await tx`drop table purser_logs.${tx(name)}`
      })
      // Busy: the next round is soon enough.
      .catch(() => {})
  }
}
