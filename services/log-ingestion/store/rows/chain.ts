// Evidence of entries in the guide's table: the entries of a commit, tenant and day are a link of the same chain that blocks
// are in. Hashes go over what the table gives back, so they are computed from stored rows, inside the commit, by the server;
// verify.ts computes them anew by itself.
//
// A link whose entries go in part is rewritten: its hash before and the hash of what is left, signed.

import { createHash } from 'node:crypto'
import type { Fragment } from 'postgres'
import type { Queryable, Tx } from '#platform/postgres'
import type { EvidenceKey } from '../../evidence-key.ts'
import { dateOf } from '../columnar/blocks.ts'
import { appendLinks, insertRewrite, type Rewrite } from '../columnar/chain.ts'
import type { StoredEntry } from '../store.ts'
import { timestampText } from './narrow.ts'
import { type EntryRow, columns as entryColumns, entryOf, ofTenant, unmarked } from './search.ts'

/** Entries of one commit, tenant and UTC day. */
export interface RowGroup {
  tenant: string
  /** Whole days since 1970. */
  day: number
  /** Ascending, inclusive. */
  ids: { from: bigint; to: bigint }[]
  minUs: bigint
  maxUs: bigint
  rows: number
}

export class RowGroups {
  readonly #groups = new Map<string, RowGroup>()

  add(tenant: string, id: bigint, seconds: number, nanos: number): void {
    const day = Math.floor(seconds / 86_400)
    const us = BigInt(seconds) * 1_000_000n + BigInt(Math.floor(nanos / 1_000))
    const name = `${day} ${tenant}`
    const group = this.#groups.get(name)
    if (!group) {
      this.#groups.set(name, { tenant, day, ids: [{ from: id, to: id }], minUs: us, maxUs: us, rows: 1 })
      return
    }
    const last = group.ids.at(-1)
    if (last && last.to + 1n === id) last.to = id
    else group.ids.push({ from: id, to: id })
    if (us < group.minUs) group.minUs = us
    if (us > group.maxUs) group.maxUs = us
    group.rows++
  }

  get all(): RowGroup[] {
    return [...this.#groups.values()]
  }
}

export interface HashedGroup extends RowGroup {
  sha256: Buffer
}

/** After they were written, in the same transaction. */
export async function hashGroups(tx: Tx, groups: readonly RowGroup[]): Promise<HashedGroup[]> {
  const hashed: HashedGroup[] = []
  for (const group of groups) {
    const found = await hashOf(tx, { ...group, day: dateOf(group.day), ids: multirange(group) })
    if (found.rows !== BigInt(group.rows))
      throw new Error(`BUG: ${found.rows} of ${group.rows} rows were found behind their COPY`)
    hashed.push({ ...group, sha256: found.sha256 })
  }
  return hashed
}

/** When it is this batch's turn: commits of a tenant and day wait for each other here. */
export async function linkGroups(tx: Tx, groups: readonly HashedGroup[]): Promise<void> {
  const links = await appendLinks(tx, groups)
  for (const { group, seq } of links)
    await tx`
      insert into purser_logs.row_links (tenant, day, seq, ids, min_us, max_us, rows, sha256)
      values (${group.tenant}, ${dateOf(group.day)}::date, ${seq}, ${multirange(group)}::int8multirange,
              ${group.minUs}, ${group.maxUs}, ${group.rows}, ${group.sha256})`
}

function multirange({ ids }: RowGroup): string {
  return `{${ids.map(({ from, to }) => `[${from},${to}]`).join(',')}}`
}

interface StoredLink {
  tenant: string
  /** YYYY-MM-DD */
  day: string
  seq: bigint
  ids: string
  minUs: bigint
  maxUs: bigint
  rows: bigint
  sha256: Buffer
}

/** Links of these entries hold what is left of them from now on. Call it behind the statement that took entries away, in
 *  its transaction; without `ids`, for all links of the days. */
export async function relink(
  tx: Tx,
  evidence: EvidenceKey,
  o: {
    tenant: string
    days: Iterable<string>
    ids?: readonly bigint[]
    reason: Rewrite['reason']
    nowMs: number
  },
): Promise<void> {
  const concerned = o.ids
    ? tx`and exists(select from unnest(${o.ids.map(String)}::text[]::int8[]) as gone where gone <@ ids)`
    : tx``
  const links = await tx<StoredLink[]>`
    select ${linkColumns(tx)} from purser_logs.row_links
    where tenant = ${o.tenant} and day = any(${[...new Set(o.days)]}::text[]::date[]) ${concerned}
    order by row_links.day, seq for update`
  for (const [day, ours] of Map.groupBy(links, link => link.day)) {
    const before: string[] = []
    const after: string[] = []
    for (const link of ours) {
      const left = await hashOf(tx, link)
      if (left.rows === link.rows) continue
      before.push(link.sha256.toString('hex'))
      if (left.rows === 0n)
        await tx`delete from purser_logs.row_links where tenant = ${o.tenant} and day = ${day}::date and seq = ${link.seq}`
      else {
        after.push(left.sha256.toString('hex'))
        await tx`
          update purser_logs.row_links set rows = ${left.rows}, sha256 = ${left.sha256}
          where tenant = ${o.tenant} and day = ${day}::date and seq = ${link.seq}`
      }
    }
    if (before.length === 0) continue
    const atUs = BigInt(o.nowMs) * 1_000n
    await insertRewrite(tx, evidence, { tenant: o.tenant, day, reason: o.reason, before, after, atUs })
  }
}

/** All links of a day read back, without trust in the server's arithmetic, in the order in which their ids end. One pass
 *  over the day, so that a row slipped in under an id of a link is found wherever it hides. */
export async function* rowLinks(
  tx: Tx,
  tenant: string,
  day: string,
): AsyncGenerator<{ seq: bigint; sha256: Buffer; rows: bigint; found: { rows: bigint; sha256: Buffer } }> {
  const links = await tx<StoredLink[]>`
    select ${linkColumns(tx)} from purser_logs.row_links where tenant = ${tenant} and day = ${day}::date order by seq`
  if (links.length === 0) return
  const open = links
    .map(link => {
      const ranges = rangesOf(link.ids)
      return { link, ranges, last: ranges.at(-1)?.to ?? 0n, hash: createHash('sha256'), rows: 0n }
    })
    .sort((x, y) => (x.last < y.last ? -1 : 1))
  let first = 0
  const closed = ({ link, hash, rows }: (typeof open)[number]) => {
    const { seq, sha256 } = link
    return { seq, sha256, rows: link.rows, found: { rows, sha256: hash.digest() } }
  }
  const read = tx<EntryRow[]>`
    select ${entryColumns(tx)} from ${unmarked(tx)} cross join lateral (
      select l.* from public.logs l
      where l.timestamp >= ${`${day} 00:00:00+00`}::timestamptz
        and l.timestamp < ${`${day} 00:00:00+00`}::timestamptz + interval '24 hours' and ${ofTenant(tx, tenant)}
    ) e order by e.id, e.timestamp`
  for await (const piece of read.cursor(2_000))
    for (const row of piece) {
      for (let next = open[first]; next && next.last < row.id; next = open[++first]) yield closed(next)
      // Links of two replicas interleave by a batch or two, so the one that has it is near the front.
      const holder = open
        .slice(first, first + interleavedMax)
        .find(({ ranges }) => ranges.some(({ from, to }) => from <= row.id && row.id <= to))
      if (!holder) continue
      holder.hash.update(
        createHash('sha256')
          .update(entryText(entryOf(row)))
          .digest(),
      )
      holder.rows++
    }
  for (let next = open[first]; next; next = open[++first]) yield closed(next)
}

/** Commits that may draw ids at the same time: two of each replica. */
const interleavedMax = 64

function rangesOf(multirange: string): { from: bigint; to: bigint }[] {
  return [...multirange.matchAll(/\[(-?\d+),(-?\d+)\)/g)].map(([, from = '0', to = '0']) => ({
    from: BigInt(from),
    to: BigInt(to) - 1n,
  }))
}

/** Texts with their lengths: no two entries have one form. The same in SQL, below. */
function entryText({ id, timestampNs, createdUs, service, level, message, metadata }: StoredEntry): string {
  const texts = [service, level, message].map(text => `${Buffer.byteLength(text)}:${text}`).join('')
  return `${id}|${timestampNs / 1_000n}|${createdUs}|${texts}${metadata ?? '-'}`
}

async function hashOf(
  tx: Tx,
  link: Pick<StoredLink, 'tenant' | 'day' | 'ids' | 'minUs' | 'maxUs'>,
): Promise<{ rows: bigint; sha256: Buffer }> {
  const text = (name: 'service' | 'level' | 'message') => tx`octet_length(e.${tx(name)}) || ':' || e.${tx(name)}`
  const [found] = await tx<{ rows: bigint; sha256: Buffer }[]>`
    select count(*) as rows, sha256(coalesce(string_agg(sha256(convert_to(
             e.id || '|' || (extract(epoch from e.timestamp) * 1000000)::int8 || '|'
             || (extract(epoch from e.created_at) * 1000000)::int8 || '|'
             || ${text('service')} || ${text('level')} || ${text('message')} || coalesce(e.metadata::text, '-'),
             'UTF8')), ''::bytea order by e.id), ''::bytea)) as sha256
    from ${unmarked(tx)} cross join lateral (${rowsOf(tx, link)}) e`
  if (!found) throw new Error('BUG: an aggregate without a row')
  return found
}

function rowsOf(
  tx: Queryable,
  { tenant, ids, minUs, maxUs, day }: Pick<StoredLink, 'tenant' | 'day' | 'ids' | 'minUs' | 'maxUs'>,
): Fragment {
  return tx`
    select l.* from public.logs l
    where l.timestamp >= ${timestampText(minUs)}::timestamptz and l.timestamp <= ${timestampText(maxUs)}::timestamptz
      and l.timestamp >= ${`${day} 00:00:00+00`}::timestamptz
      and l.id between lower(${ids}::int8multirange) and upper(${ids}::int8multirange) - 1
      and l.id <@ ${ids}::int8multirange and ${ofTenant(tx, tenant)}`
}

/** The UTC day, YYYY-MM-DD. */
export function dateOfUs(us: bigint): string {
  const dayUs = 86_400_000_000n
  return dateOf(Number(us / dayUs) - (us < 0n && us % dayUs !== 0n ? 1 : 0))
}

function linkColumns(tx: Queryable): Fragment {
  return tx`tenant, row_links.day::text as day, seq, ids::text as ids, min_us as "minUs", max_us as "maxUs", rows, sha256`
}
