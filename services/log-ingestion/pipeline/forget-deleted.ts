// What was deleted also leaves the segments that the journal keeps to refill a restored database. They go whole: with them
// goes the refill of what was accepted before the deletion, so they stay for half a day, as long as a restore is likely to be
// of yesterday's mistake and a deletion is promised to be done within one.

import type { Journal } from '#platform/journal'
import { segmentBegunMs } from '#platform/journal/position'
import type { Clock } from '#platform/time'
import { noDedupe, RecordBuilder } from '../record.ts'
import type { DeletionMemory } from '../rules/deletion-memory.ts'
import type { Acceptance } from './acceptance.ts'

const keepMs = 12 * 3_600_000
/** A request may have its time already and not yet be in the journal. */
const inFlightMs = 10_000

/** To be called now and then: what is not stored yet goes another time. */
export async function forgetDeleted(o: {
  journal: Journal
  acceptance: Acceptance
  deletions: DeletionMemory
  clock: Clock
}): Promise<void> {
  const { journal, acceptance, deletions, clock } = o
  const due = deletions.due(clock.now() - keepMs)
  if (!due) return
  if (await forgetWritten({ journal, acceptance, clock }, due.acceptedBeforeMs + inFlightMs))
    await deletions.forgotten(due.acceptedBeforeMs)
}

/** False: something of it is not stored yet. */
export async function forgetWritten(
  { journal, acceptance, clock }: { journal: Journal; acceptance: Acceptance; clock: Clock },
  beforeMs: number,
): Promise<boolean> {
  if (await journal.forget(beforeMs)) return true
  if (segmentBegunMs(journal.end.segment) > beforeMs) return false
  // A quiet journal: its newest segment goes when another one has begun. This record has no rows.
  const header = {
    protocol: 'self',
    tenant: 'public',
    key: 'self',
    idempotencyKey: '',
    dedupeHash: noDedupe,
  } as const
  await acceptance.accept(new RecordBuilder(), { ...header, receivedUs: BigInt(clock.now()) * 1_000n })
  return await journal.forget(beforeMs)
}
