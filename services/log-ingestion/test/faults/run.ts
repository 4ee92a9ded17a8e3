// One run: the real service as a process, a database with fsync, load, and what the scenario does to them. Then the books.

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { openSql, type Sql, startEmbedded, withDatabase } from '#platform/postgres'
import { createLog } from '#platform/telemetry'
import type { Skippable } from '../../../../test/kit/cleanup.ts'
import { type SmallDisk, smallDisk } from '../../../../test/kit/full-disk.ts'
import { pollUntil } from '../../../../test/kit/poll.ts'
import { type Child, startProcess } from '../process.ts'
import { type TcpProxy, tcpProxy } from '../tcp-proxy.ts'
import { type Books, checkBooks } from './check.ts'
import { adminKeys, apiKeys, createRequests, type Load, poisonService, startLoad, type Target } from './load.ts'
import type { Fault, FaultKind, Scenario } from './scenario.ts'

export interface Outcome extends Books {
  scenario: Scenario
  /** Faults that were not merely planned. */
  happened: FaultKind[]
  /** Why some could not be tried here. */
  skipped: string[]
  lives: number
  refusals: number
  seconds: number
}

export interface Server {
  url: string
  /** Ends as in a power cut; it comes back by itself. False when it was not back yet from the last one. */
  crash(): boolean
  close(): Promise<void>
}

const log = createLog({ service: 'faults', level: 'silent', format: 'json' })
export const secret = 'one secret for the replicas of a run'

/** A server of its own, with fsync: what it acknowledged must survive a crash of it. */
export async function startServer(): Promise<Server> {
  const folder = await mkdtemp(join(tmpdir(), 'purser-faults-'))
  const server = await startEmbedded({ dir: join(folder, 'postgres'), log })
  return {
    url: withDatabase(server.url, 'postgres'),
    crash() {
      try {
        return process.kill(server.pid, 'SIGKILL')
      } catch {
        return false
      }
    },
    async close() {
      await server.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

const diskBytes = 24 * 1024 * 1024
/** Of a fault that ends by what it caused; then it is over, whatever it caused. */
const effectTimeoutMs = 5_000
/** On a machine with other work, where a replica also waits behind each transaction in which another one looks for bad
 *  entries: they may hold the same Idempotency-Keys. */
const settleTimeoutMs = 300_000

export async function runScenario(server: Server, scenario: Scenario): Promise<Outcome> {
  const startedMs = performance.now()
  const cleanups: (() => void | Promise<void>)[] = []
  const skipped: string[] = []
  const over = new AbortController()
  const t: Skippable = { after: fn => void cleanups.push(fn), skip: reason => void skipped.push(reason) }
  try {
    const world = await openWorld(t, server, scenario, over.signal)
    const { replicas, sql } = world
    await Promise.all(replicas.map(replica => replica.start()))
    if (world.hasPoison) await refusePoison(sql, scenario.sink)
    const load = startLoad({
      requests: createRequests({
        random: scenario.random,
        count: scenario.requests,
        replicas: scenario.replicas,
        hasPoison: world.hasPoison,
        nowMs: Date.now(),
      }),
      senders: scenario.senders,
      targets: replicas,
      random: scenario.random,
      signal: over.signal,
    })
    const injected = inject(world, scenario, load, over.signal)
    // Whichever fails first is the one to hear of.
    const [sent, happened] = await Promise.all([load.done, injected])
    if (world.hasPoison) happened.push('poison')
    await Promise.all(replicas.map(settled))
    const books = await checkBooks({ sql, scenario, sent, replicas })
    for (const replica of replicas) {
      const code = await replica.stop()
      if (code !== 0) books.problems.push(`the service ended with ${code} after a TERM`)
    }
    const refusals = [...load.refusals.values()].reduce((sum, count) => sum + count, 0)
    const lives = replicas.reduce((sum, replica) => sum + replica.lives, 0)
    return { ...books, scenario, happened, skipped, lives, refusals, seconds: (performance.now() - startedMs) / 1_000 }
  } finally {
    over.abort()
    // Later parts stand on earlier ones.
    for (let last = cleanups.pop(); last; last = cleanups.pop()) await last()
  }
}

export interface Replica extends Target {
  readonly proxy: TcpProxy
  readonly lives: number
  start(): Promise<void>
  /** SIGKILL; resolves when the process is gone. */
  kill(): Promise<void>
  /** SIGTERM; the exit code. */
  stop(): Promise<number | string>
}

interface World {
  server: Server
  sql: Sql
  replicas: readonly [Replica, ...Replica[]]
  disk: SmallDisk | undefined
  hasPoison: boolean
}

async function openWorld(t: Skippable, server: Server, scenario: Scenario, signal: AbortSignal): Promise<World> {
  const wants = (kind: FaultKind) => scenario.faults.some(fault => fault.kind === kind)
  const name = `run_${process.pid}_${scenario.run}`
  await asAdmin(server, `create database ${name} template template0`)
  t.after(() => asAdmin(server, `drop database if exists ${name} with (force)`))
  const databaseUrl = withDatabase(server.url, name)
  const sql = openSql({ url: databaseUrl, max: 2, applicationName: 'fault loops', log })
  t.after(() => sql.end({ timeout: 1 }))
  const root = await mkdtemp(join(tmpdir(), 'purser-faults-run-'))
  t.after(() => rm(root, { recursive: true, force: true }))
  const disk = wants('disk full') ? await smallDisk(t, { bytes: diskBytes }) : undefined
  const open = async (index: number): Promise<Replica> => {
    const proxy = await tcpProxy(t, databaseUrl)
    return openReplica(t, proxy, signal, {
      LOG_INGESTION_SERVER_HOST: '127.0.0.1',
      LOG_INGESTION_SERVER_PORT: '0',
      LOG_INGESTION_DATA_DIR: disk?.dir ?? join(root, `replica-${index}`),
      LOG_INGESTION_DATABASE_URL: proxy.url,
      LOG_INGESTION_STORAGE: scenario.sink,
      LOG_INGESTION_API_KEYS: apiKeys,
      LOG_INGESTION_ADMIN_API_KEYS: `${adminKeys.public},acme=${adminKeys.acme}`,
      LOG_INGESTION_RATELIMIT_ENABLED: 'false',
      LOG_INGESTION_SELF_LOGS: 'false',
      LOG_INGESTION_BATCH_SIZE: String(scenario.batchRows),
      LOG_INGESTION_BATCH_FLUSH_INTERVAL: `${scenario.flushIntervalMs}ms`,
      LOG_INGESTION_DB_STATEMENT_TIMEOUT: '2s',
      // A slow machine must not turn a resend into another entry.
      LOG_INGESTION_DEDUPE_WINDOW: '30m',
      PURSER_SECRET: secret,
      // Lives are many and short.
      NODE_COMPILE_CACHE: fileURLToPath(new URL('../../../../node_modules/.cache/compile', import.meta.url)),
    })
  }
  const first = await open(0)
  const others = await Promise.all(Array.from({ length: scenario.replicas - 1 }, (_, i) => open(i + 1)))
  return { server, sql, replicas: [first, ...others], disk, hasPoison: wants('poison') }
}

function openReplica(t: Skippable, proxy: TcpProxy, signal: AbortSignal, env: Record<string, string>): Replica {
  let child: Child | undefined
  let url: string | undefined
  let lives = 0
  const end = async (signal: NodeJS.Signals) => {
    url = undefined
    child?.process.kill(signal)
    return (await child?.exited) ?? 'never started'
  }
  return {
    proxy,
    get url() {
      return url
    },
    get lives() {
      return lives
    },
    async start() {
      // Nobody would end it.
      signal.throwIfAborted()
      lives++
      child = startProcess(t, { env })
      url = await child.url
    },
    kill: async () => void (await end('SIGKILL')),
    stop: () => end('SIGTERM'),
  }
}

/** Both sinks keep the service in a column of its own. */
async function refusePoison(sql: Sql, sink: Scenario['sink']): Promise<void> {
  if (sink === 'rows')
    await sql.unsafe(`alter table public.logs add constraint no_poison check (service <> '${poisonService}')`)
  else
    await sql.unsafe(
      `alter table purser_logs.blocks add constraint no_poison check (not services @> array['${poisonService}'])`,
    )
}

/** Does what the scenario says, when it says so. Faults of one kind of thing come one after the other; others overlap. */
async function inject(world: World, scenario: Scenario, load: Load, signal: AbortSignal): Promise<FaultKind[]> {
  const happened: FaultKind[] = []
  const laneOf = ({ kind, replica }: Fault) => {
    if (kind === 'disk full' || kind === 'database crash' || kind === 'poison') return kind
    return kind === 'database away' || kind === 'database silent' || kind === 'COMMIT cut'
      ? `network ${replica}`
      : `process ${replica}`
  }
  let isOver = false
  void load.done.then(
    () => (isOver = true),
    () => (isOver = true),
  )
  const lanes = Map.groupBy(scenario.faults, laneOf)
  await Promise.all(
    [...lanes.values()].map(async faults => {
      for (const fault of faults) {
        while (load.acknowledged < fault.at * scenario.requests && !isOver) await sleep(1, undefined, { signal })
        await sleep(fault.delayMs, undefined, { signal })
        if (await act(world, fault, load)) happened.push(fault.kind)
      }
    }),
  )
  return happened
}

/** True when it did happen. */
async function act(world: World, fault: Fault, load: Load): Promise<boolean> {
  const replica = world.replicas[fault.replica]
  if (!replica) throw new Error(`BUG: there is no replica ${fault.replica}`)
  const { proxy } = replica
  switch (fault.kind) {
    case 'kill':
      await replica.kill()
      await replica.start()
      return true
    case 'restart':
      await replica.stop()
      await replica.start()
      return true
    case 'kill in COMMIT': {
      const killed = Promise.withResolvers<void>()
      proxy.atCommit(fault.commits, () => killed.resolve(replica.kill()))
      const isKilled = await within(killed.promise)
      proxy.atCommit([])
      if (isKilled) await replica.start()
      return isKilled
    }
    case 'COMMIT cut': {
      const before = proxy.commitsCut
      proxy.atCommit(fault.commits)
      await until(() => proxy.commitsCut >= before + fault.commits.length)
      proxy.atCommit([])
      return proxy.commitsCut > before
    }
    case 'database away':
      proxy.down()
      await sleep(fault.holdMs)
      proxy.up()
      return true
    case 'database silent':
      proxy.silence()
      await sleep(fault.holdMs)
      proxy.up()
      return true
    case 'database crash':
      return world.server.crash()
    case 'disk full': {
      if (!world.disk) return false
      const refused = () => (load.refusals.get('DISK_FULL') ?? 0) > 0
      await world.disk.fill()
      await until(refused)
      await world.disk.free()
      return refused()
    }
    case 'poison':
      // Among the entries from the beginning.
      return false
    default:
      return fault.kind satisfies never
  }
}

async function within(promise: Promise<void>): Promise<boolean> {
  const timeout = new AbortController()
  const timer = sleep(effectTimeoutMs, false, { signal: timeout.signal }).catch(() => false)
  const isIn = await Promise.race([promise.then(() => true), timer])
  timeout.abort()
  return isIn
}

async function until(condition: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + effectTimeoutMs
  while (!condition() && performance.now() < deadlineMs) await sleep(2)
}

async function settled(replica: Replica): Promise<void> {
  await pollUntil(
    async () => {
      const response = await fetch(`${replica.url}/admin/health`, { headers: { 'x-api-key': adminKeys.public } })
      const health = (await response.json()) as { batcher: { current_batch: number } }
      return health.batcher.current_batch === 0
    },
    { what: 'everything to be stored', timeoutMs: settleTimeoutMs, everyMs: 100 },
  )
}

async function asAdmin(server: Server, statement: string): Promise<void> {
  // It may be coming back from a crash.
  await pollUntil(
    async () => {
      const sql = openSql({ url: server.url, max: 1, applicationName: 'fault loops', log })
      try {
        await sql.unsafe(statement)
        return true
      } finally {
        await sql.end({ timeout: 1 })
      }
    },
    { what: statement, everyMs: 100 },
  )
}
