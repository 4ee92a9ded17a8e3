// One key floods over many connections while another sends a little. How long the other waits is measured by
// bench/log-ingestion (`noisy`); here, that it is served in the middle of the flood and never refused.

import assert from 'node:assert/strict'
import { Agent, request } from 'node:http'
import { type TestContext, test } from 'node:test'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { batch, entry, startService, type TestService, writeKey } from './start.ts'
import { tcpProxy } from './tcp-proxy.ts'

const MiB = 1024 * 1024
const quietKey = 'acme-write-key'

interface Reply {
  status: number
  reason: string | undefined
  retryAfterS: number
}

/** Connections of a sender of its own: as many as asked for, each with one request at a time. */
function sender(t: TestContext, s: TestService, key: string, connections: number) {
  const agent = new Agent({ keepAlive: true, maxSockets: connections })
  t.after(() => agent.destroy())
  return (body: string): Promise<Reply> =>
    new Promise((resolve, reject) => {
      const url = new URL('/api/v1/logs/batch', s.url)
      const sent = request(url, { method: 'POST', agent, headers: { 'x-api-key': key } }, async response => {
        let text = ''
        for await (const chunk of response) text += chunk
        const { reason } = JSON.parse(text) as { reason?: string }
        resolve({ status: response.statusCode ?? 0, reason, retryAfterS: Number(response.headers['retry-after']) })
      })
      sent.on('error', reject)
      sent.end(body)
    })
}

/** Floods until `stop`, on every connection as fast as it is answered. */
function flood(send: (body: string) => Promise<Reply>, connections: number, body: (n: number) => string) {
  const replies: Reply[] = []
  let isOver = false
  let n = 0
  const loops = Array.from({ length: connections }, async () => {
    while (!isOver) replies.push(await send(body(n++)))
  })
  return {
    replies,
    async stop() {
      isOver = true
      await Promise.all(loops)
    },
  }
}

const small = (n: number) => batch(...Array.from({ length: 20 }, (_, i) => entry({ message: `quiet ${n} ${i}` })))
/** Of about so many bytes. */
const large = (bytes: number) => {
  const message = 'x'.repeat(9_900)
  const text = JSON.stringify(entry({ message, service: 'flood' }))
  const entries = Array(Math.ceil(bytes / text.length))
    .fill(text)
    .join(',')
  return (n: number) => `{"flood":${n},"logs":[${entries}]}`
}

test('G22: a flood by one key over many connections is itself refused; another key is served in the middle of it and gets no 429, whatever its buckets', async t => {
  const s = await startService(t, {
    env: { LOG_INGESTION_INFLIGHT_BYTES_MAX: '16MiB', LOG_INGESTION_BODY_BYTES_MAX: '4MiB' },
  })
  const storm = flood(sender(t, s, writeKey, 40), 40, large(MiB))
  await pollUntil(() => storm.replies.some(({ status }) => status === 429), { what: 'the flood to be too much' })
  const quiet = sender(t, s, quietKey, 4)
  let rows = 0
  for (let round = 0; round < 10; round++) {
    const replies = await Promise.all([0, 1, 2, 3].map(i => quiet(small(round * 4 + i))))
    assert.deepEqual(
      replies.map(({ status }) => status),
      [202, 202, 202, 202],
      JSON.stringify(replies),
    )
    rows += 4 * 20
  }
  await storm.stop()
  const refused = storm.replies.filter(({ status }) => status === 429)
  assert.ok(refused.every(({ reason, retryAfterS }) => reason === 'INFLIGHT' && retryAfterS >= 1))
  assert.ok(storm.replies.every(({ status }) => status === 202 || status === 429))
  await s.settled()
  const [stored] = await s.sql<{ rows: bigint }[]>`SELECT count(*) AS rows FROM logs WHERE service = 'shop'`
  assert.equal(stored?.rows, BigInt(rows))
})

test('G22: a journal that fills while the database is away keeps room for others than the one who floods it', async t => {
  const { url, sql } = await testDatabase(t)
  const proxy = await tcpProxy(t, url)
  const s = await startService(t, { databaseUrl: proxy.url, env: { LOG_INGESTION_JOURNAL_BYTES_MAX: '16MiB' } })
  proxy.down()
  const send = sender(t, s, writeKey, 8)
  const storm = flood(send, 8, large(MiB / 4))
  const isFull = ({ status, reason }: Reply) => status === 429 && reason === 'JOURNAL_FULL'
  await pollUntil(() => storm.replies.some(isFull), { what: 'the flood to have its share' })
  const quiet = sender(t, s, quietKey, 2)
  for (let i = 0; i < 50; i++) assert.equal((await quiet(small(i))).status, 202)
  await storm.stop()
  const last = await send(large(MiB / 4)(0))
  assert.deepEqual([isFull(last), last.retryAfterS >= 1], [true, true], 'the flood is still refused')
  proxy.up()
  const accepted = storm.replies.filter(({ status }) => status === 202).length
  await s.settled()
  const count = `SELECT count(*) AS rows FROM logs WHERE service =`
  const rowsOf = async (service: string) =>
    Number((await sql.unsafe<{ rows: bigint }[]>(`${count} '${service}'`))[0]?.rows)
  assert.equal(await rowsOf('shop'), 50 * 20)
  assert.equal(await rowsOf('flood'), accepted * (large(MiB / 4)(0).split('"message"').length - 1))
})
