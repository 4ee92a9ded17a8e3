import { useEffect, useRef, useState } from 'react'
import { getStatus, type LiveTick, liveAddress, query, queryRange } from '../../api/collector.ts'
import { type Resource, useResource } from '../../live/use-resource.ts'
import { dataOf, type LiveState, useStream } from '../../live/use-stream.ts'
import { type Column, type SeriesTable, tableFrom, withGaps } from '../../series/table.ts'
import { cpuLayer, cpuShares, emptyHost, type HostTables, liveMatches, memoryRow, tickReader } from './host-ticks.ts'

export interface HostMetrics {
  seed: Resource<HostSeed>
  tables: HostTables
  stream: LiveState
  intervalS: number
}

export interface HostSeed {
  tables: HostTables
  intervalS: number
}

/** Points per chart that a query asks for at most; more than pixels helps nobody. */
const pointsMax = 240
/** Ranges up to this one move with the live stream; longer ones are asked again, since one tick is less than a pixel. */
const liveWindowSMax = 3600
const intervalSOtherwise = 15

/** The host's charts over the last `windowS` seconds: asked once, then carried on by the stream. */
export function useHostMetrics(index: number, windowS: number): HostMetrics {
  const isLive = windowS <= liveWindowSMax
  const seed = useResource(`host ${index} ${windowS}`, signal => loadSeed(index, windowS, signal), isLive ? 0 : 60_000)
  const [tables, setTables] = useState<HostTables>(seed.data?.tables ?? emptyHost)
  const reader = useRef(tickReader())
  const intervalS = seed.data?.intervalS ?? intervalSOtherwise
  const { data, reload } = seed

  useEffect(() => {
    setTables(data?.tables ?? emptyHost)
  }, [data])

  const stream = useStream('metrics-collector', isLive && data ? liveAddress(index, liveMatches) : null, event => {
    const tick = dataOf<LiveTick>(event)
    if (!tick || !Array.isArray(tick.samples) || typeof tick.t !== 'number') return
    setTables(before => reader.current.append(before, tick, { windowS, gapS: intervalS * 2.5 }))
  })

  // What passed while the stream was cut is in the collector's store: ask for it once the stream is back.
  const wasCut = useRef(false)
  useEffect(() => {
    if (stream.status === 'waiting' || stream.status === 'paused') wasCut.current = true
    if (stream.status === 'live' && wasCut.current) {
      wasCut.current = false
      reload()
    }
  }, [stream.status, reload])

  return { seed, tables, stream, intervalS }
}

/** One after the other: the collector answers two queries at a time and has other readers too. */
async function loadSeed(index: number, windowS: number, signal: AbortSignal): Promise<HostSeed> {
  const endS = Math.floor(Date.now() / 1000)
  const ask = (text: string, startS: number, stepS: number) =>
    queryRange(index, { query: text, startS, endS, stepS }, signal)
  const { intervalsMs } = await getStatus(index, signal)
  const intervalS = Math.max(1, (intervalsMs.cpu ?? intervalSOtherwise * 1000) / 1000)
  const stepS = Math.max(intervalS, Math.ceil(windowS / pointsMax))
  const startS = Math.floor((endS - windowS) / stepS) * stepS
  // Three intervals always hold two samples, however the clock and the step fall.
  const rateWindow = `${Math.ceil(Math.max(intervalS * 3, stepS))}s`
  const gauge = async (name: string) => tableFrom(await ask(name, startS, stepS), () => name)
  const rate = async (name: string, key: string) =>
    tableFrom(await ask(`rate(${name}[${rateWindow}])`, startS, stepS), () => key)

  const modes = await ask(`sum by (mode) (rate(node_cpu_seconds_total[${rateWindow}]))`, startS, stepS)
  const layers = tableFrom(modes, metric => cpuLayer(metric.mode))
  const total = await gauge('node_memory_MemTotal_bytes')
  const available = await gauge('node_memory_MemAvailable_bytes')
  const free = await gauge('node_memory_MemFree_bytes')
  const received = await rate('node_network_receive_bytes_total', 'received')
  const sent = await rate('node_network_transmit_bytes_total', 'sent')
  const read = await rate('node_disk_read_bytes_total', 'read')
  const written = await rate('node_disk_written_bytes_total', 'written')
  const load = tableFrom(await ask('node_load1', startS, stepS), () => 'load1')

  const gapS = stepS * 2.5
  return {
    intervalS,
    tables: {
      cpu: withGaps(
        mapRows(layers, row => cpuShares(row)),
        gapS,
      ),
      memory: mapRows(joined(total, available, free), row =>
        memoryRow(
          row.node_memory_MemTotal_bytes ?? null,
          row.node_memory_MemAvailable_bytes ?? null,
          row.node_memory_MemFree_bytes ?? null,
        ),
      ),
      network: withGaps(joined(received, sent), gapS),
      disk: withGaps(joined(read, written), gapS),
      load,
    },
  }
}

export interface Filesystem {
  mountpoint: string
  device: string
  sizeBytes: number
  availableBytes: number
}

export interface HostFacts {
  name: string
  system: string
  cores: number
  bootTimeS: number | null
  filesystems: Filesystem[]
  temperatureC: number | null
}

/** What changes slowly: asked every half minute. */
export function useHostFacts(index: number): Resource<HostFacts> {
  return useResource(`host facts ${index}`, signal => loadFacts(index, signal), 30_000)
}

async function loadFacts(index: number, signal: AbortSignal): Promise<HostFacts> {
  const uname = (await query(index, 'node_uname_info', signal))[0]?.metric ?? {}
  const boot = Number((await query(index, 'node_boot_time_seconds', signal))[0]?.value[1] ?? Number.NaN)
  const idle = await query(index, 'node_cpu_seconds_total{mode="idle"}', signal)
  const sizes = await query(index, 'node_filesystem_size_bytes', signal)
  const free = await query(index, 'node_filesystem_avail_bytes', signal)
  const zones = await query(index, 'node_thermal_zone_temp', signal)
  const availableAt = new Map(free.map(({ metric, value }) => [metric.mountpoint, Number(value[1])]))
  return {
    name: uname.nodename ?? sizes[0]?.metric.device_id ?? idle[0]?.metric.device_id ?? '',
    system: [uname.sysname, uname.release, uname.machine].filter(Boolean).join(' '),
    cores: idle.length,
    bootTimeS: Number.isFinite(boot) ? boot : null,
    filesystems: sizes
      .map(({ metric, value }) => ({
        mountpoint: metric.mountpoint ?? '',
        device: metric.device ?? '',
        sizeBytes: Number(value[1]),
        availableBytes: availableAt.get(metric.mountpoint) ?? 0,
      }))
      .filter(({ sizeBytes }) => sizeBytes > 0)
      .sort((a, b) => a.mountpoint.localeCompare(b.mountpoint)),
    temperatureC: zones.length === 0 ? null : Math.max(...zones.map(({ value }) => Number(value[1]))),
  }
}

function joined(...tables: SeriesTable[]): SeriesTable {
  const times = [...new Set(tables.flatMap(table => table.times))].sort((a, b) => a - b)
  const columns: Record<string, Column> = {}
  for (const table of tables) {
    const at = new Map(table.times.map((time, i) => [time, i]))
    for (const [key, column] of Object.entries(table.columns)) {
      columns[key] = times.map(time => column[at.get(time) ?? -1] ?? null)
    }
  }
  return { times, columns }
}

function mapRows(
  table: SeriesTable,
  map: (row: Record<string, number | null>) => Record<string, number | null>,
): SeriesTable {
  const rows = table.times.map((_, i) =>
    map(Object.fromEntries(Object.entries(table.columns).map(([key, column]) => [key, column[i] ?? null]))),
  )
  const columns: Record<string, Column> = {}
  for (const key of new Set(rows.flatMap(row => Object.keys(row)))) columns[key] = rows.map(row => row[key] ?? null)
  return { times: table.times, columns }
}
