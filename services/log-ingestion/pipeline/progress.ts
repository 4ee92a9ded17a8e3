// How far things are, in rows: accepted by the journal, committed by the writer, and whether the two agree with what the
// database can account for. Three independent counts; this file only compares them.

import type { Clock } from '#platform/time'
import type { Writer } from './writer.ts'

export interface Progress {
  begin(acceptedRows: bigint, committedRowsHint: bigint): void
  accepted(rows: number, receivedUs: bigint): void
  committed(o: { rows: number; rowsBehind: bigint; receivedUs: bigint; quarantined: number }): void
  /** Nothing of the first `rows` rows is pending. */
  caughtUp(rows: bigint): void
  /** The database may have lost what it had: nothing is known until the journal has been compared with it. */
  doubt(): void
  follow(writer: Writer): void
  readonly acceptedRows: bigint
  readonly committedRows: bigint | undefined
  pendingRows(): number
  watermarkUs(): bigint
  /** Seconds until a full journal may have room, 1…60. */
  drainRetryS(): number
  hasRecentQuarantine(): boolean
  /** Compares the journal's own total with the database's. */
  compare(accountedRows: bigint): void
  readonly imbalanceRows: number
  quarantinedRows: number
}

const recentMs = 3_600_000
/** Over which the speed of the writer is measured. */
const speedWindowMs = 10_000

export function createProgress({ clock }: { clock: Clock }): Progress {
  let acceptedRows = 0n
  let committedRows: bigint | undefined
  let lastCommittedUs: bigint | undefined
  let firstPendingUs: bigint | undefined
  let quarantinedAtMs: number | undefined
  let imbalanceRows = 0
  let writer: Writer | undefined
  /** What was noted before the last stop may be behind; what the writer says is not. */
  let isHint = true
  const commits: { atMs: number; rows: number }[] = []

  const pending = () =>
    committedRows === undefined || acceptedRows <= committedRows ? 0 : Number(acceptedRows - committedRows)

  const forgetOld = () => {
    const fromMs = clock.monotonicMs() - speedWindowMs
    while (commits[0] && commits[0].atMs < fromMs) commits.shift()
  }

  return {
    quarantinedRows: 0,
    begin(accepted, hint) {
      acceptedRows = accepted
      committedRows = hint
    },
    accepted(rows, receivedUs) {
      if (pending() === 0) firstPendingUs = receivedUs
      acceptedRows += BigInt(rows)
    },
    committed({ rows, rowsBehind, receivedUs, quarantined }) {
      committedRows = rowsBehind
      isHint = false
      lastCommittedUs = receivedUs
      if (quarantined > 0) quarantinedAtMs = clock.monotonicMs()
      commits.push({ atMs: clock.monotonicMs(), rows })
      forgetOld()
    },
    caughtUp(rows) {
      if (isHint || committedRows === undefined || rows > committedRows) committedRows = rows
      isHint = false
    },
    doubt() {
      isHint = true
      lastCommittedUs = undefined
      firstPendingUs = undefined
    },
    get acceptedRows() {
      return acceptedRows
    },
    follow(opened) {
      writer = opened
    },
    get committedRows() {
      return committedRows
    },
    pendingRows: pending,
    watermarkUs() {
      // Of a journal that is read again some is pending that was committed once.
      const oldestUs = writer?.status().oldestPendingUs
      if (oldestUs !== undefined) return oldestUs
      if (pending() === 0 && !isHint) return BigInt(clock.now()) * 1_000n
      return lastCommittedUs ?? firstPendingUs ?? 0n
    },
    drainRetryS() {
      forgetOld()
      const rows = commits.reduce((sum, commit) => sum + commit.rows, 0)
      if (rows === 0) return 60
      // A tenth of the backlog is room enough for everybody to try again.
      const seconds = (pending() / 10 / rows) * (speedWindowMs / 1_000)
      return Math.min(60, Math.max(1, Math.ceil(seconds)))
    },
    hasRecentQuarantine: () => quarantinedAtMs !== undefined && clock.monotonicMs() - quarantinedAtMs < recentMs,
    compare(accountedRows) {
      imbalanceRows = isHint || committedRows === undefined ? 0 : Number(committedRows - accountedRows)
    },
    get imbalanceRows() {
      return imbalanceRows
    },
  }
}
