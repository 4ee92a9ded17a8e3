// How many rows a second are acknowledged, and how many stored, by one service beside its loader and its database.
//
//   npm run bench:log-ingestion -- [--quick]
//
// The service is a process of its own, started as its command starts it, on the embedded database and a folder that is
// removed afterwards; the loader is this process. Rows are those of the specification: 12 services, access-log messages
// of about 141 bytes, six metadata keys. A run that lost, doubled or changed a row has no speed: every acknowledged row is
// looked for by its number.

import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Pool } from 'undici'

const isQuick = process.argv.includes('--quick')
const adminKey = 'bench-admin'
const writeKey = 'bench-write'

interface Workload {
  name: string
  rowsPerRequest: number
  connections: number
  seconds: number
}

const workloads: Workload[] = [
  { name: '500 rows/request, 4 connections', rowsPerRequest: 500, connections: 4, seconds: isQuick ? 4 : 15 },
  { name: '10 rows/request, 16 connections', rowsPerRequest: 10, connections: 16, seconds: isQuick ? 3 : 10 },
  { name: '1 row/request, 16 connections', rowsPerRequest: 1, connections: 16, seconds: isQuick ? 3 : 10 },
]

let rowNumber = 0

/** A seeded generator: runs are comparable. */
function random(): number {
  seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648
  return seed / 2_147_483_648
}
let seed = 42

function makeRow(): string {
  const n = rowNumber++
  const id = n.toString(16).padStart(16, '0')
  const roll = random()
  const level = roll < 0.6 ? 'INFO' : roll < 0.8 ? 'WARN' : roll < 0.9 ? 'DEBUG' : 'ERROR'
  const status = roll < 0.9 ? 200 : 503
  const ms = Math.floor(random() * 900)
  const path = `/api/v1/items/${Math.floor(random() * 100_000)}`
  const message = `GET ${path} ${status} ${ms}ms user=u${n % 5_000} ip=10.1.${n % 250}.${n % 199} request_id=${id} upstream=app-${n % 12}.internal:8080`
  return JSON.stringify({
    timestamp: new Date().toISOString(),
    service: `service-${n % 12}`,
    level,
    message,
    metadata: { request_id: id, user_id: `u${n % 5_000}`, path, status, duration_ms: ms, region: 'eu-west-1' },
  })
}

const dir = await mkdtemp(join(tmpdir(), 'purser-bench-logs-'))
const service = await startService()
const pool = new Pool(service.url, { connections: 16, pipelining: 1 })
try {
  console.log(
    'workload                            acknowledged rows/s   p50 ms   p99 ms     stored rows/s   CPU µs/row   RSS MiB',
  )
  for (const workload of workloads) await run(workload)
  await check()
} finally {
  await pool.close()
  service.process.kill('SIGTERM')
  await service.exited
  await rm(dir, { recursive: true, force: true })
}

async function run(workload: Workload): Promise<void> {
  const { name, rowsPerRequest, connections, seconds } = workload
  const storedBefore = await stored()
  const cpuBeforeS = await metric('process_cpu_seconds_total')
  const startedMs = performance.now()
  const latencies: number[] = []
  let acknowledged = 0
  const send = async () => {
    while (performance.now() - startedMs < seconds * 1_000) {
      const body = `{"logs":[${Array.from({ length: rowsPerRequest }, makeRow).join(',')}]}`
      const sentMs = performance.now()
      const answer = await pool.request({
        method: 'POST',
        path: '/api/v1/logs/batch',
        headers: { 'x-api-key': writeKey },
        body,
      })
      const text = await answer.body.text()
      latencies.push(performance.now() - sentMs)
      assert.equal(answer.statusCode, 202, text)
      acknowledged += rowsPerRequest
    }
  }
  await Promise.all(Array.from({ length: connections }, send))
  const ackS = (performance.now() - startedMs) / 1_000
  while ((await pending()) > 0) await new Promise(resolve => setTimeout(resolve, 20))
  const storeS = (performance.now() - startedMs) / 1_000
  const storedRows = (await stored()) - storedBefore
  assert.equal(storedRows, acknowledged, 'stored rows are not the acknowledged ones')
  latencies.sort((a, b) => a - b)
  const at = (share: number) => (latencies[Math.floor(latencies.length * share)] ?? 0).toFixed(1)
  console.log(
    [
      name.padEnd(34),
      Math.round(acknowledged / ackS)
        .toLocaleString('en')
        .padStart(20),
      at(0.5).padStart(8),
      at(0.99).padStart(8),
      Math.round(storedRows / storeS)
        .toLocaleString('en')
        .padStart(17),
      // Of the service alone; the database and this loader share the machine with it.
      ((((await metric('process_cpu_seconds_total')) - cpuBeforeS) * 1e6) / storedRows).toFixed(1).padStart(12),
      String(Math.round((await metric('process_resident_memory_bytes')) / 1024 / 1024)).padStart(9),
    ].join(' '),
  )
}

interface Page {
  logs: { metadata: { request_id: string }; message: string }[]
  cursor: string | null
}

/** Every row once: as many as were made, and as many different request ids. */
async function check(): Promise<void> {
  let count = 0
  const ids = new Set<string>()
  for (let cursor: string | null = ''; cursor !== null; ) {
    const page: Page = await ask(
      `/api/v1/logs/search?from=-1h&limit=1000&fields=message,metadata${cursor ? `&cursor=${cursor}` : ''}`,
    )
    for (const { metadata, message } of page.logs) {
      assert.ok(message.includes(`request_id=${metadata.request_id}`), 'a row was changed')
      ids.add(metadata.request_id)
    }
    count += page.logs.length
    cursor = isQuick && count >= 50_000 ? null : page.cursor
  }
  assert.equal(ids.size, count, 'a row was stored twice')
  if (!isQuick) assert.equal(count, rowNumber, 'a row is missing')
  console.log(`${count.toLocaleString('en')} rows read back, each once and unchanged`)
}

async function ask<T>(path: string): Promise<T> {
  const answer = await pool.request({ method: 'GET', path, headers: { 'x-api-key': adminKey } })
  assert.equal(answer.statusCode, 200)
  return (await answer.body.json()) as T
}

interface AdminHealth {
  batcher: { current_batch: number; total_processed: number }
}

async function pending(): Promise<number> {
  return (await ask<AdminHealth>('/admin/health')).batcher.current_batch
}

async function stored(): Promise<number> {
  return (await ask<AdminHealth>('/admin/health')).batcher.total_processed
}

async function metric(name: string): Promise<number> {
  const answer = await pool.request({ method: 'GET', path: '/metrics' })
  return Number(new RegExp(`^${name} (\\S+)`, 'm').exec(await answer.body.text())?.[1])
}

async function startService(): Promise<{ url: string; process: ChildProcess; exited: Promise<void> }> {
  const child = spawn(
    process.execPath,
    [fileURLToPath(new URL('../../services/log-ingestion/main.ts', import.meta.url))],
    {
      env: {
        PATH: process.env.PATH,
        LOG_FORMAT: 'json',
        LOG_INGESTION_SERVER_HOST: '127.0.0.1',
        LOG_INGESTION_SERVER_PORT: '0',
        LOG_INGESTION_DATA_DIR: dir,
        LOG_INGESTION_API_KEYS: writeKey,
        LOG_INGESTION_ADMIN_API_KEYS: adminKey,
        LOG_INGESTION_RATELIMIT_ENABLED: 'false',
        LOG_INGESTION_SELF_LOGS: 'false',
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  const exited = new Promise<void>(resolve => child.once('exit', () => resolve()))
  const url = await new Promise<string>((resolve, reject) => {
    let text = ''
    child.stdout.setEncoding('utf8').on('data', chunk => {
      text += chunk
      const found = /"url":"(http:[^"]+)"[^\n]*"msg":"ready"/.exec(text)?.[1]
      if (found !== undefined) resolve(found)
    })
    child.once('exit', () => reject(new Error(`the service did not start:\n${text}`)))
  })
  return { url, process: child, exited }
}
