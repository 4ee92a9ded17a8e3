import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { test } from 'node:test'
import type { TailEntry } from '../api.ts'
import { openSse, type SseEvent } from './sse.ts'
import { adminKey, batch, entry, startService } from './start.ts'

const logs = (events: readonly SseEvent[]) =>
  events.filter(event => event.event === 'log').map(event => JSON.parse(event.data) as TailEntry)

test('a tail shows what matches, in the order of acceptance, after the disk and before the database', async t => {
  // Nothing is committed while this test runs.
  const s = await startService(t, { env: { LOG_INGESTION_BATCH_FLUSH_INTERVAL: '1h' } })
  const tail = await openSse(`${s.url}/api/v1/logs/tail?q=${encodeURIComponent('level>=warn -noise')}`, {
    'x-api-key': adminKey,
  })
  t.after(() => tail.close())
  await s.post(
    '/api/v1/logs/batch',
    batch(
      entry({ message: 'a', level: 'warn', metadata: { n: 1 } }),
      entry({ message: 'b' }),
      entry({ message: 'noise', level: 'fatal' }),
      entry({ message: 'c', level: 'error' }),
    ),
  )
  await s.post('/api/v1/logs', JSON.stringify({ log: entry({ message: 'foreign', level: 'error' }) }), {
    'x-api-key': 'acme-write-key',
  })
  await s.post('/api/v1/logs', JSON.stringify({ log: entry({ message: 'd', level: 'error' }) }))
  const events = await tail.until(all => logs(all).length >= 3)
  assert.deepEqual(
    logs(events).map(log => [log.message, log.level, log.metadata]),
    [
      ['a', 'WARN', { n: 1 }],
      ['c', 'ERROR', null],
      ['d', 'ERROR', null],
    ],
  )
  const ids = events.map(event => event.id)
  assert.equal(new Set(ids).size, 3)
  const [row] = await s.sql<{ count: bigint }[]>`select count(*) from logs`
  assert.equal(row?.count, 0n)
})

test('a slow reader is told the exact number of entries it lost, where it lost them', async t => {
  const s = await startService(t, { env: { LOG_INGESTION_BATCH_FLUSH_INTERVAL: '1h' } })
  const socket = connect(Number(new URL(s.url).port), '127.0.0.1')
  t.after(() => socket.destroy())
  let text = ''
  socket.setEncoding('utf8').on('data', chunk => {
    text += chunk
  })
  socket.write(`GET /api/v1/logs/tail HTTP/1.1\r\nHost: x\r\nX-API-Key: ${adminKey}\r\n\r\n`)
  await new Promise<void>(resolve => socket.once('data', () => resolve()))
  socket.pause()

  // More than the reader's buffer, ours and the kernel's together.
  const filler = 'x'.repeat(9_000)
  let sent = 0
  const dropped = async () =>
    Number(/tail_dropped_rows_total (\d+)/.exec(await (await fetch(`${s.url}/metrics`)).text())?.[1] ?? 0)
  while ((await dropped()) === 0) {
    await s.post(
      '/api/v1/logs/batch',
      batch(...Array.from({ length: 100 }, () => entry({ message: `n=${sent++} ${filler}` }))),
    )
  }
  socket.resume()
  const lost = await dropped()
  // Something has to come for the gap to be told before it.
  await s.post('/api/v1/logs', JSON.stringify({ log: entry({ message: `n=${sent++} last` }) }))
  await new Promise<void>(resolve => {
    const look = () => text.includes(`n=${sent - 1} last`) && resolve()
    socket.on('data', look)
    look()
  })
  // The chunked transfer coding puts lengths between events; what counts is the sequence of numbers and gaps.
  const seen = [...text.matchAll(/"message":"n=(\d+) |"dropped":(\d+)/g)].map(([, n, gap]) =>
    n === undefined ? { gap: Number(gap) } : Number(n),
  )
  let next = 0
  let told = 0
  for (const item of seen) {
    if (typeof item === 'number') assert.equal(item, next++)
    else {
      next += item.gap
      told += item.gap
    }
  }
  assert.equal(next, sent, 'every entry was shown or counted in a gap at its place')
  assert.equal(told, lost)
})

test('ten tails per key; the eleventh is told so, and closing one makes room', async t => {
  const s = await startService(t)
  const open = () => openSse(`${s.url}/api/v1/logs/tail`, { 'x-api-key': adminKey })
  const tails = await Promise.all(Array.from({ length: 10 }, open))
  t.after(() => {
    for (const tail of tails) tail.close()
  })
  await assert.rejects(open(), /429.*ten live tails per key/)
  assert.match(await (await fetch(`${s.url}/metrics`)).text(), /log_ingestion_tail_subscribers 10/)
})

test('a stop ends tails at once', async t => {
  const s = await startService(t)
  const response = await fetch(`${s.url}/api/v1/logs/tail`, { headers: { 'x-api-key': adminKey } })
  const [text] = await Promise.all([response.text(), s.stop()])
  assert.match(text, /connected/)
})
