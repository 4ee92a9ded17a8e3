import type { UsageRow } from '../api/billaged.ts'
import type { Column, SeriesTable } from '../series/table.ts'
import { formatBytes } from '../units/bytes.ts'
import { formatCountShort } from '../units/counts.ts'
import { formatMoney } from '../units/money.ts'
import { type MeterUnit, unitsOf } from './meters.ts'

// Usage rows to what a chart draws. A drawn height is a length, not a quantity: exact integers become doubles here, and
// nowhere else.

/** A meter's rows in the order of their spans. */
export interface MeterSpans {
  meter: string
  unit: string
  /** Unix ms of each span's start; the last entry is the end of the last one. */
  edgesMs: number[]
  /** In base units, exact. */
  quantities: string[]
}

/** Rows of `by=day` or `by=hour`, meter by meter, those that were never used left out. `days`: a span of time whose UTC
 *  days are all there, also those without a row, so that charts of one page stand on the same days. */
export function spansByMeter(rows: readonly UsageRow[], days?: { from: string; to: string }): MeterSpans[] {
  const meters = new Map<string, { unit: string; spans: Map<number, { endMs: number; quantity: string }> }>()
  const starts = new Map<number, number>(days === undefined ? [] : daysOf(days))
  for (const { meter, unit, quantity, from, to } of rows) {
    if (from === undefined || to === undefined) continue
    const [startMs, endMs] = [Date.parse(from), Date.parse(to)]
    starts.set(startMs, Math.max(starts.get(startMs) ?? 0, endMs))
    const one = meters.get(meter) ?? { unit, spans: new Map() }
    one.spans.set(startMs, { endMs, quantity })
    meters.set(meter, one)
  }
  const edges = [...starts.keys()].sort((a, b) => a - b)
  const endMs = Math.max(...starts.values())
  return [...meters].flatMap(([meter, { unit, spans }]) => {
    const quantities = edges.map(start => spans.get(start)?.quantity ?? '0')
    return quantities.every(isNothing) ? [] : [{ meter, unit, edgesMs: [...edges, endMs], quantities }]
  })
}

/** `12345678901` base units as a double of the unit people count in: three decimals, for a length on the screen. */
export function drawnQuantity(quantity: string, { per }: MeterUnit): number {
  const match = /^(-?)(\d{1,40})(?:\.(\d{1,9}))?$/.exec(quantity)
  if (!match) return 0
  const [, sign, whole = '0', fraction = ''] = match
  const scaled = (BigInt(whole) * 1_000_000n) / per
  const value = Number(scaled) / 1e6 + Number(`0.${fraction || '0'}`) / Number(per)
  return sign ? -value : value
}

/** Text of a drawn value: its digits are as few as a chart needs. */
export function drawnFormat(unit: string, meter = ''): { unit: MeterUnit; format: (value: number) => string } {
  const [main] = unitsOf(unit, meter)
  if (unit === 'bytes') return { unit: { name: 'bytes', per: 1n }, format: value => formatBytes(value) }
  if (unit === 'nano')
    return { unit: { name: 'nano', per: 1n }, format: value => formatMoney(BigInt(Math.round(value))) }
  if (main.per === 1n) return { unit: main, format: value => formatCountShort(value) }
  const short: Record<string, string> = { 'core-hour': 'core-h', hour: 'h', 'GiB-hour': 'GiB-h', minute: 'min' }
  const name = short[main.name]
  // Tokens and entries: the short count already says the size.
  if (name === undefined) return { unit: { name: unit, per: 1n }, format: value => formatCountShort(value) }
  return { unit: main, format: value => `${threeDigits(value)} ${name}` }
}

/** Hours of one VM as averages over the time that was read; an hour nobody read is unknown, not zero. */
export function vmTable(rows: readonly UsageRow[], measuredMs: (fromMs: number, toMs: number) => number): SeriesTable {
  const spans = spansByMeter(rows)
  const edges = spans[0]?.edgesMs ?? []
  const times = edges.slice(0, -1)
  const known = times.map((fromMs, i) => measuredMs(fromMs, edges[i + 1] ?? fromMs))
  const column = (meter: string, per: bigint): Column => {
    const found = spans.find(one => one.meter === meter)
    return times.map((_, i) => {
      const ms = known[i] ?? 0
      return ms <= 0 ? null : drawnQuantity(found?.quantities[i] ?? '0', { name: '', per }) / (ms / 1000)
    })
  }
  return {
    times: times.map(ms => ms / 1000),
    columns: {
      cores: column('vm_cpu', 1_000_000_000n),
      memory: column('vm_memory', 1_000_000_000n),
      read: column('vm_disk_read', 1n),
      written: column('vm_disk_write', 1n),
      received: column('vm_net_rx', 1n),
      sent: column('vm_net_tx', 1n),
    },
  }
}

const dayMs = 86_400_000
/** Days drawn; a year is the longest period. */
const daysMax = 366

function daysOf({ from, to }: { from: string; to: string }): [startMs: number, endMs: number][] {
  const [fromMs, toMs] = [Date.parse(from), Date.parse(to)]
  const days: [number, number][] = []
  for (let at = fromMs; at < toMs && days.length < daysMax; ) {
    const end = Math.min(toMs, (Math.floor(at / dayMs) + 1) * dayMs)
    days.push([at, end])
    at = end
  }
  return days
}

function isNothing(quantity: string): boolean {
  return /^0*(?:\.0*)?$/.test(quantity)
}

function threeDigits(value: number): string {
  const abs = Math.abs(value)
  return value.toFixed(abs >= 99.95 || value === 0 ? 0 : abs >= 9.995 ? 1 : 2)
}
