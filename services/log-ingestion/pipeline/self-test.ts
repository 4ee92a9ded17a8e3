// A copy of this service in a scratch folder, with a scratch database, under load, killed and cut off, and then counted:
// what anybody can run on the machine they trust the least. It is counted twice: by the database, and by reading every
// line back as a user would.

import { type ChildProcess, spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { openSql, startEmbedded } from '#platform/postgres'
import type { Logger } from '#platform/telemetry'
import { sleep } from '#platform/time'

export interface SelfTestOptions {
  sink: 'rows' | 'columnar'
  rows: number
  rowsPerRequest: number
  kills: number
  isDatabaseCut: boolean
  log: Logger
  /** For people who watch. */
  tell: (sentence: string) => void
}

export interface SelfTestResult {
  sink: 'rows' | 'columnar'
  sent: number
  /** As the database counts. */
  stored: number
  /** Sent and not read back. */
  lost: number
  /** Read back, or stored, more than once. */
  duplicated: number
  /** accepted − stored − quarantined − duplicates − damaged of the ledger. */
  difference: number
  kills: number
}

const senders = 4
const key = 'self-test-key'
const adminKey = 'self-test-admin-key'
const settleTimeoutMs = 120_000
const readyTimeoutMs = 60_000
const awayMs = 2_000

export async function selfTest(o: SelfTestOptions): Promise<SelfTestResult> {
  const folder = await mkdtemp(join(tmpdir(), 'purser-selftest-'))
  let database: Awaited<ReturnType<typeof startEmbedded>> | undefined
  let service: Service | undefined
  const startDatabase = async () => {
    database = await startEmbedded({ dir: join(folder, 'postgres'), log: o.log })
    return database.url
  }
  try {
    o.tell(`a copy of the service and a database of its own, in ${folder}`)
    const url = await startDatabase()
    const requests = Math.ceil(o.rows / o.rowsPerRequest)
    const acknowledged = new Set<number>()
    /** Requests that may be sent in this life of the service; a kill must find some on their way. */
    let allowed = 0
    let isOver = false
    service = await startService(folder, url, 0, o.sink)
    const port = new URL(service.url).port
    let next = 0
    const sending = Array.from({ length: senders }, async () => {
      for (let request = next++; request < requests; request = next++) {
        while (request >= allowed && !isOver) await sleep(1)
        // The same key until it is acknowledged: whatever was kept of a killed attempt is not stored twice.
        while (!isOver && !(await post(`http://127.0.0.1:${port}`, request, o.rowsPerRequest))) await sleep(20)
        if (isOver) return
        acknowledged.add(request)
      }
    })
    const reached = async (count: number) => {
      while (acknowledged.size < Math.min(count, requests)) await sleep(1)
    }
    try {
      const cutAt = Math.floor(o.kills / 2)
      for (let kill = 0; kill < o.kills; kill++) {
        const wanted = Math.floor(((kill + 0.5) * requests) / (o.kills + 1)) + randomInt(3)
        allowed = wanted + 2 * senders
        await reached(wanted)
        const isCut = o.isDatabaseCut && kill === cutAt
        if (isCut) await cutDatabase(wanted)
        service.process.kill('SIGKILL')
        await service.exited
        o.tell(`killed (${kill + 1} of ${o.kills}) after ${acknowledged.size * o.rowsPerRequest} acknowledged rows`)
        const restarting = startService(folder, url, Number(port), o.sink)
        if (isCut) await bringBack()
        service = await restarting
      }
      if (o.isDatabaseCut && o.kills === 0) {
        const half = Math.floor(requests / 2)
        allowed = half + 2 * senders
        await reached(half)
        await cutDatabase(half)
        await bringBack()
      }
      allowed = requests
      await Promise.all(sending)
    } finally {
      isOver = true
    }
    await settled(service.url)
    const found = await readBack(service.url, requests, o.rowsPerRequest)
    service.process.kill('SIGTERM')
    await service.exited
    const sent = requests * o.rowsPerRequest
    const { stored, difference } = await count(url, o.sink, o.log)
    return {
      sink: o.sink,
      sent,
      stored,
      lost: sent - found.distinct,
      duplicated: Math.max(stored, found.lines) - found.distinct,
      difference,
      kills: o.kills,
    }

    /** While the service runs: what is acknowledged from now on waits on the disk. */
    async function cutDatabase(acknowledgedBefore: number) {
      await database?.close()
      const before = acknowledged.size
      allowed = acknowledgedBefore + 4 * senders
      await reached(before + senders)
      o.tell(`the database is gone; ${(acknowledged.size - before) * o.rowsPerRequest} rows acknowledged without it`)
    }

    async function bringBack() {
      await sleep(awayMs)
      if ((await startDatabase()) !== url) throw new Error('BUG: the scratch database came back elsewhere')
      o.tell('the database is back')
    }
  } finally {
    service?.process.kill('SIGKILL')
    await service?.exited
    await database?.close()
    bodies.clear()
    await rm(folder, { recursive: true, force: true })
  }
}

interface Service {
  url: string
  process: ChildProcess
  exited: Promise<number | null>
}

async function startService(
  folder: string,
  databaseUrl: string,
  port: number,
  sink: SelfTestOptions['sink'],
): Promise<Service> {
  const child = spawn(process.execPath, [fileURLToPath(new URL('../main.ts', import.meta.url))], {
    env: {
      LOG_FORMAT: 'json',
      LOG_INGESTION_SERVER_HOST: '127.0.0.1',
      LOG_INGESTION_SERVER_PORT: String(port),
      LOG_INGESTION_DATA_DIR: join(folder, 'log-ingestion'),
      LOG_INGESTION_DATABASE_URL: databaseUrl,
      LOG_INGESTION_STORAGE: sink,
      LOG_INGESTION_API_KEYS: key,
      LOG_INGESTION_ADMIN_API_KEYS: adminKey,
      LOG_INGESTION_RATELIMIT_ENABLED: 'false',
      LOG_INGESTION_SELF_LOGS: 'false',
      LOG_INGESTION_BATCH_FLUSH_INTERVAL: '100ms',
    },
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const exited = new Promise<number | null>(resolve => child.once('exit', resolve))
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const timer = setTimeout(() => reject(new Error('the scratch service was not ready within a minute')), readyTimeoutMs)
  let text = ''
  child.stdout.setEncoding('utf8').on('data', chunk => {
    text = `${text}${chunk}`.slice(-64 * 1024)
    const url = /"url":"(http:[^"]+)"[^\n]*"msg":"ready"/.exec(text)?.[1]
    if (url !== undefined) resolve(url)
  })
  void exited.then(code => reject(new Error(`the scratch service ended with ${code}: ${text.slice(-500)}`)))
  try {
    return { url: await promise, process: child, exited }
  } finally {
    clearTimeout(timer)
  }
}

/** True when it was acknowledged. */
async function post(url: string, request: number, rows: number): Promise<boolean> {
  const timestamp = new Date().toISOString()
  const logs = Array.from({ length: rows }, (_, row) => ({
    timestamp,
    service: 'selftest',
    level: 'INFO',
    message: `${request}.${row}`,
  }))
  try {
    const response = await fetch(`${url}/api/v1/logs/batch`, {
      method: 'POST',
      headers: { 'x-api-key': key, 'idempotency-key': `request ${request}` },
      body: bodies.get(request) ?? remember(request, JSON.stringify({ logs })),
    })
    await response.arrayBuffer()
    if (response.status === 202) bodies.delete(request)
    return response.status === 202
  } catch {
    return false
  }
}

/** Of requests not acknowledged yet: a repeat must be the same to the byte. */
const bodies = new Map<number, string>()

function remember(request: number, body: string): string {
  bodies.set(request, body)
  return body
}

async function settled(url: string): Promise<void> {
  const deadlineMs = performance.now() + settleTimeoutMs
  for (;;) {
    const response = await fetch(`${url}/admin/health`, { headers: { 'x-api-key': adminKey } }).catch(() => undefined)
    const health = (await response?.json().catch(() => undefined)) as
      | { batcher?: { current_batch: number } }
      | undefined
    if (health?.batcher?.current_batch === 0) return
    if (performance.now() > deadlineMs) throw new Error('not everything was stored within two minutes')
    await sleep(100)
  }
}

/** Every line through the export that users have; a cut one has no trailer and fails here. */
async function readBack(
  url: string,
  requests: number,
  rowsPerRequest: number,
): Promise<{ lines: number; distinct: number }> {
  const response = await fetch(`${url}/api/v1/logs/export?format=ndjson&from=-1d&q=service:selftest`, {
    headers: { 'x-api-key': adminKey },
  })
  if (!response.ok || !response.body) throw new Error(`the lines cannot be read back: ${response.status}`)
  const seen = new Uint8Array(requests * rowsPerRequest)
  let lines = 0
  let distinct = 0
  for await (const line of linesOf(response.body)) {
    const { message } = JSON.parse(line) as { message: string }
    const [request, row] = message.split('.').map(Number)
    const at = (request ?? Number.NaN) * rowsPerRequest + (row ?? Number.NaN)
    lines++
    if (seen[at] === 0) distinct++
    seen[at] = 1
  }
  return { lines, distinct }
}

async function* linesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const chunk of body) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n')
    rest = lines.pop() ?? ''
    yield* lines
  }
  if (rest !== '') throw new Error('the export of the stored lines was cut')
}

async function count(
  url: string,
  sink: SelfTestOptions['sink'],
  log: Logger,
): Promise<{ stored: number; difference: number }> {
  const sql = openSql({ url, max: 1, applicationName: 'selftest', statementTimeoutMs: 600_000, log })
  try {
    const [rows] =
      sink === 'rows'
        ? await sql<{ stored: bigint }[]>`select count(*) as stored from public.logs`
        : await sql<{ stored: bigint }[]>`select coalesce(sum(rows), 0)::int8 as stored from purser_logs.blocks`
    const [ledger] = await sql<{ difference: bigint }[]>`
      select coalesce(sum(accepted - stored - quarantined - duplicates - damaged), 0)::int8 as difference
      from purser_logs.ledger`
    return { stored: Number(rows?.stored ?? 0n), difference: Number(ledger?.difference ?? 0n) }
  } finally {
    await sql.end({ timeout: 2 })
  }
}
