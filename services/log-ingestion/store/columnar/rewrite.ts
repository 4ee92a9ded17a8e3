// Blocks written anew: merged by the compactor, or without the entries that a deletion or the retention took. Old blocks
// leave and new ones come in one transaction, with a signed link between their hashes; a reader sees either.

import type { Sql, Tx } from '#platform/postgres'
import type { EvidenceKey } from '../../evidence-key.ts'
import { type BlockHeader, dateOf, insertBlocks, loadSections } from './blocks.ts'
import { insertRewrite, type Rewrite } from './chain.ts'
import type { BlockSections } from './decode.ts'
import type { FreshBlock } from './fresh.ts'

/** Somebody else rewrote one of these blocks first. */
export class BlocksMoved extends Error {}

export async function loadWhole(sql: Sql, headers: readonly BlockHeader[]): Promise<Required<BlockSections>[]> {
  const loaded = await sql.begin('read only', tx => loadSections(tx, headers, ['head', 'messages', 'metadata']))
  return loaded.map(sections => {
    const { head, messages, metadata } = sections ?? {}
    if (!head || !messages || !metadata) throw new BlocksMoved()
    return { head, messages, metadata }
  })
}

/** Blocks of one tenant and day. Answers the hashes before and after, hex. @throws BlocksMoved */
export async function replaceBlocks(
  tx: Tx,
  evidence: EvidenceKey,
  o: { before: readonly BlockHeader[]; after: readonly FreshBlock[]; reason: Rewrite['reason']; nowMs: number },
): Promise<{ before: string[]; after: string[] }> {
  const [first] = o.before
  if (!first) return { before: [], after: [] }
  const gone = await tx<{ sha256: Buffer }[]>`
    delete from purser_logs.blocks where day = ${dateOf(first.day)}::date and id = any(${o.before.map(({ id }) => String(id))}::int8[])
    returning sha256`
  if (gone.length !== o.before.length) throw new BlocksMoved()
  await insertBlocks(tx, o.after, 1)
  const before = o.before.map(({ sha256 }) => sha256.toString('hex'))
  const after = o.after.map(({ sha256 }) => sha256.toString('hex'))
  await insertRewrite(tx, evidence, {
    tenant: first.tenant,
    day: dateOf(first.day),
    reason: o.reason,
    before,
    after,
    atUs: BigInt(o.nowMs) * 1_000n,
  })
  return { before, after }
}
