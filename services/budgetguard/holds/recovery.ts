// What a process does with the journal of a life that ended: fold it, end the holds it left open, give its slices back.
//
// A hold without an end may have been sent. It is booked by policy, as a visible row that reconciliation can correct:
//   hold: the whole bound; estimate: the input and half of the output bound; release: nothing.

import type { Journal } from '#platform/journal'
import type { Sql, Tx } from '#platform/postgres'
import type { Logger } from '#platform/telemetry'
import type { Clock } from '#platform/time'
import { weighted } from '../book.ts'
import type { FoldPlan } from '../fold-plan.ts'
import { type EndRecord, encodeRecord, type HoldRecord } from '../record.ts'
import { closeLeases, type NodeLife } from '../store/accounts.ts'
import { listHolds } from '../store/holds.ts'
import { openFold } from './fold.ts'
import { createSerial } from './serial.ts'

export type OrphanPolicy = 'hold' | 'estimate' | 'release'

/** More open holds than this in one process would be a leak; recovery takes them in portions anyway. */
const portion = 1_000

export async function recoverJournal(o: {
  sql: Sql
  journal: Journal
  /** The life that recovers: newer than all whose slices are given back. */
  life: NodeLife
  policy: OrphanPolicy
  report: (tx: Tx, plan: FoldPlan) => Promise<void>
  log: Logger
  clock: Clock
}): Promise<{ orphans: number; settled: bigint; returned: bigint }> {
  const { sql, journal, life, log, clock } = o
  const fold = await openFold({ sql, journal, nodeId: life.id, log, clock, report: o.report, serial: createSerial() })
  await fold.catchUp()
  let orphans = 0
  let settled = 0n
  for (;;) {
    const holds = await listHolds(sql, { nodeId: life.id, limit: portion })
    if (holds.length === 0) break
    for (const { record } of holds) {
      const end = endOrphan(record, o.policy, 'ORPHANED')
      await journal.append(encodeRecord(end))
      orphans += 1
      settled += end.outcome.settled
    }
    // Folding an end removes its hold from the mirror, so the next portion is others.
    await fold.catchUp()
  }
  await fold.close()
  const returned = await closeLeases(sql, life.id, { beforeFence: life.fence })
  return { orphans, settled, returned }
}

export function endOrphan(hold: HoldRecord, policy: OrphanPolicy, reason: string): EndRecord {
  const settled = orphanCost(hold, policy)
  return {
    type: 'end',
    id: hold.id,
    fence: hold.fence,
    held: hold.amount,
    parts: hold.parts.map(part => ({
      accountId: part.accountId,
      held: part.amount,
      settled: weighted(settled, part.weightPpm),
    })),
    call: hold.call,
    outcome: {
      status: 'failed',
      reason,
      input: 0n,
      cacheRead: 0n,
      cacheWrite: 0n,
      output: 0n,
      reasoning: 0n,
      usageSource: policy === 'hold' ? 'hold' : policy === 'estimate' ? 'estimated' : 'none',
      settled,
      exact: settled * 1_000_000_000_000n,
      upstreamId: null,
      latencyMs: 0,
      flags: ['reaped'],
    },
  }
}

export function orphanCost(hold: Pick<HoldRecord, 'amount' | 'amountOfOutput'>, policy: OrphanPolicy): bigint {
  switch (policy) {
    case 'hold':
      return hold.amount
    case 'estimate':
      return hold.amount - (hold.amountOfOutput >> 1n)
    case 'release':
      return 0n
    default:
      return policy satisfies never
  }
}
