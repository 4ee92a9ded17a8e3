// What a kill -9 costs, and how soon the service takes entries again when its journal is full of what is not stored yet.

import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { Pool } from 'undici'
import { openSql, startEmbedded } from '#platform/postgres'
import { createLog } from '#platform/telemetry'
import { report } from './report.ts'
import { createBodies } from './rows.ts'
import { adminKey, spawnService, writeKey } from './service.ts'

const MiB = 1024 * 1024

/** Full speed until the kill; then every acknowledged row must be there once. */
export async function benchKill9(dir: string, o: { seconds: number; restS: number }): Promise<void> {
  const log = createLog({ service: 'bench', level: 'error', format: 'json' })
  const server = await startEmbedded({ dir: join(dir, 'postgres'), log })
  const sql = openSql({ url: server.url, max: 1, applicationName: 'bench', statementTimeoutMs: 600_000, log })
  const port = await freePort()
  const env = {
    LOG_INGESTION_DATA_DIR: join(dir, 'service'),
    LOG_INGESTION_DATABASE_URL: server.url,
    LOG_INGESTION_STORAGE: 'columnar',
    LOG_INGESTION_SERVER_PORT: String(port),
  }
  let service = spawnService(env)
  await firstAccepted(port)
  const acknowledged = await flood(port, 4, o.seconds * 1_000)
  await new Promise(resolve => setTimeout(resolve, o.restS * 1_000))
  await kill9(service)
  service = spawnService(env)
  await firstAccepted(port)
  await settled(port)
  const [row] = await sql<{ rows: bigint; ids: bigint }[]>`
    select sum(rows)::int8 as rows, sum(max_id - min_id + 1)::int8 as ids from purser_logs.blocks`
  // Two entries were sent to see whether it listens.
  const stored = Number(row?.rows ?? 0n) - 2
  const [lost, doubled] = [Math.max(0, acknowledged - stored), Math.max(0, stored - acknowledged)]
  report(
    'kill9',
    { rest_s: o.restS, acknowledged, lost, doubled },
    `kill -9 ${o.restS} s after the last ack: ${acknowledged.toLocaleString('en')} rows acknowledged, ${lost.toLocaleString('en')} lost, ${doubled.toLocaleString('en')} doubled`,
  )
  assert.equal(stored, acknowledged)
  await stop(service)
  await sql.end({ timeout: 1 })
  await server.close()
}

/** The database is away throughout. */
export async function benchPendingStart(dir: string, o: { pendingMiB: number }): Promise<void> {
  const port = await freePort()
  const env = {
    LOG_INGESTION_DATA_DIR: join(dir, 'service'),
    LOG_INGESTION_DATABASE_URL: `postgres://nobody@127.0.0.1:${await freePort()}/none`,
    LOG_INGESTION_SERVER_PORT: String(port),
  }
  const emptyMs = performance.now()
  let service = spawnService(env)
  await firstAccepted(port)
  const emptyTookMs = Math.round(performance.now() - emptyMs)
  await flood(port, 4, 60_000, async () => (await journalBytes(port)) >= o.pendingMiB * MiB)
  const pendingMiB = Math.round((await journalBytes(port)) / MiB)
  await kill9(service)
  const startedMs = performance.now()
  service = spawnService(env)
  await firstAccepted(port)
  const tookMs = Math.round(performance.now() - startedMs)
  report(
    'start',
    { pending_mib: pendingMiB, first_202_ms: tookMs, empty_first_202_ms: emptyTookMs },
    `start after kill -9 with ${pendingMiB} MiB pending: first 202 after ${tookMs} ms; with an empty journal after ${emptyTookMs} ms`,
  )
  await stop(service)
}

/** Until one entry is taken. */
async function firstAccepted(port: number): Promise<void> {
  const deadlineMs = performance.now() + 60_000
  for (;;) {
    const timestamp = new Date().toISOString()
    const answer = await fetch(`http://127.0.0.1:${port}/api/v1/logs`, {
      method: 'POST',
      headers: { 'x-api-key': writeKey },
      body: JSON.stringify({ log: { timestamp, service: 'bench', level: 'info', message: 'are you there' } }),
    }).catch(() => undefined)
    await answer?.arrayBuffer()
    if (answer?.status === 202) return
    if (performance.now() > deadlineMs) throw new Error(`nothing was taken within a minute: ${answer?.status}`)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}

async function flood(
  port: number,
  connections: number,
  forMs: number,
  isEnough?: () => Promise<boolean>,
): Promise<number> {
  const pool = new Pool(`http://127.0.0.1:${port}`, { connections, pipelining: 1 })
  const bodies = createBodies(500)
  const untilMs = performance.now() + forMs
  let acknowledged = 0
  let isOver = false
  const send = async () => {
    for (let n = 0; !isOver && performance.now() < untilMs; n++) {
      const body = bodies.next()
      const answer = await pool.request({
        method: 'POST',
        path: '/api/v1/logs/batch',
        headers: { 'x-api-key': writeKey },
        body,
      })
      await answer.body.text()
      bodies.release(body)
      if (answer.statusCode === 202) acknowledged += 500
      if (isEnough && n % 50 === 49) isOver ||= await isEnough()
    }
  }
  await Promise.all(Array.from({ length: connections }, send))
  await pool.close()
  return acknowledged
}

async function settled(port: number): Promise<void> {
  for (;;) {
    const answer = await fetch(`http://127.0.0.1:${port}/admin/health`, { headers: { 'x-api-key': adminKey } })
    const { batcher } = (await answer.json()) as { batcher: { current_batch: number; total_processed: number } }
    if (batcher.current_batch === 0 && batcher.total_processed > 0) return
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}

async function journalBytes(port: number): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
  return Number(/^log_ingestion_journal_bytes (\S+)/m.exec(text)?.[1] ?? 0)
}

async function kill9(service: ChildProcess): Promise<void> {
  const gone = new Promise(resolve => service.once('close', resolve))
  service.stdout?.resume()
  service.kill('SIGKILL')
  await gone
}

async function stop(service: ChildProcess): Promise<void> {
  const gone = new Promise(resolve => service.once('close', resolve))
  service.stdout?.resume()
  service.kill('SIGTERM')
  const timer = setTimeout(() => service.kill('SIGKILL'), 5_000)
  await gone
  clearTimeout(timer)
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise(resolve => server.close(resolve))
  return address !== null && typeof address === 'object' ? address.port : 0
}
