// What a stretch of the journal means for the database, worked out without touching it.

import type { EndRecord, HoldRecord, Record, RefusalRecord } from './record.ts'

/** A record and its number in its node's journal; (node, sequence) names it for ever. */
export interface Numbered<R = Record> {
  sequence: bigint
  record: R
}

export interface FoldPlan {
  ends: Numbered<EndRecord>[]
  /** Identical refusals of one key within one second, as one row. */
  refusals: (Numbered<RefusalRecord> & { count: number })[]
  /** Opened in this stretch and not ended in it. */
  opened: HoldRecord[]
  /** Opened in an earlier stretch, ended here. */
  closed: string[]
  /** Per account and life of the process: what the ends settled, and how much of it exceeded its hold. */
  settled: { accountId: bigint; fence: bigint; amount: bigint; overrun: bigint }[]
  tenants: number[]
}

export function planFold(records: readonly Numbered[]): FoldPlan {
  const ends: Numbered<EndRecord>[] = []
  const refusals = new Map<string, Numbered<RefusalRecord> & { count: number }>()
  const opened = new Map<string, HoldRecord>()
  const closed: string[] = []
  const settled = new Map<string, { accountId: bigint; fence: bigint; amount: bigint; overrun: bigint }>()
  const tenants = new Set<number>()

  for (const { sequence, record } of records) {
    tenants.add(record.call.tenantId)
    switch (record.type) {
      case 'hold':
        opened.set(record.id, record)
        break
      case 'end': {
        ends.push({ sequence, record })
        if (!opened.delete(record.id)) closed.push(record.id)
        for (const part of record.parts) {
          const key = `${part.accountId}/${record.fence}`
          const entry = settled.get(key) ?? { accountId: part.accountId, fence: record.fence, amount: 0n, overrun: 0n }
          entry.amount += part.settled
          if (part.settled > part.held) entry.overrun += part.settled - part.held
          settled.set(key, entry)
        }
        break
      }
      case 'refusal': {
        const key = refusalKey(record)
        const same = refusals.get(key)
        if (same) same.count += 1
        else refusals.set(key, { sequence, record, count: 1 })
        break
      }
      default:
        record satisfies never
    }
  }
  return {
    ends,
    refusals: [...refusals.values()],
    opened: [...opened.values()],
    closed,
    settled: [...settled.values()],
    tenants: [...tenants].sort((a, b) => a - b),
  }
}

/** Same key, same second, same everything a reader of the row could see. */
function refusalKey({ call, status, reason }: RefusalRecord): string {
  return JSON.stringify([
    call.tenantId,
    call.keyPrefix,
    Math.floor(call.atMs / 1_000),
    status,
    reason,
    call.route,
    call.model,
    call.sessionId,
    call.endUser,
  ])
}
