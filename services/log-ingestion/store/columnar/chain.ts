// Evidence of what was stored: per tenant and day, each block a commit writes (each commit's rows, with CHAIN) is linked to
// all before it; what is written anew later is linked by a signature from the old hashes to the new.

import { createHash } from 'node:crypto'
import { arrayLiteral, type Tx } from '#platform/postgres'
import type { EvidenceKey } from '../../evidence-key.ts'
import { dateOf } from './blocks.ts'

export const chainStart = Buffer.alloc(32)

export function nextLink(before: Buffer, sha256: Buffer): Buffer {
  return createHash('sha256').update(before).update(sha256).digest()
}

/** What a link stands for. */
export interface Linked {
  tenant: string
  /** Whole days since 1970. */
  day: number
  sha256: Buffer
}

/** Locks the head of each tenant and day, in one order for all: call it when it is this batch's turn. */
export async function appendLinks<T extends Linked>(
  tx: Tx,
  blocks: readonly T[],
): Promise<{ group: T; seq: bigint }[]> {
  const appended: { group: T; seq: bigint }[] = []
  const groups = Map.groupBy(blocks, ({ tenant, day }) => `${tenant}\0${dateOf(day)}`)
  for (const name of [...groups.keys()].sort()) {
    const [tenant = '', day = ''] = name.split('\0')
    await tx`
      insert into purser_logs.chain_heads (tenant, day, seq, chain) values (${tenant}, ${day}::date, 0, ${chainStart})
      on conflict do nothing`
    const [head] = await tx<{ seq: bigint; chain: Buffer }[]>`
      select seq, chain from purser_logs.chain_heads where tenant = ${tenant} and day = ${day}::date for update`
    if (!head) throw new Error('BUG: a chain has no head')
    let { seq, chain } = head
    const links = (groups.get(name) ?? []).map(group => {
      const { sha256 } = group
      chain = nextLink(chain, sha256)
      appended.push({ group, seq: ++seq })
      return { seq, sha256, chain }
    })
    await tx`
      insert into purser_logs.chain (tenant, day, seq, sha256, chain)
      select ${tenant}, ${day}::date, seq, decode(sha256, 'hex'), decode(chain, 'hex') from unnest(
        ${arrayLiteral(links.map(link => link.seq))}::int8[], ${links.map(link => link.sha256.toString('hex'))}::text[],
        ${links.map(link => link.chain.toString('hex'))}::text[]) as u(seq, sha256, chain)`
    await tx`update purser_logs.chain_heads set seq = ${seq}, chain = ${chain} where tenant = ${tenant} and day = ${day}::date`
  }
  return appended
}

export interface Rewrite {
  tenant: string
  /** YYYY-MM-DD */
  day: string
  /** `move`: from rows into blocks, which are links of their own. */
  reason: 'compaction' | 'deletion' | 'retention' | 'move'
  /** Hex. */
  before: readonly string[]
  after: readonly string[]
  atUs: bigint
}

/** What the signature covers. */
export function rewriteText({ tenant, day, reason, before, after, atUs }: Rewrite): string {
  return ['purser.logs.rewrite.v1', tenant, day, reason, before.join(','), after.join(','), String(atUs)].join('\n')
}

export async function insertRewrite(tx: Tx, key: EvidenceKey, rewrite: Rewrite): Promise<void> {
  const { tenant, day, reason, before, after, atUs } = rewrite
  await tx`
    insert into purser_logs.rewrites (tenant, day, reason, before, after, at_us, public_key, signature)
    values (${tenant}, ${day}::date, ${reason},
            (select coalesce(array_agg(decode(h, 'hex')), '{}') from unnest(${[...before]}::text[]) h),
            (select coalesce(array_agg(decode(h, 'hex')), '{}') from unnest(${[...after]}::text[]) h),
            ${atUs}, decode(${key.publicKey}, 'base64'), decode(${key.sign(rewriteText(rewrite))}, 'base64'))`
}
