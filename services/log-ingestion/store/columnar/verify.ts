// Recomputing the evidence of a tenant and day: every link of the chain, every signature, every block's own hash and that of
// the rows of every link, and that what is stored is what some link says was stored.

import type { Sql } from '#platform/postgres'
import { isSignedBy } from '../../evidence-key.ts'
import { rowLinks } from '../rows/chain.ts'
import type { VerifiedDay, VerifyRange } from '../store.ts'
import { type HeaderRow, headerColumns, headerOf, loadSections } from './blocks.ts'
import { chainStart, nextLink, type Rewrite, rewriteText } from './chain.ts'
import { contentHash } from './encode.ts'

const blocksAtOnce = 8

export async function* verifyBlocks(sql: Sql, range: VerifyRange, signal?: AbortSignal): AsyncGenerator<VerifiedDay> {
  const days = await sql<{ tenant: string; day: string }[]>`
    select tenant, day::text as day from (
      select tenant, day from purser_logs.chain_heads union select distinct tenant, day from purser_logs.blocks) d
    where ${range.tenant ?? null}::text is null or tenant = ${range.tenant ?? null}
    order by day, tenant`
  for (const { tenant, day } of days) {
    signal?.throwIfAborted()
    if ((range.fromDay && day < range.fromDay) || (range.toDay && day > range.toDay)) continue
    yield await sql.begin('isolation level repeatable read read only', tx => verifyDay(tx, tenant, day))
  }
}

type SnapshotTx = Parameters<typeof loadSections>[0]

async function verifyDay(tx: SnapshotTx, tenant: string, day: string): Promise<VerifiedDay> {
  const result: VerifiedDay = { tenant, day, blocks: 0, links: 0, rows: 0n, head: null, broken: null }
  const fail = (at: string, problem: string): VerifiedDay => ({ ...result, broken: { at, problem } })

  const links = await tx<{ seq: bigint; sha256: Buffer; chain: Buffer }[]>`
    select seq, sha256, chain from purser_logs.chain where tenant = ${tenant} and day = ${day}::date order by seq`
  let chain: Buffer = chainStart
  let seq = 0n
  /** Blocks that must be there, or have been rewritten; by hash, how many. */
  const expected = new Map<string, number>()
  for (const link of links) {
    seq += 1n
    if (link.seq !== seq) return fail(`link ${seq}`, 'is missing')
    chain = nextLink(chain, link.sha256)
    if (!chain.equals(link.chain)) return fail(`link ${seq}`, 'does not follow from the one before it')
    add(expected, link.sha256.toString('hex'), 1)
    result.links++
  }
  result.head = links.length === 0 ? null : chain.toString('hex')
  const [head] = await tx<{ seq: bigint; chain: Buffer }[]>`
    select seq, chain from purser_logs.chain_heads where tenant = ${tenant} and day = ${day}::date`
  if (head ? head.seq !== seq || !head.chain.equals(chain) : seq > 0n)
    return fail(`link ${seq}`, 'is not where the chain says it ends')

  const rewrites = await tx<
    {
      id: bigint
      reason: Rewrite['reason']
      before: string[]
      after: string[]
      atUs: bigint
      key: string
      signature: string
    }[]
  >`
    select id, reason, array(select encode(h, 'hex') from unnest(before) with ordinality u(h, n) order by n) as before,
           array(select encode(h, 'hex') from unnest(after) with ordinality u(h, n) order by n) as after, at_us as "atUs",
           translate(encode(public_key, 'base64'), E'\n', '') as key, translate(encode(signature, 'base64'), E'\n', '') as signature
    from purser_logs.rewrites where tenant = ${tenant} and day = ${day}::date order by id`
  for (const { id, reason, before, after, atUs, key, signature } of rewrites) {
    if (!isSignedBy(key, rewriteText({ tenant, day, reason, before, after, atUs }), signature))
      return fail(`rewrite ${id}`, 'has a signature that does not fit')
    for (const hash of before)
      if (!add(expected, hash, -1)) return fail(`rewrite ${id}`, `replaces ${hash}, which was never stored`)
    for (const hash of after) add(expected, hash, 1)
    result.links++
  }

  const headers = (
    await tx<HeaderRow[]>`
      select ${headerColumns(tx)} from purser_logs.blocks b where tenant = ${tenant} and day = ${day}::date order by id`
  ).map(headerOf)
  for (let at = 0; at < headers.length; at += blocksAtOnce) {
    const group = headers.slice(at, at + blocksAtOnce)
    const loaded = await loadSections(tx, group, ['head', 'messages', 'metadata'])
    for (const [i, header] of group.entries()) {
      const { head: bytes, messages, metadata } = loaded[i] ?? {}
      if (!bytes || !messages || !metadata) return fail(`block ${header.id}`, 'cannot be read')
      const hash = contentHash({ head: bytes, messages, metadata })
      if (!hash.equals(header.sha256)) return fail(`block ${header.id}`, 'is not what its hash says')
      if (!add(expected, hash.toString('hex'), -1)) return fail(`block ${header.id}`, 'is in no link of the chain')
      result.blocks++
      result.rows += BigInt(header.rows)
    }
  }
  for await (const { seq, sha256, rows, found } of rowLinks(tx, tenant, day)) {
    if (found.rows < rows) return fail(`link ${seq}`, `speaks of ${rows} entries, and ${found.rows} are there`)
    if (!found.sha256.equals(sha256)) return fail(`link ${seq}`, 'speaks of entries that are not what was stored')
    if (!add(expected, sha256.toString('hex'), -1)) return fail(`link ${seq}`, 'covers what no chain speaks of')
    result.rows += rows
  }
  for (const [hash, count] of expected)
    if (count > 0) return fail(`what had the hash ${hash}`, 'was stored and is gone')
  return result
}

/** False when there is none to take away. */
function add(counts: Map<string, number>, hash: string, by: 1 | -1): boolean {
  const count = (counts.get(hash) ?? 0) + by
  if (count < 0) return false
  counts.set(hash, count)
  return true
}
