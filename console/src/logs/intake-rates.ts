// Rates from two states of the intake. The service tells counts since its start; what moves is made here.

import type { HistogramState, IntakeStatus } from '../../../services/log-ingestion/api.ts'

export interface IntakeRates {
  rowsPerSecond: number
  bytesPerSecond: number
  storedPerSecond: number
  protocols: { protocol: string; rowsPerSecond: number; bytesPerSecond: number; rows: number }[]
  /** Milliseconds from append to acknowledgement; null when nothing was acknowledged in between. */
  ackP50Ms: number | null
  ackP99Ms: number | null
  /** Seconds until the journal is full at the present speed; null when it does not grow. */
  journalFullInS: number | null
}

/** Null when the two cannot be compared: too close, or the service began anew in between. */
export function ratesBetween(before: IntakeStatus, after: IntakeStatus): IntakeRates | null {
  const seconds = (Date.parse(after.at) - Date.parse(before.at)) / 1000
  if (seconds <= 0 || after.uptime_seconds < before.uptime_seconds) return null
  const rows = (status: IntakeStatus, outcome: string, protocol?: string) =>
    sum(status.rows.filter(row => row.outcome === outcome && (protocol === undefined || row.protocol === protocol)))
  const bytes = (status: IntakeStatus, protocol?: string) =>
    sum(status.bytes.filter(row => protocol === undefined || row.protocol === protocol))
  const names = [...new Set(after.rows.filter(row => row.outcome === 'accepted').map(row => row.protocol))]
  const journalPerSecond = (after.journal.bytes - before.journal.bytes) / seconds
  return {
    rowsPerSecond: (rows(after, 'accepted') - rows(before, 'accepted')) / seconds,
    bytesPerSecond: (bytes(after) - bytes(before)) / seconds,
    storedPerSecond: (rows(after, 'stored') - rows(before, 'stored')) / seconds,
    protocols: names.map(protocol => ({
      protocol,
      rows: rows(after, 'accepted', protocol),
      rowsPerSecond: (rows(after, 'accepted', protocol) - rows(before, 'accepted', protocol)) / seconds,
      bytesPerSecond: (bytes(after, protocol) - bytes(before, protocol)) / seconds,
    })),
    ackP50Ms: quantileMs(before.append, after.append, 0.5),
    ackP99Ms: quantileMs(before.append, after.append, 0.99),
    journalFullInS:
      journalPerSecond > 0
        ? Math.max(0, (after.journal.capacity_bytes - after.journal.bytes) / journalPerSecond)
        : null,
  }
}

function sum(rows: readonly { count: number }[]): number {
  return rows.reduce((total, { count }) => total + count, 0)
}

/** Between the bounds of its bucket the quantile is placed by straight line, as Prometheus does. */
export function quantileMs(before: HistogramState, after: HistogramState, share: number): number | null {
  const count = after.count - before.count
  if (count <= 0) return null
  const rank = count * share
  let lowerS = 0
  let below = 0
  for (const { at_most_seconds: upperS, count: cumulative } of after.buckets) {
    const earlier = before.buckets.find(bucket => bucket.at_most_seconds === upperS)?.count ?? 0
    const within = cumulative - earlier
    if (within >= rank && within > below)
      return (lowerS + ((upperS - lowerS) * (rank - below)) / (within - below)) * 1000
    lowerS = upperS
    below = within
  }
  // Slower than the last bound: that bound is all that is known.
  return lowerS * 1000
}
