// What the service takes at 80 % of peak load, with people reading meanwhile (G28: RSS < 300 MB), and what connections cost
// that do nothing (G17: 10 000 of them < 100 MB).

import { connect, type Socket } from 'node:net'
import { Pool } from 'undici'
import { report } from './report.ts'
import { createBodies } from './rows.ts'
import { adminKey, type Subject, writeKey } from './service.ts'

const rowsPerRequest = 500
const connections = 4
const MB = 1e6

export async function benchMemory(subject: Subject, seconds: number): Promise<void> {
  const pool = new Pool(subject.url, { connections: connections + 6, pipelining: 1 })
  const atStart = await subject.rssBytes()
  const peak = await load(pool, Math.max(3, seconds / 5), Number.POSITIVE_INFINITY)
  const stopReaders = startReaders(pool)
  let rss = 0
  const sampling = setInterval(() => void subject.rssBytes().then(bytes => (rss = Math.max(rss, bytes))), 100)
  const rate = await load(pool, seconds, peak * 0.8)
  clearInterval(sampling)
  const queries = await stopReaders()
  await pool.close()
  report(
    'memory',
    { start_bytes: atStart, peak_rows_per_s: Math.round(peak), rows_per_s: Math.round(rate), queries, rss_bytes: rss },
    `at start ${megabytes(atStart)}; peak ${whole(peak)} rows/s; at ${whole(rate)} rows/s for ${seconds} s with two tails and ${queries} searches: RSS at most ${megabytes(rss)} (bound 300 MB)`,
  )
}

/** Rows a second that were taken; never more than `rateMax`. */
async function load(pool: Pool, seconds: number, rateMax: number): Promise<number> {
  const bodies = createBodies(rowsPerRequest)
  const beginMs = performance.now()
  const elapsedS = () => (performance.now() - beginMs) / 1_000
  let sent = 0
  let taken = 0
  const send = async () => {
    while (elapsedS() < seconds) {
      const waitMs = (sent / rateMax - elapsedS()) * 1_000
      if (waitMs > 0) await new Promise(resolve => setTimeout(resolve, waitMs))
      sent += rowsPerRequest
      const body = bodies.next()
      const headers = { 'x-api-key': writeKey }
      const answer = await pool.request({ method: 'POST', path: '/api/v1/logs/batch', headers, body })
      await answer.body.text()
      if (answer.statusCode === 202) taken += rowsPerRequest
      bodies.release(body)
    }
  }
  await Promise.all(Array.from({ length: connections }, send))
  return taken / elapsedS()
}

/** Two live tails and somebody who searches all the time; the function stops them and says how many searches there were. */
function startReaders(pool: Pool): () => Promise<number> {
  const stop = new AbortController()
  const headers = { 'x-api-key': adminKey }
  const tail = async () => {
    const path = '/api/v1/logs/tail?q=ERROR'
    const answer = await pool.request({ method: 'GET', path, headers, signal: stop.signal, bodyTimeout: 0 })
    for await (const _ of answer.body);
  }
  let queries = 0
  const search = async () => {
    for (let i = 0; !stop.signal.aborted; i++) {
      const q = ['status:500', 'level:error', '"GET /api"'][i % 3] ?? ''
      const path = `/api/v1/logs/search?limit=1000&q=${encodeURIComponent(q)}`
      const answer = await pool.request({ method: 'GET', path, headers, signal: stop.signal })
      await answer.body.dump()
      queries++
    }
  }
  const all = [tail(), tail(), search()].map(work => work.catch(() => {}))
  return async () => {
    stop.abort()
    await Promise.all(all)
    return queries
  }
}

/** Connections that made a request once and are kept. */
export async function benchIdle(subject: Subject, count: number): Promise<void> {
  const { hostname, port } = new URL(subject.url)
  const sockets: Socket[] = []
  const open = () =>
    new Promise<void>((resolve, reject) => {
      const socket = connect(Number(port), hostname)
      sockets.push(socket)
      socket.once('error', reject)
      socket.once('data', () => resolve())
      socket.write('GET /health/live HTTP/1.1\r\nHost: bench\r\n\r\n')
    })
  // What a first connection brings with it is not the cost of one.
  for (let i = 0; i < 200; i++) await open()
  const before = await subject.rssBytes()
  for (let i = 0; i < count; i += 100) await Promise.all(Array.from({ length: 100 }, open))
  // What opening them left behind is not what they cost.
  await new Promise(resolve => setTimeout(resolve, 3_000))
  const after = await subject.rssBytes()
  report(
    'idle',
    { connections: count, more_bytes: after - before, rss_bytes: after },
    `${whole(count)} idle connections: ${megabytes(after - before)} more (bound 100 MB), ${megabytes(after)} in all`,
  )
  for (const socket of sockets) socket.destroy()
}

function megabytes(bytes: number): string {
  return `${(bytes / MB).toFixed(0)} MB`
}

function whole(n: number): string {
  return Math.round(n).toLocaleString('en')
}
