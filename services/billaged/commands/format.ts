import { formatUsd } from '#platform/money'

// One formatter per unit, as people read them: amounts, quantities, spans of time.

export function money(currency: string, nano: string): string {
  return `${currency} ${formatUsd(BigInt(nano))}`
}

/** 444444440436000 as 444,444,440,436,000. */
export function grouped(digits: string): string {
  const [whole = '', fraction] = digits.split('.')
  const text = whole.replace(/\B(?=(\d{3})+$)/g, ',')
  return fraction === undefined ? text : `${text}.${fraction}`
}

/** Nanoseconds as 00:14:10. */
export function clockTime(ns: string): string {
  const seconds = BigInt(ns) / 1_000_000_000n
  const two = (n: bigint) => `${n}`.padStart(2, '0')
  return `${two(seconds / 3600n)}:${two((seconds / 60n) % 60n)}:${two(seconds % 60n)}`
}

/** October 2026. */
export function monthTitle(from: string): string {
  const names = 'January February March April May June July August September October November December'.split(' ')
  return `${names[Number(from.slice(5, 7)) - 1]} ${from.slice(0, 4)}`
}

/** Columns aligned: the last one to the right, and numbers in it by their points. */
export function table(cells: readonly (readonly string[])[]): string[] {
  const behind = cells.map(row => /\d(\.\d+)?$/.exec(row.at(-1) ?? '')?.[1]?.length ?? 0)
  const most = Math.max(0, ...behind)
  const rows = cells.map((row, y) =>
    row.map((cell, x) => (x === row.length - 1 ? pointed(cell, most - (behind[y] ?? 0)) : cell)),
  )
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map(row => row[i]?.length ?? 0)))
  return rows.map(row =>
    row
      .map((cell, i) => (i === row.length - 1 ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
      .join('  ')
      .trimEnd(),
  )
}

/** Blank digits behind a number; text stays at the edge. */
function pointed(cell: string, missing: number): string {
  return /\d$/.test(cell) ? cell + ' '.repeat(missing) : cell
}
