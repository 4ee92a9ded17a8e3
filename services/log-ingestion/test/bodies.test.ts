// Bodies and connections that mean harm: bombs, lies about lengths, cut and corrupt streams, senders that never finish.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { Agent, request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { brotliCompressSync, constants, deflateRawSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib'
import snappy from 'snappy'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { startProcess } from './process.ts'
import { batch, entry, startService, writeKey } from './start.ts'

const MiB = 1024 * 1024
const bodyBytesMax = MiB

const codecs: Record<string, (bytes: Buffer) => Buffer> = {
  gzip: gzipSync,
  'x-gzip': gzipSync,
  deflate: deflateSync,
  'deflate, raw': deflateRawSync,
  br: bytes => brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } }),
  zstd: zstdCompressSync,
}

interface Reply {
  status: number
  text: string
}

/** One connection at a time, kept: how many were opened tells whether answers left them usable. */
function oneConnection(t: TestContext, url: string) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.after(() => agent.destroy())
  const sockets = new Set<Socket>()
  const send = (path: string, body: Uint8Array | string, headers: Record<string, string> = {}): Promise<Reply> =>
    new Promise((resolve, reject) => {
      const sent = request(
        new URL(path, url),
        { method: 'POST', agent, headers: { 'x-api-key': writeKey, ...headers } },
        async response => {
          let text = ''
          for await (const chunk of response) text += chunk
          resolve({ status: response.statusCode ?? 0, text })
        },
      )
      sent.on('socket', socket => sockets.add(socket))
      sent.on('error', reject)
      sent.end(body)
    })
  return { send, sockets }
}

test('G16: bombs of every encoding stop at the cap, lengths that lie cost nothing, cut and corrupt streams are 400, and the connection goes on', async t => {
  const s = await startService(t, { env: { LOG_INGESTION_BODY_BYTES_MAX: String(bodyBytesMax) } })
  const { send, sockets } = oneConnection(t, s.url)
  const good = Buffer.from(batch(entry({ message: 'good' })))
  const zeros = Buffer.alloc(40 * MiB)
  const noise = Buffer.from(batch(entry({ metadata: { noise: randomBytes(3_000).toString('base64') } })))
  /** What buffers took at most while the work ran. */
  const buffersDuring = async (work: () => Promise<void>) => {
    const before = process.memoryUsage().arrayBuffers
    let most = before
    const sampling = setInterval(() => {
      most = Math.max(most, process.memoryUsage().arrayBuffers)
    }, 1)
    await work()
    clearInterval(sampling)
    return most - before
  }
  for (const [name, pack] of Object.entries(codecs)) {
    const headers = { 'content-encoding': name.replace(/,.*/, '') }
    const bomb = pack(zeros)
    const took = await buffersDuring(async () => {
      const { status, text } = await send('/api/v1/logs/batch', bomb, headers)
      // A bomb so dense that it is longer than the cap itself would be refused before it is unpacked.
      assert.deepEqual(
        [status, JSON.parse(text)],
        [
          413,
          {
            error: 'Request body too large',
            details: `the decoded body exceeds ${bodyBytesMax} bytes; send less at once`,
          },
        ],
      )
    })
    assert.ok(took < 12 * MiB, `${name}: ${took} bytes for a bomb of ${zeros.length}`)
    const packed = pack(noise)
    for (const [what, broken] of [
      ['cut', packed.subarray(0, packed.length >> 1)],
      ['not one at all', Buffer.from('\x08 not what it says')],
    ] as const) {
      const { status, text } = await send('/api/v1/logs/batch', broken, headers)
      assert.equal(status, 400, `${name}, ${what}: ${text}`)
      assert.equal((JSON.parse(text) as { error: string }).error, 'Invalid request body')
    }
    assert.equal((await send('/api/v1/logs/batch', pack(good), headers)).status, 202, name)
  }

  // Snappy says first how long it is: 4 GiB, more than the cap, more than it has, less than it has.
  const varint = (n: number) => {
    const bytes = []
    for (let left = n; ; left = Math.floor(left / 128)) {
      bytes.push(left < 128 ? left : (left % 128) + 128)
      if (left < 128) return Buffer.from(bytes)
    }
  }
  const block = Buffer.from(snappy.compressSync(good))
  const behindLength = block.subarray(varint(good.length).length)
  const push = (bytes: Buffer) => send('/loki/api/v1/push', bytes, { 'content-type': 'application/x-protobuf' })
  const took = await buffersDuring(async () => {
    for (const length of [0xffff_ffff, bodyBytesMax + 1])
      assert.equal((await push(Buffer.concat([varint(length), behindLength]))).status, 413)
    for (const length of [bodyBytesMax, 3])
      assert.equal((await push(Buffer.concat([varint(length), behindLength]))).status, 400)
  })
  assert.ok(took < 8 * MiB, `${took} bytes for lies`)
  assert.equal((await send('/api/v1/logs/batch', zeros.subarray(0, 3 * MiB))).status, 413)
  assert.equal((await send('/api/v1/logs/batch', good)).status, 202)
  assert.equal(sockets.size, 1, 'all of that on one connection')
})

test('G17: nothing of an unfinished upload is stored, headers and body have the read timeout, headers 16 KiB, and idle connections cost little', async t => {
  const dir = await mkdtemp(join(tmpdir(), 'purser-logs-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  const database = await testDatabase(t)
  const child = startProcess(t, {
    env: {
      LOG_INGESTION_SERVER_HOST: '127.0.0.1',
      LOG_INGESTION_SERVER_PORT: '0',
      LOG_INGESTION_DATA_DIR: dir,
      LOG_INGESTION_DATABASE_URL: database.url,
      LOG_INGESTION_API_KEYS: writeKey,
      LOG_INGESTION_SERVER_READ_TIMEOUT: '2s',
      LOG_INGESTION_BATCH_FLUSH_INTERVAL: '20ms',
      LOG_INGESTION_SELF_LOGS: 'false',
    },
  })
  const url = await child.url
  const port = Number(new URL(url).port)
  /** What comes back until the service closes. */
  const speak = (text: string) =>
    new Promise<string>(resolve => {
      const socket = connect(port, '127.0.0.1')
      let answer = ''
      socket.on('data', chunk => (answer += chunk)).on('error', () => {})
      socket.on('close', () => resolve(answer))
      socket.write(text)
    })
  const head = `POST /api/v1/logs HTTP/1.1\r\nHost: x\r\nX-API-Key: ${writeKey}\r\n`
  const whole = JSON.stringify({ log: entry({ message: 'unfinished' }) })
  const [noHeaders, noBody, chunked, large] = await Promise.all([
    speak(head),
    speak(`${head}Content-Length: ${whole.length + 1}\r\n\r\n${whole}`),
    speak(`${head}Transfer-Encoding: chunked\r\n\r\n${whole.length.toString(16)}\r\n${whole}\r\n`),
    speak(`${head}X-Long: ${'x'.repeat(17 * 1024)}\r\n\r\n`),
  ])
  assert.match(noHeaders, /^HTTP\/1.1 408 /)
  assert.match(noBody, /^HTTP\/1.1 408 /)
  assert.match(chunked, /^HTTP\/1.1 408 /)
  assert.match(large, /^HTTP\/1.1 431 /)
  const within = await fetch(`${url}/api/v1/logs`, {
    method: 'POST',
    headers: { 'x-api-key': writeKey, 'x-long': 'x'.repeat(15 * 1024) },
    body: JSON.stringify({ log: entry({ message: 'finished' }) }),
  })
  assert.equal(within.status, 202)
  const messages = async () => (await database.sql<{ message: string }[]>`SELECT message FROM logs`).map(r => r.message)
  await pollUntil(async () => (await messages()).length > 0, { what: 'the finished one' })
  assert.deepEqual(await messages(), ['finished'])

  // A fifth of the ten thousand that the bench opens and weighs; here at twice the price, for what else the heap does.
  const rss = async () => {
    const status = await readFile(`/proc/${child.process.pid}/status`, 'utf8')
    return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) * 1_024
  }
  const sockets: Socket[] = []
  t.after(() => {
    for (const socket of sockets) socket.destroy()
  })
  const open = () =>
    new Promise<void>((resolve, reject) => {
      const socket = connect(port, '127.0.0.1').once('data', () => resolve())
      sockets.push(socket.on('error', reject))
      socket.write('GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n')
    })
  for (let i = 0; i < 10; i++) await Promise.all(Array.from({ length: 10 }, open))
  const before = await rss()
  for (let i = 0; i < 20; i++) await Promise.all(Array.from({ length: 100 }, open))
  const cost = (await rss()) - before
  assert.ok(cost < 2_000 * 20_000, `${cost} bytes for 2000 connections`)
  assert.ok(
    sockets.every(socket => !socket.destroyed),
    'they are kept',
  )
})
