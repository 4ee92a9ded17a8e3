// What stretch of time the Logs screen looks at, and how wide a bar of its histogram is.

export const ranges = ['5m', '15m', '1h', '6h', '24h', '7d'] as const
export const rangeDefault = '1h'

export interface Span {
  fromMs: number
  toMs: number
  /** True for "the last …", whose end moves with the clock. */
  isRelative: boolean
}

/** A fixed from/to (both ends needed, in order) wins over a range; an unreadable one means the default. */
export function spanOf(o: { range: string; from: string; to: string }, nowMs: number): Span {
  const [fromMs, toMs] = [Date.parse(o.from), Date.parse(o.to)]
  if (fromMs < toMs) return { fromMs, toMs, isRelative: false }
  const ms = rangeMs(o.range) ?? rangeMs(rangeDefault) ?? 3_600_000
  return { fromMs: nowMs - ms, toMs: nowMs, isRelative: true }
}

export function rangeMs(text: string): number | null {
  const match = /^(\d{1,4})([smhd])$/.exec(text)
  if (!match) return null
  const unit = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }[match[2] as 's' | 'm' | 'h' | 'd']
  return Number(match[1]) * unit
}

const stepsMs = [
  100, 250, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 900_000, 1_800_000,
  3_600_000, 7_200_000, 10_800_000, 21_600_000, 43_200_000, 86_400_000,
]

/** The smallest round interval that needs at most `bars` of them. Beyond the list: whole days. */
export function barIntervalMs(span: Pick<Span, 'fromMs' | 'toMs'>, bars: number): number {
  const needed = Math.max(1, span.toMs - span.fromMs) / Math.max(1, bars)
  return stepsMs.find(step => step >= needed) ?? Math.ceil(needed / 86_400_000) * 86_400_000
}
