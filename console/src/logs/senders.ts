// Who sends how much, from two answers of the ledger some seconds apart.

import type { LedgerHour } from '../../../services/log-ingestion/api.ts'

export interface Counted {
  rows: readonly LedgerHour[]
  atMs: number
}

export interface Sender {
  key: string
  tenant: string
  rows: bigint
  bytes: bigint
  /** Null when there is nothing to compare with, or an hour left the window in between. */
  rowsPerSecond: number | null
  bytesPerSecond: number | null
}

/** The largest first. Rows that wait in the journal are accepted, too. */
export function sendersOf(now: Counted, before: Counted | null): Sender[] {
  const earlier = before ? sums(before.rows) : new Map<string, Sum>()
  const seconds = before ? (now.atMs - before.atMs) / 1_000 : 0
  return [...sums(now.rows).entries()]
    .map(([id, { key, tenant, rows, bytes }]) => {
      const then = earlier.get(id)
      const rate = (count: bigint, earlierCount: bigint) =>
        before && seconds > 0 && count >= earlierCount ? Number(count - earlierCount) / seconds : null
      return {
        key,
        tenant,
        rows,
        bytes,
        rowsPerSecond: rate(rows, then?.rows ?? 0n),
        bytesPerSecond: rate(bytes, then?.bytes ?? 0n),
      }
    })
    .sort((a, b) => (a.rows === b.rows ? a.key.localeCompare(b.key) : a.rows < b.rows ? 1 : -1))
}

interface Sum {
  key: string
  tenant: string
  rows: bigint
  bytes: bigint
}

function sums(hours: readonly LedgerHour[]): Map<string, Sum> {
  const found = new Map<string, Sum>()
  for (const { key, tenant, accepted, pending, bytes } of hours) {
    // What left the store, and what a damaged journal lost, is nobody's any more.
    if (key === '') continue
    const id = `${tenant} ${key}`
    const sum = found.get(id) ?? { key, tenant, rows: 0n, bytes: 0n }
    sum.rows += BigInt(accepted) + BigInt(pending)
    sum.bytes += BigInt(bytes)
    found.set(id, sum)
  }
  return found
}
