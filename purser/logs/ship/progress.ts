// What a shipper is doing, in one line: on a terminal rewritten in place, with --json one object a second.

export interface ShipTotals {
  files: number
  bytesShipped: number
  bytesTotal: number
  rowsAcknowledged: number
  rowsRejected: number
}

export interface ShipProgress extends ShipTotals {
  rowsPerS: number
  /** Since when there has been something that is not acknowledged. */
  lagS: number
  /** Until it is, at this speed; null when nothing moves. */
  etaS: number | null
}

const windowMs = 5_000

export function createProgress(now: () => number): (totals: ShipTotals) => ShipProgress {
  // What takes less than a second has a speed too. How far earlier lives came, the first look tells.
  const samples: { atMs: number; rows: number; bytes: number | null }[] = [{ atMs: now(), rows: 0, bytes: null }]
  let caughtUpAtMs = now()
  return totals => {
    const atMs = now()
    samples.push({ atMs, rows: totals.rowsAcknowledged, bytes: totals.bytesShipped })
    while (samples.length > 2 && (samples[0]?.atMs ?? 0) < atMs - windowMs) samples.shift()
    const behind = totals.bytesTotal - totals.bytesShipped
    if (behind === 0) caughtUpAtMs = atMs
    const first = samples[0] ?? { atMs, rows: 0, bytes: 0 }
    const seconds = Math.max(0.001, (atMs - first.atMs) / 1_000)
    first.bytes ??= totals.bytesShipped
    const bytesPerS = (totals.bytesShipped - first.bytes) / seconds
    return {
      ...totals,
      rowsPerS: Math.round((totals.rowsAcknowledged - first.rows) / seconds),
      lagS: Math.round((atMs - caughtUpAtMs) / 100) / 10,
      etaS: behind === 0 ? 0 : bytesPerS > 0 ? Math.ceil(behind / bytesPerS) : null,
    }
  }
}

export function progressLine(p: ShipProgress): string {
  const parts = [
    `${p.files} ${p.files === 1 ? 'file' : 'files'}`,
    `${megabytes(p.bytesShipped)} of ${megabytes(p.bytesTotal)}`,
    `${grouped(p.rowsPerS)} rows/s`,
    `acknowledged on disk ${grouped(p.rowsAcknowledged)}`,
    `lag ${p.lagS.toFixed(1)} s`,
  ]
  if (p.rowsRejected > 0) parts.push(`refused ${grouped(p.rowsRejected)}`)
  if (p.etaS !== 0) parts.push(p.etaS === null ? 'waiting' : `${p.etaS} s to go`)
  return ` ${parts.join('   ')}`
}

function megabytes(bytes: number): string {
  return `${(bytes / 1_000_000).toFixed(1)} MB`
}

function grouped(n: number): string {
  return String(n).replaceAll(/\B(?=(\d{3})+$)/g, ' ')
}
