import type { LiveTick } from '../../api/collector.ts'
import { type CounterRates, counterRates } from '../../series/counter.ts'
import { appendRow, emptyTable, type SeriesTable } from '../../series/table.ts'

// What the host charts show, from node_exporter's series: once from range queries (host-metrics.ts), then tick by tick
// from the live stream, here. Both ways lead to the same tables, so the seam between them is not visible.

export interface HostTables {
  /** Share of all cores, 0…1: user, system, iowait, steal */
  cpu: SeriesTable
  /** Bytes: used, cache, total */
  memory: SeriesTable
  /** Bytes per second: received, sent */
  network: SeriesTable
  /** Bytes per second: read, written */
  disk: SeriesTable
  /** load1 */
  load: SeriesTable
}

export const emptyHost: HostTables = {
  cpu: emptyTable,
  memory: emptyTable,
  network: emptyTable,
  disk: emptyTable,
  load: emptyTable,
}

export const liveMatches = [
  'node_cpu_seconds_total',
  'node_memory_MemTotal_bytes',
  'node_memory_MemAvailable_bytes',
  'node_memory_MemFree_bytes',
  'node_network_receive_bytes_total',
  'node_network_transmit_bytes_total',
  'node_disk_read_bytes_total',
  'node_disk_written_bytes_total',
  'node_load1',
]

type Row = Record<string, number | null>

/** Which layer of the CPU chart a mode belongs to; idle is what is left, guest is already inside user. */
export function cpuLayer(mode: string | undefined): string | null {
  switch (mode) {
    case 'user':
    case 'nice':
      return 'user'
    case 'system':
    case 'irq':
    case 'softirq':
      return 'system'
    case 'iowait':
    case 'steal':
    case 'idle':
      return mode
    default:
      return null
  }
}

/** Core-seconds per second by layer to shares of all cores. The total is measured, so the number of cores is not needed. */
export function cpuShares(layers: Row): Row {
  const total = Object.values(layers).reduce<number>((sum, value) => sum + (value ?? 0), 0)
  if (total <= 0) return {}
  const share = (layer: string) => (layers[layer] ?? 0) / total
  return { user: share('user'), system: share('system'), iowait: share('iowait'), steal: share('steal') }
}

export function memoryRow(total: number | null, available: number | null, free: number | null): Row {
  if (total === null || available === null) return {}
  return { used: total - available, cache: free === null ? null : Math.max(0, available - free), total }
}

export interface TickReader {
  append(tables: HostTables, tick: LiveTick, o: { windowS: number; gapS: number }): HostTables
}

export function tickReader(rates: CounterRates = counterRates()): TickReader {
  return {
    append(tables, tick, o) {
      const sums = new Map<string, number>()
      const gauges = new Map<string, number>()
      for (const { metric, value } of tick.samples) {
        const name = metric.__name__ ?? ''
        if (!name.endsWith('_total')) {
          gauges.set(name, value)
          continue
        }
        const layer = name === 'node_cpu_seconds_total' ? cpuLayer(metric.mode) : name
        const rate = rates.rate(
          `${name} ${metric.cpu ?? ''} ${metric.mode ?? ''} ${metric.device ?? ''}`,
          tick.t,
          value,
        )
        if (layer !== null && rate !== null) sums.set(layer, (sums.get(layer) ?? 0) + rate)
      }
      const sum = (name: string) => sums.get(name) ?? null
      const gauge = (name: string) => gauges.get(name) ?? null
      const layers = Object.fromEntries(['user', 'system', 'iowait', 'steal', 'idle'].map(layer => [layer, sum(layer)]))
      const rows: Record<keyof HostTables, Row> = {
        cpu: cpuShares(layers),
        memory: memoryRow(
          gauge('node_memory_MemTotal_bytes'),
          gauge('node_memory_MemAvailable_bytes'),
          gauge('node_memory_MemFree_bytes'),
        ),
        network: { received: sum('node_network_receive_bytes_total'), sent: sum('node_network_transmit_bytes_total') },
        disk: { read: sum('node_disk_read_bytes_total'), written: sum('node_disk_written_bytes_total') },
        load: { load1: gauge('node_load1') },
      }
      const next = { ...tables }
      for (const name of Object.keys(rows) as (keyof HostTables)[]) {
        // A tick carries only the collectors that ran; the others' lines wait for theirs instead of breaking.
        const isKnown = Object.values(rows[name]).some(value => value !== null)
        if (isKnown) next[name] = appendRow(tables[name], tick.t / 1000, rows[name], o)
      }
      return next
    },
  }
}
