import { type Cell, emptyCell } from './cells.ts'

// How a cell lies in a row of usage_hour.

const amounts = [
  ['cpuNs', 'cpu_ns'],
  ['diskReadBytes', 'disk_read'],
  ['diskWriteBytes', 'disk_write'],
  ['netRxBytes', 'net_rx'],
  ['netTxBytes', 'net_tx'],
  ['memoryByteNs', 'mem_byte_ns'],
] as const

interface Column {
  name: string
  field: keyof Cell
  kind: keyof Cell['timeNs']
}

export const hourColumns: readonly Column[] = [
  ...amounts.flatMap(([field, name]): Column[] => [
    { name, field, kind: 'measured' },
    { name: `${name}_short`, field, kind: 'shortGap' },
    { name: `${name}_long`, field, kind: 'longGap' },
  ]),
  { name: 'alive_ns', field: 'aliveNs', kind: 'measured' },
  { name: 'measured_ns', field: 'timeNs', kind: 'measured' },
  { name: 'gap_short_ns', field: 'timeNs', kind: 'shortGap' },
  { name: 'gap_long_ns', field: 'timeNs', kind: 'longGap' },
  { name: 'tail_ns', field: 'timeNs', kind: 'unmeasured' },
  { name: 'disputed_ns', field: 'timeNs', kind: 'disputed' },
  { name: 'host_down_short_ns', field: 'hostDownNs', kind: 'shortGap' },
  { name: 'host_down_long_ns', field: 'hostDownNs', kind: 'longGap' },
  { name: 'host_down_tail_ns', field: 'hostDownNs', kind: 'unmeasured' },
]

/** Column → integer as text. */
export function rowOfCell(cell: Cell): Record<string, string> {
  return Object.fromEntries(hourColumns.map(({ name, field, kind }) => [name, `${cell[field][kind]}`]))
}

export function cellOfRow(row: Readonly<Record<string, unknown>>): Cell {
  const cell = emptyCell()
  for (const { name, field, kind } of hourColumns) cell[field][kind] = BigInt(String(row[name]))
  return cell
}
