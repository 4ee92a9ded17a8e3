// What the service takes of memory, as its command starts it (that sets the heap's flags), while all of it is asked for.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { loadConfig } from '#platform/config'
import { openJournal } from '#platform/journal'
import { testBase } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { SearchAnswer } from '../api.ts'
import { spec } from '../config.ts'
import { pageBytesMax as foldBytesMax } from '../http/fold.ts'
import { runningMax } from '../http/gate.ts'
import { pageBytesMax } from '../http/search.ts'
import { levelIndex } from '../level.ts'
import { groupBytesMax, openAcceptance } from '../pipeline/acceptance.ts'
import { dedupeMax, marksMax } from '../pipeline/admission.ts'
import { rememberedBytes } from '../pipeline/remembered.ts'
import {
  createTailHub,
  ownBufferBytes,
  ringBytesMax,
  sharedBufferBytesMax,
  type TailFormat,
  tailsMax,
} from '../pipeline/tail-hub.ts'
import { batchBytesMax, readBytes } from '../pipeline/writer.ts'
import { noDedupe, RecordBuilder } from '../record.ts'
import { publishedBytesMax } from '../redis.ts'
import { poolBytesMax } from '../service.ts'
import { bytesMax as compactedBytesMax } from '../store/columnar/compact.ts'
import { spareBytesMax, sparesMax } from '../store/columnar/encoder.ts'
import { pieceBytesMax } from '../store/open-store.ts'
import { createVisibility } from '../store/visibility.ts'
import { udpQueueBytesMax } from '../syslog/listeners.ts'
import { startProcess } from './process.ts'
import { openSse } from './sse.ts'
import { adminKey, batch, entry, writeKey } from './start.ts'
import { tcpProxy } from './tcp-proxy.ts'

const bytesPromised = 300e6

describe('G28: under load, with tails and searches beside it and a backlog, memory stays below 300 MB; so does the sum of all caps', () => {
  for (const storage of ['columnar', 'rows'])
    test(`loaded, tailed, searched, cut off from its database: ${storage}`, async t => {
      const service = await startLoaded(t, storage)
      const load = startLoad(service.url)
      const readers = await startReaders(t, service.url)
      const accepted = (rows: number) =>
        pollUntil(() => load.acceptedRows() >= rows, { what: `${rows} rows to be accepted`, everyMs: 20 })
      await accepted(60_000)

      // More than one page may hold, and less than was asked for.
      await large(service.url)
      const page = await pollUntil(
        async () => {
          const found = await service.search('service:large', 1_000)
          return found.partial && found
        },
        { what: 'a page that ends at its bytes' },
      )
      assert.ok(page.logs.length > 100 && page.logs.length < 1_000)
      assert.ok(typeof page.cursor === 'string')

      service.database.down()
      const atCut = load.acceptedRows()
      await accepted(atCut + 100_000)
      assert.ok((await service.metric('journal_pending_rows')) > 80_000, 'a backlog')
      service.database.up()

      await load.stop()
      await readers.stop()
      assert.ok(readers.searches() > 0 && readers.tailed() > 0)
      assert.ok((await service.metric('tail_dropped_rows_total')) > 0, 'a tail that did not read')
      await pollUntil(async () => (await service.metric('journal_pending_rows')) === 0, { what: 'all to be stored' })
      const [counts] = await service.sql<{ stored: bigint }[]>`
        select coalesce(sum(stored), 0)::int8 as stored from purser_logs.ledger`
      assert.equal(counts?.stored, BigInt(load.acceptedRows() + largeRows))

      const { peakBytes, threads } = await service.memory()
      t.diagnostic(`${Math.round(peakBytes / 1e6)} MB at most, ${threads} threads, ${load.acceptedRows()} rows`)
      assert.ok(threads > 4, 'its threads are in it')
      assert.ok(peakBytes < bytesPromised, `${peakBytes} bytes at most`)
    })

  test('the caps of queues, caches, tail buffers and queries sum up to less', async () => {
    const loaded = loadConfig(spec, { env: {} })
    assert.ok(loaded.ok)
    const caps = {
      'decoded bodies in work': loaded.config.inflightBytesMax,
      'records on their way to the disk': groupBytesMax,
      'batches in work, and what is read for the next': 3 * batchBytesMax + readBytes,
      'payloads kept by the encoder': sparesMax * spareBytesMax,
      'blocks that are merged': compactedBytesMax,
      'buffers kept for reuse': poolBytesMax,
      'unmarked requests remembered': rememberedBytes(dedupeMax, false),
      'marked requests remembered': rememberedBytes(marksMax, true),
      'tail buffers': tailsMax * ownBufferBytes + sharedBufferBytesMax,
      'records of other replicas kept for tails': ringBytesMax,
      'records on their way to other replicas': publishedBytesMax,
      'queries at once': runningMax * Math.max(pageBytesMax, foldBytesMax),
      'exports at once': runningMax * pieceBytesMax,
      'syslog by UDP': udpQueueBytesMax,
    }
    const sum = Object.values(caps).reduce((total, bytes) => total + bytes, 0)
    assert.ok(sum < bytesPromised, `${sum} bytes: ${JSON.stringify(caps, null, 1)}`)
  })

  test('a hundred readers that stopped reading hold what their caps say, one that reads beside them misses nothing', async t => {
    const { log } = testBase(t)
    const dir = await mkdtemp(join(tmpdir(), 'purser-memory-'))
    t.after(() => rm(dir, { recursive: true, force: true }))
    const journal = await openJournal({ dir, bytesMax: 256 * 1024 * 1024, readers: ['writer'], log })
    t.after(() => journal.close())
    let lost = 0
    const hub = createTailHub({
      journal,
      replica: randomUUID(),
      placeKey: Buffer.alloc(32),
      log,
      end: () => ({ ...journal.end, rows: 0n }),
      stored: () => undefined,
      view: tenant => createVisibility(() => 0).view(tenant),
      onDropped: rows => (lost += rows),
    })
    t.after(() => hub.close())
    const acceptance = await openAcceptance({
      journal,
      bytesMax: 256 * 1024 * 1024,
      dir,
      log,
      committedRows: () => 0n,
      claim: () => () => {},
      onAccepted: accepted => hub.publish(accepted, 'public'),
    })
    t.after(() => acceptance.close())
    const format: TailFormat = {
      entry: item => item.message,
      gap: dropped => `gap ${dropped}`,
      heartbeat: () => '',
    }
    const all = { kind: 'all' } as const
    const held = Array.from({ length: tailsMax - 1 }, () => ({ bytes: 0 }))
    for (const [i, buffer] of held.entries()) {
      const sink = {
        bufferedBytes: () => buffer.bytes,
        write(text: string) {
          buffer.bytes += text.length
        },
        drained: () => new Promise<void>(() => {}),
      }
      assert.ok(hub.subscribe({ tenant: 'public', key: `key ${i % 10}`, query: all, format, sink }))
    }
    let seen = 0
    const quick = { bufferedBytes: () => 0, write: () => void seen++, drained: async () => {} }
    assert.ok(hub.subscribe({ tenant: 'public', key: 'quick', query: all, format, sink: quick }))
    const message = 'x'.repeat(9_000)
    const [records, rowsEach] = [30, 10]
    for (let i = 0; i < records; i++) {
      const builder = new RecordBuilder()
      for (let row = 0; row < rowsEach; row++) builder.row(1, 0, levelIndex('INFO'), 'shop', message, null)
      const header = { protocol: 'native', receivedUs: 1n, tenant: 'public', key: 'k' } as const
      await acceptance.accept(builder, { ...header, idempotencyKey: '', dedupeHash: noDedupe })
    }
    assert.equal(seen, records * rowsEach)
    assert.ok(lost > 0)
    const bytes = held.reduce((sum, buffer) => sum + buffer.bytes, 0)
    assert.ok(bytes <= held.length * ownBufferBytes + sharedBufferBytesMax, `${bytes} bytes`)
    assert.ok(Math.max(...held.map(({ bytes: own }) => own)) > 200_000, 'there is more than its own share for some')
  })
})

/** The service by its command, beside a database that can be cut off. */
async function startLoaded(t: TestContext, storage: string) {
  const { url: databaseUrl, sql } = await testDatabase(t)
  const database = await tcpProxy(t, databaseUrl)
  const dir = await mkdtemp(join(tmpdir(), 'purser-memory-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  const child = startProcess(t, {
    env: {
      LOG_INGESTION_SERVER_HOST: '127.0.0.1',
      LOG_INGESTION_SERVER_PORT: '0',
      LOG_INGESTION_DATA_DIR: dir,
      LOG_INGESTION_DATABASE_URL: database.url,
      LOG_INGESTION_STORAGE: storage,
      LOG_INGESTION_API_KEYS: writeKey,
      LOG_INGESTION_ADMIN_API_KEYS: adminKey,
      LOG_INGESTION_RATELIMIT_ENABLED: 'false',
      LOG_INGESTION_SELF_LOGS: 'false',
    },
  })
  const url = await child.url
  return {
    url,
    sql,
    database,
    async search(q: string, limit: number) {
      const answer = await fetch(`${url}/api/v1/logs/search?${new URLSearchParams({ q, limit: String(limit) })}`, {
        headers: { 'x-api-key': adminKey },
      })
      assert.equal(answer.status, 200)
      return (await answer.json()) as SearchAnswer
    },
    async metric(name: string) {
      const text = await (await fetch(`${url}/metrics`)).text()
      return Number(new RegExp(`^log_ingestion_${name} (\\d+)`, 'm').exec(text)?.[1] ?? 0)
    },
    async memory() {
      const status = await readFile(`/proc/${child.process.pid}/status`, 'utf8')
      const numberOf = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1])
      return { peakBytes: numberOf('VmHWM') * 1_024, threads: numberOf('Threads') }
    },
  }
}

const rowsPerRequest = 500
/** Far below what two cores take of it, a loaded machine's included. */
const rowsPerSecondMax = 40_000

/** Four connections at most so fast, until it is stopped. */
function startLoad(url: string) {
  const stop = new AbortController()
  const beginMs = performance.now()
  let sent = 0
  let accepted = 0
  const send = async () => {
    while (!stop.signal.aborted) {
      const waitMs = (sent / rowsPerSecondMax) * 1_000 - (performance.now() - beginMs)
      if (waitMs > 0) await new Promise(resolve => setTimeout(resolve, waitMs))
      const first = sent
      sent += rowsPerRequest
      const headers = { 'x-api-key': writeKey }
      const answer = await fetch(`${url}/api/v1/logs/batch`, { method: 'POST', body: bodyFrom(first), headers })
      await answer.arrayBuffer()
      assert.equal(answer.status, 202)
      accepted += rowsPerRequest
    }
  }
  const all = Promise.all(Array.from({ length: 4 }, send))
  all.catch(() => {})
  return {
    acceptedRows: () => accepted,
    async stop() {
      stop.abort()
      await all
    },
  }
}

function bodyFrom(first: number): string {
  const timestamp = new Date().toISOString()
  const rows = Array.from({ length: rowsPerRequest }, (_, i) => {
    const n = first + i
    const [id, path] = [(n * 2_654_435_761).toString(16).padStart(16, '0'), `/api/v1/orders/${n % 99_991}`]
    const level = ['INFO', 'INFO', 'INFO', 'WARN', 'DEBUG', 'ERROR'][n % 6]
    const message = `GET ${path} ${n % 7 ? 200 : 500} ${n % 900}ms user=u${n % 80_021} ip=10.0.3.7 request_id=${id} upstream=app-3.internal:8080`
    const metadata = `{"request_id":"${id}","user_id":"u${n % 80_021}","path":"${path}","status":${n % 7 ? 200 : 500},"duration_ms":${n % 900},"region":"eu-west-1"}`
    return `{"timestamp":"${timestamp}","service":"service-${n % 12}","level":"${level}","message":"${message}","metadata":${metadata}}`
  })
  return `{"logs":[${rows.join(',')}]}`
}

const largeRows = 1_000

async function large(url: string): Promise<void> {
  const message = 'y'.repeat(9_900)
  for (let i = 0; i < 10; i++) {
    const body = batch(...Array.from({ length: largeRows / 10 }, () => entry({ service: 'large', message })))
    const headers = { 'x-api-key': writeKey }
    assert.equal((await fetch(`${url}/api/v1/logs/batch`, { method: 'POST', body, headers })).status, 202)
  }
}

/** Two live tails, one that does not read, and somebody who searches all the time. */
async function startReaders(t: TestContext, url: string) {
  const headers = { 'x-api-key': adminKey }
  const tails = await Promise.all(
    ['level:error', 'status:500'].map(q => openSse(`${url}/api/v1/logs/tail?q=${encodeURIComponent(q)}`, headers)),
  )
  const stuck = connect(Number(new URL(url).port), '127.0.0.1')
  t.after(() => {
    stuck.destroy()
    for (const tail of tails) tail.close()
  })
  stuck.write(`GET /api/v1/logs/tail HTTP/1.1\r\nHost: x\r\nX-API-Key: ${adminKey}\r\n\r\n`)
  await new Promise<void>(resolve => stuck.once('data', () => resolve()))
  stuck.pause()
  const stop = new AbortController()
  let searches = 0
  const search = async () => {
    for (let i = 0; !stop.signal.aborted; i++) {
      const q = ['status:500', 'level:error', '"GET /api"'][i % 3] ?? ''
      const answer = await fetch(`${url}/api/v1/logs/search?limit=1000&q=${encodeURIComponent(q)}`, { headers })
      await answer.arrayBuffer()
      if (answer.status === 200) searches++
      // While the database is away it is told so at once.
      else await new Promise(resolve => setTimeout(resolve, 100))
    }
  }
  const searching = search()
  return {
    searches: () => searches,
    tailed: () => Math.min(...tails.map(tail => tail.events.length)),
    async stop() {
      stop.abort()
      await searching
    },
  }
}
