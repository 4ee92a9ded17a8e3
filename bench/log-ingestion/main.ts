// How many rows a second are acknowledged, and how many stored, by one service beside its loader and its database.
//
//   npm run bench:log-ingestion -- [--quick] [--json] [--sink columnar|rows|rows-compat]… [--peer NAME=URL]…
//   npm run bench:log-ingestion -- [--quick] --workload noisy|memory|idle|tail|kill9|start…
//
// Each sink gets a fresh database and a fresh service; the loader is this process. A peer is anything that takes the native
// batch route at URL, or JSON lines at a URL with a path of its own, such as
//   victorialogs='http://127.0.0.1:9428/insert/jsonline?_time_field=timestamp&_msg_field=message&_stream_fields=service'
// and is measured by acknowledged rows only. A run that lost, doubled or changed a row has no speed: all rows are read back
// (with --quick the newest 50 000).

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { Pool } from 'undici'
import { benchKill9, benchPendingStart } from './crash.ts'
import { benchIdle, benchMemory } from './memory.ts'
import { benchNoisy } from './noisy.ts'
import { benchReading } from './reading.ts'
import { report, reportAsJson } from './report.ts'
import { type BodyFormat, createBodies, isWhole, numberOf, numbers, type Row } from './rows.ts'
import { adminKey, type Subject, startSubject, writeKey } from './service.ts'
import { benchTail } from './tailing.ts'

const { values: args } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    sink: { type: 'string', multiple: true, default: ['columnar', 'rows', 'rows-compat'] },
    peer: { type: 'string', multiple: true, default: [] },
    workload: { type: 'string', multiple: true, default: [] },
  },
})

if (args.json) reportAsJson()

interface Workload {
  name: string
  rowsPerRequest: number
  connections: number
  seconds: number
}

const workloads: Workload[] = [
  { name: '500 rows/request, 4 connections', rowsPerRequest: 500, connections: 4, seconds: args.quick ? 4 : 60 },
  { name: '10 rows/request, 16 connections', rowsPerRequest: 10, connections: 16, seconds: args.quick ? 2 : 10 },
  { name: '1 row/request, 16 connections', rowsPerRequest: 1, connections: 16, seconds: args.quick ? 2 : 10 },
]

const native: Target = { path: '/api/v1/logs/batch', format: 'native', statuses: [202] }

const sinks: Record<string, Record<string, string>> = {
  columnar: { LOG_INGESTION_STORAGE: 'columnar' },
  rows: { LOG_INGESTION_STORAGE: 'rows', LOG_INGESTION_INDEX_PROFILE: 'fast' },
  'rows-compat': { LOG_INGESTION_STORAGE: 'rows', LOG_INGESTION_INDEX_PROFILE: 'compat' },
}

const behaviours: Record<string, (subject: Subject) => Promise<void>> = {
  noisy: subject => benchNoisy(subject, args.quick ? 5 : 30),
  memory: subject => benchMemory(subject, args.quick ? 10 : 120),
  idle: subject => benchIdle(subject, 10_000),
  tail: subject => benchTail(subject, args.quick ? 5 : 30),
}
/** With services and databases of their own. */
const ends: Record<string, (dir: string) => Promise<void>> = {
  kill9: dir => benchKill9(dir, { seconds: args.quick ? 3 : 20, restS: args.quick ? 0 : 5 }),
  start: dir => benchPendingStart(dir, { pendingMiB: args.quick ? 128 : 1_024 }),
}

const columns = [
  'sink',
  'workload',
  'acknowledged/s',
  'p50 ms',
  'p99 ms',
  'stored/s',
  'service µs/row',
  'database µs/row',
  'RSS MiB',
]
const widths = [12, 32, 15, 7, 7, 10, 15, 16, 8]
if (args.workload.length > 0) {
  for (const name of args.workload) await benchBehaviour(name)
  process.exit()
}
if (!args.json) print(columns)
for (const name of args.sink) {
  const env = sinks[name]
  if (!env) throw new Error(`--sink ${name} is not one of ${Object.keys(sinks).join(', ')}`)
  await benchSink(name, env)
}
for (const name of ['tail', 'noisy', 'kill9', 'start', 'memory', 'idle']) await benchBehaviour(name)
for (const peer of args.peer) await benchPeer(peer)

/** Promises that are no speed: what a flood costs others, and what memory all of it takes. */
async function benchBehaviour(name: string): Promise<void> {
  const run = behaviours[name]
  const end = ends[name]
  const names = [...Object.keys(behaviours), ...Object.keys(ends)]
  if (!run && !end) throw new Error(`--workload ${name} is not one of ${names.join(', ')}`)
  const dir = await mkdtemp(join(tmpdir(), 'purser-bench-logs-'))
  if (end) {
    await end(dir).finally(() => rm(dir, { recursive: true, force: true }))
    return
  }
  const subject = await startSubject(dir, sinks.columnar ?? {})
  try {
    await run?.(subject)
  } finally {
    await subject.close()
    await rm(dir, { recursive: true, force: true })
  }
}

async function benchSink(name: string, env: Record<string, string>): Promise<void> {
  numbers.made = 0
  const dir = await mkdtemp(join(tmpdir(), 'purser-bench-logs-'))
  const subject = await startSubject(dir, env)
  const pool = new Pool(subject.url, { connections: 17, pipelining: 1 })
  try {
    for (const workload of workloads) {
      const rows = await runWorkload(name, workload, pool, subject)
      // Merging waits while entries come in; the next workload must not pay for this one's.
      if (name === 'columnar') await merged(subject, rows)
    }
    if (name !== 'columnar') sayBytes(name, 'on disk', await bytesPerRow('public.logs', subject))
    await benchReading(name, pool, subject, numbers.made, ask)
    await readBack(pool)
  } finally {
    await pool.close()
    await subject.close()
    await rm(dir, { recursive: true, force: true })
  }
}

async function benchPeer(peer: string): Promise<void> {
  const at = peer.indexOf('=')
  if (at < 1) throw new Error(`--peer ${peer} is not NAME=URL`)
  const { origin, pathname, search } = new URL(peer.slice(at + 1))
  const target: Target =
    pathname === '/' ? native : { path: pathname + search, format: 'lines', statuses: [200, 202, 204] }
  const pool = new Pool(origin, { connections: 17, pipelining: 1 })
  for (const workload of workloads) {
    const { acknowledged, seconds, latencies } = await load(workload, pool, target)
    print([
      peer.slice(0, at),
      workload.name,
      perSecond(acknowledged, seconds),
      ...percentiles(latencies),
      '',
      '',
      '',
      '',
    ])
  }
  await pool.close()
}

interface Target {
  path: string
  format: BodyFormat
  statuses: readonly number[]
}

async function load(
  workload: Workload,
  pool: Pool,
  target: Target,
): Promise<{ acknowledged: number; seconds: number; latencies: number[] }> {
  const { rowsPerRequest, connections, seconds } = workload
  const bodies = createBodies(rowsPerRequest, target.format)
  const startedMs = performance.now()
  const latencies: number[] = []
  let acknowledged = 0
  const send = async () => {
    while (performance.now() - startedMs < seconds * 1_000) {
      const body = bodies.next()
      const sentMs = performance.now()
      const answer = await pool.request({
        method: 'POST',
        path: target.path,
        headers: { 'x-api-key': writeKey },
        body,
      })
      const text = await answer.body.text()
      latencies.push(performance.now() - sentMs)
      assert.ok(target.statuses.includes(answer.statusCode), `${answer.statusCode}: ${text}`)
      bodies.release(body)
      acknowledged += rowsPerRequest
    }
  }
  await Promise.all(Array.from({ length: connections }, send))
  return { acknowledged, seconds: (performance.now() - startedMs) / 1_000, latencies }
}

async function runWorkload(name: string, workload: Workload, pool: Pool, subject: Subject): Promise<number> {
  const storedBefore = (await intake(pool)).total_processed
  const before = await subject.cpu()
  const startedMs = performance.now()
  let rss = 0
  const sampling = setInterval(() => void subject.rssBytes().then(bytes => (rss = Math.max(rss, bytes))), 250)
  const { acknowledged, seconds, latencies } = await load(workload, pool, native)
  while ((await intake(pool)).current_batch > 0) await new Promise(resolve => setTimeout(resolve, 20))
  const storeSeconds = (performance.now() - startedMs) / 1_000
  clearInterval(sampling)
  const after = await subject.cpu()
  const stored = (await intake(pool)).total_processed - storedBefore
  assert.equal(stored, acknowledged, 'stored rows are not the acknowledged ones')
  print([
    name,
    workload.name,
    perSecond(acknowledged, seconds),
    ...percentiles(latencies),
    perSecond(stored, storeSeconds),
    (((after.service - before.service) * 1e6) / stored).toFixed(2),
    (((after.database - before.database) * 1e6) / stored).toFixed(2),
    String(Math.round(rss / 1024 / 1024)),
  ])
  return stored
}

/** Indexes, and blooms where there are some, included. */
async function bytesPerRow(table: string, { sql }: Subject): Promise<number> {
  const [row] = await sql<{ bytes: bigint; rows: bigint }[]>`
    select (select sum(pg_total_relation_size(relid))::int8 from pg_partition_tree(${table})) as bytes,
           (select sum(rows)::int8 from purser_logs.totals) as rows`
  return row ? Number(row.bytes) / Number(row.rows) : Number.NaN
}

async function merged(subject: Subject, rows: number): Promise<void> {
  const { sql } = subject
  const table = 'purser_logs.blocks'
  sayBytes('columnar', 'on disk, fresh', await bytesPerRow(table, subject))
  const before = await subject.cpu()
  const fresh = async () =>
    Number((await sql<{ n: bigint }[]>`select count(*) as n from purser_logs.blocks where generation = 0`)[0]?.n ?? 0n)
  for (let last = await fresh(), changedMs = performance.now(); last >= 8 && performance.now() - changedMs < 60_000; ) {
    await new Promise(resolve => setTimeout(resolve, 500))
    const left = await fresh()
    if (left !== last) changedMs = performance.now()
    last = left
  }
  const after = await subject.cpu()
  // What merging left behind would be used again by the blocks of the next hour.
  await sql`vacuum full purser_logs.blocks`
  const cost = ((after.service - before.service) * 1e6) / rows
  const bytes = await bytesPerRow(table, subject)
  const left = await fresh()
  report(
    'merged',
    { sink: 'columnar', bytes_per_row: oneDecimal(bytes), cpu_us_per_row: oneDecimal(cost), fresh_blocks: left },
    `columnar: ${bytes.toFixed(1)} bytes a row merged, for ${cost.toFixed(1)} µs of CPU a row; ${left} fresh blocks left`,
  )
}

interface Page {
  logs: Row[]
  cursor: string | null
}

/** Every row once, and whole. */
async function readBack(pool: Pool): Promise<void> {
  const seen = new Uint8Array(Math.ceil(numbers.made / 8))
  let count = 0
  for (let cursor: string | null = ''; cursor !== null; ) {
    const page: Page = await ask(
      pool,
      `/api/v1/logs/search?from=-6h&limit=1000&timeout=60s&fields=message,metadata${cursor ? `&cursor=${cursor}` : ''}`,
    )
    for (const row of page.logs) {
      assert.ok(isWhole(row), `a row was changed: ${JSON.stringify(row)}`)
      const n = numberOf(row.metadata.request_id)
      assert.ok(n < numbers.made, 'a row was never sent')
      const bit = 1 << (n & 7)
      assert.equal((seen[n >>> 3] as number) & bit, 0, 'a row was stored twice')
      seen[n >>> 3] = (seen[n >>> 3] as number) | bit
    }
    count += page.logs.length
    cursor = args.quick && count >= 50_000 ? null : page.cursor
  }
  if (!args.quick) assert.equal(count, numbers.made, 'a row is missing')
  report(
    'read_back',
    { rows: count, made: numbers.made },
    `${count.toLocaleString('en')} of ${numbers.made.toLocaleString('en')} rows read back, each once and unchanged`,
  )
}

async function intake(pool: Pool): Promise<{ current_batch: number; total_processed: number }> {
  const { batcher } = await ask<{ batcher: { current_batch: number; total_processed: number } }>(pool, '/admin/health')
  return batcher
}

async function ask<T>(pool: Pool, path: string): Promise<T> {
  const answer = await pool.request({ method: 'GET', path, headers: { 'x-api-key': adminKey } })
  assert.equal(answer.statusCode, 200, path)
  return (await answer.body.json()) as T
}

function perSecond(rows: number, seconds: number): string {
  return Math.round(rows / seconds).toLocaleString('en')
}

function percentiles(latencies: number[]): [string, string] {
  latencies.sort((a, b) => a - b)
  const at = (share: number) => (latencies[Math.floor(latencies.length * share)] ?? 0).toFixed(1)
  return [at(0.5), at(0.99)]
}

function print(cells: readonly string[]): void {
  const text = cells.map((cell, i) => (i < 2 ? cell.padEnd(widths[i] ?? 8) : cell.padStart(widths[i] ?? 8))).join(' ')
  const named = cells.flatMap((cell, i) => (cell === '' ? [] : [[fieldOf(columns[i] ?? ''), figureOf(cell)] as const]))
  report('intake', Object.fromEntries(named), text)
}

/** `service µs/row`: service_us_per_row. */
function fieldOf(column: string): string {
  return column.toLowerCase().replace('µ', 'u').replace('/', '_per_').replaceAll(' ', '_')
}

/** Numbers of the table have commas for people. */
function figureOf(cell: string): string | number {
  const figure = Number(cell.replaceAll(',', ''))
  return Number.isNaN(figure) ? cell : figure
}

function sayBytes(sink: string, what: string, bytes: number): void {
  report('bytes', { sink, what, bytes_per_row: oneDecimal(bytes) }, `${sink}: ${bytes.toFixed(1)} bytes a row ${what}`)
}

function oneDecimal(n: number): number {
  return Math.round(n * 10) / 10
}
