// Time series for charts: one list of times (Unix seconds, ascending, each once) and columns of the same length.
// A null is "not known then" and breaks the line; it is never drawn as zero.

export type Column = (number | null)[]

export interface SeriesTable {
  times: readonly number[]
  columns: Readonly<Record<string, Column>>
}

export const emptyTable: SeriesTable = { times: [], columns: {} }

/** One series as Prometheus' range query returns it: seconds and the value as text. */
export interface MatrixSeries {
  metric: Readonly<Record<string, string>>
  values: readonly (readonly [seconds: number, value: string])[]
}

/** Aligns series on the union of their times. Series that share a key are added, so a key is also a `sum by`. */
export function tableFrom(
  matrix: readonly MatrixSeries[],
  keyOf: (metric: Readonly<Record<string, string>>) => string | null,
): SeriesTable {
  const rows = new Map<number, Map<string, number>>()
  const keys = new Set<string>()
  for (const { metric, values } of matrix) {
    const key = keyOf(metric)
    if (key === null) continue
    keys.add(key)
    for (const [time, text] of values) {
      const value = Number(text)
      if (!Number.isFinite(value)) continue
      const row = rows.get(time) ?? new Map<string, number>()
      row.set(key, (row.get(key) ?? 0) + value)
      rows.set(time, row)
    }
  }
  const times = [...rows.keys()].sort((a, b) => a - b)
  const columns: Record<string, Column> = {}
  for (const key of keys) columns[key] = times.map(time => rows.get(time)?.get(key) ?? null)
  return { times, columns }
}

/**
 * Adds one instant at the end. An instant at or before the last one is ignored: the stream repeats what the query that
 * seeded the table already returned. After a silence longer than `gapS` a null row breaks the line, because joining the
 * two ends would claim to know what happened between.
 */
export function appendRow(
  table: SeriesTable,
  time: number,
  row: Readonly<Record<string, number | null>>,
  { windowS, gapS }: { windowS: number; gapS: number },
): SeriesTable {
  const last = table.times.at(-1)
  if (last !== undefined && time <= last) return table
  const isGap = last !== undefined && time - last > gapS
  const added = isGap ? [last + gapS / 2, time] : [time]
  const drop = firstAtOrAfter(table.times, time - windowS)
  const times = [...table.times.slice(drop), ...added]
  const columns: Record<string, Column> = {}
  for (const key of new Set([...Object.keys(table.columns), ...Object.keys(row)])) {
    const before = table.columns[key]?.slice(drop) ?? new Array<null>(table.times.length - drop).fill(null)
    const value = row[key] ?? null
    columns[key] = isGap ? [...before, null, value] : [...before, value]
  }
  return { times, columns }
}

/** Breaks the lines wherever two instants are further apart than `gapS`. Twice is the same as once. */
export function withGaps(table: SeriesTable, gapS: number): SeriesTable {
  const { times } = table
  const isAfterGap = (i: number) => i > 0 && (times[i] ?? 0) - (times[i - 1] ?? 0) > gapS
  if (!times.some((_, i) => isAfterGap(i))) return table
  const columns: Record<string, Column> = {}
  for (const [key, column] of Object.entries(table.columns))
    columns[key] = column.flatMap((value, i) => (isAfterGap(i) ? [null, value] : [value]))
  // In the middle: both halves of a gap just above the bound are then below it.
  const middle = (i: number) => ((times[i - 1] ?? 0) + (times[i] ?? 0)) / 2
  return { times: times.flatMap((time, i) => (isAfterGap(i) ? [middle(i), time] : [time])), columns }
}

/** Two tables as one; where both know an instant, the later table's values win. */
export function mergeTables(earlier: SeriesTable, later: SeriesTable): SeriesTable {
  const times = [...new Set([...earlier.times, ...later.times])].sort((a, b) => a - b)
  const columns: Record<string, Column> = {}
  const indexOf = (table: SeriesTable) => new Map(table.times.map((time, i) => [time, i]))
  const [a, b] = [indexOf(earlier), indexOf(later)]
  for (const key of new Set([...Object.keys(earlier.columns), ...Object.keys(later.columns)])) {
    columns[key] = times.map(time => {
      const fromLater = valueAt(later.columns[key], b.get(time))
      return fromLater ?? valueAt(earlier.columns[key], a.get(time)) ?? null
    })
  }
  return { times, columns }
}

/** Running sums, bottom first: what a stacked chart draws. An instant where no series is known stays unknown. */
export function stack(columns: readonly Column[]): Column[] {
  const length = columns[0]?.length ?? 0
  const sums: Column = new Array<null>(length).fill(null)
  return columns.map(column => {
    for (let i = 0; i < length; i++) {
      const value = column[i] ?? null
      if (value !== null) sums[i] = (sums[i] ?? 0) + value
    }
    return [...sums]
  })
}

/** The newest known value of a column. */
export function lastKnown(column: Column | undefined): number | null {
  if (!column) return null
  for (let i = column.length - 1; i >= 0; i--) {
    const value = column[i] ?? null
    if (value !== null) return value
  }
  return null
}

function valueAt(column: Column | undefined, index: number | undefined): number | null {
  return column === undefined || index === undefined ? null : (column[index] ?? null)
}

function firstAtOrAfter(times: readonly number[], from: number): number {
  const index = times.findIndex(time => time >= from)
  return index < 0 ? times.length : index
}
