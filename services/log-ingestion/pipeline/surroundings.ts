// What the service stands on, for the alert rules: disk, memory, the database's connections, and how its tables grow.

import { readFileSync, statfsSync } from 'node:fs'
import { totalmem } from 'node:os'
import { Gauge, type Registry } from 'prom-client'
import type { Sql } from '#platform/postgres'
import type { Logger } from '#platform/telemetry'
import { loadConnections, loadTableSizes } from '../store/sizes.ts'

export interface Surroundings {
  /** One look at the database at once. */
  round(): Promise<void>
  close(): Promise<void>
}

/** Sizes are read from the file system of the server: not for every scrape. */
const everyMs = 30_000

export function watchSurroundings(o: {
  dir: string
  reads: () => Sql | undefined
  registry: Registry
  log: Logger
}): Surroundings {
  const registers = [o.registry]
  const name = (suffix: string) => `log_ingestion_${suffix}`
  new Gauge({
    name: name('disk_free_ratio'),
    help: 'Free share of the file system that holds the journal.',
    registers,
    collect() {
      const { bavail, blocks } = statfsSync(o.dir)
      this.set(blocks === 0 ? 1 : bavail / blocks)
    },
  })
  new Gauge({
    name: name('memory_limit_bytes'),
    help: 'Memory this process may use: its control group’s limit, else the machine’s memory.',
    registers,
  }).set(memoryLimit())
  const connections = new Gauge({
    name: name('db_pool_connections'),
    help: 'Connections of log-ingestion as the server sees them.',
    labelNames: ['state'],
    registers,
  })
  const bytes = new Gauge({
    name: name('store_bytes'),
    help: 'Size of a table with its indexes and partitions.',
    labelNames: ['table'],
    registers,
  })
  const partitions = new Gauge({
    name: name('store_partitions'),
    help: 'Parts that stored entries are in.',
    labelNames: ['kind'],
    registers,
  })

  let running: Promise<void> | undefined
  let isClosed = false
  const work = async () => {
    const sql = o.reads()
    if (!sql || isClosed) return
    const { idle, busy, waiting } = await loadConnections(sql)
    for (const [state, count] of Object.entries({ idle, busy, waiting })) connections.labels(state).set(count)
    const tables = await loadTableSizes(sql)
    bytes.reset()
    partitions.reset()
    for (const table of tables) {
      bytes.labels(table.name).set(table.bytes)
      if (table.kind !== null) partitions.labels(table.kind).set(table.parts)
    }
  }
  const round = () => {
    running ??= work().finally(() => {
      running = undefined
    })
    return running
  }
  const tryRound = () => void round().catch(error => o.log.debug({ err: error }, 'sizes could not be read'))
  const timer = setInterval(tryRound, everyMs)
  timer.unref()
  return {
    round,
    async close() {
      isClosed = true
      clearInterval(timer)
      await running?.catch(() => {})
    },
  }
}

/** cgroup v2, then v1; "max" and absurdly large mean none. */
function memoryLimit(): number {
  for (const path of ['/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory/memory.limit_in_bytes']) {
    try {
      const limit = Number(readFileSync(path, 'utf8').trim())
      if (limit > 0 && limit < totalmem()) return limit
    } catch {
      // Not this version, or no control group.
    }
  }
  return totalmem()
}
