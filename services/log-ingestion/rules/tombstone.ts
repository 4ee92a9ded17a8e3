// What is left of a deletion, and how it is signed. Nothing of what was deleted is in it: entries enter as digests under a
// key, so that nobody can guess a short entry and confirm the guess.

import { createHmac } from 'node:crypto'
import type { EvidenceKey } from '../evidence-key.ts'
import type { DeletionJob, Tombstone } from '../store/rules/deletions.ts'
import type { ErasedChunk, StoredEntry } from '../store/store.ts'

/**
 * The chains behind a chunk. `before` goes over what was there: entries of the table, or the hashes of the blocks that
 * held them; `after` over what took their place: nothing for an entry, the new block's hash for a block.
 */
export function chained(
  key: Buffer,
  at: { hashBefore: string; hashAfter: string },
  chunk: ErasedChunk,
): { hashBefore: string; hashAfter: string } {
  const before = createHmac('sha256', key).update(at.hashBefore)
  const after = createHmac('sha256', key).update(at.hashAfter)
  for (const entry of chunk.entries ?? []) before.update(canonical(entry))
  for (const block of chunk.blocks) {
    before.update(`${block.day}\n${block.before}\n`)
    after.update(`${block.day}\n${block.after ?? '-'}\n`)
  }
  return { hashBefore: before.digest('hex'), hashAfter: after.digest('hex') }
}

/** Texts with their lengths: no two entries have one form. */
function canonical({ id, timestampNs, service, level, message, metadata, createdUs }: StoredEntry): string {
  return [id, timestampNs, createdUs, service, level, message, metadata ?? '']
    .map(value => String(value))
    .map(text => `${Buffer.byteLength(text)}:${text}`)
    .join('')
}

export function tombstoneOf(job: DeletionJob, finishedAt: string, key: EvidenceKey): Tombstone {
  const body = JSON.stringify({
    deletion: job.id,
    tenant: job.tenant,
    filter: {
      q: job.q,
      from_ns: String(job.fromNs),
      to_ns: String(job.toNs),
      accepted_before_us: String(job.acceptedBeforeUs),
    },
    reason: job.reason,
    requested_by: job.requestedBy,
    requested_at: job.requestedAt,
    finished_at: finishedAt,
    rows: String(job.rows),
    bytes: String(job.bytes),
    hash_before: job.hashBefore,
    hash_after: job.hashAfter,
  })
  return { body, signature: key.sign(body), publicKey: key.publicKey }
}
