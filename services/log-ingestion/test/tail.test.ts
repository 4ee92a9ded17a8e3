import assert from 'node:assert/strict'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import WebSocket from 'ws'
import { openJournal } from '#platform/journal'
import type { Sql } from '#platform/postgres'
import { testBase } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { TailEntry, TailMessage } from '../api.ts'
import { createTailHub } from '../pipeline/tail-hub.ts'
import { redisServer, whyNoRedis } from './redis-server.ts'
import { openSse, type SseEvent } from './sse.ts'
import { adminKey, batch, entry, startService, type TestService } from './start.ts'

const logs = (events: readonly SseEvent[]) =>
  events.filter(event => event.event === 'log').map(event => JSON.parse(event.data) as TailEntry)

describe('G38: a tail shows entries after their disk ack, in order, tells exactly what is lost, and resumes without repeats; other replicas too', () => {
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
    // Something has to come for the gap to be told before it; as long as the buffers drain, it may be lost as well.
    await pollUntil(
      async () => {
        const isShown = text.includes(`n=${sent - 1} last`)
        if (!isShown) await s.post('/api/v1/logs', JSON.stringify({ log: entry({ message: `n=${sent++} last` }) }))
        return isShown
      },
      { what: 'an entry after the gap' },
    )
    const lost = await dropped()
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

  const reader = { 'x-api-key': adminKey }
  const messages = (events: readonly SseEvent[]) => logs(events).map(log => log.message)
  const send = (s: TestService, ...texts: string[]) =>
    s.post('/api/v1/logs/batch', batch(...texts.map(message => entry({ message }))))

  test('Last-Event-ID goes on right behind that entry, in the journal first and then live', async t => {
    const s = await startService(t)
    const first = await openSse(`${s.url}/api/v1/logs/tail?q=-skip`, reader)
    await send(s, 'a', 'b', 'c')
    const seen = await first.until(all => logs(all).length === 3)
    first.close()
    await send(s, 'skip', 'd')
    await s.settled()
    await s.restart()
    await send(s, 'e', 'skip')

    const after = seen[1]?.id ?? ''
    const again = await openSse(`${s.url}/api/v1/logs/tail?q=-skip`, { ...reader, 'last-event-id': after })
    t.after(() => again.close())
    await again.until(all => logs(all).length >= 3)
    await send(s, 'f')
    const events = await again.until(all => logs(all).length >= 4)
    assert.deepEqual(messages(events), ['c', 'd', 'e', 'f'], 'behind b, across a restart, each once')
    assert.ok(events.every(event => event.event !== 'gap'))

    // Nothing of another tenant comes with a position of its journal.
    await s.post('/api/v1/logs', JSON.stringify({ log: entry({ message: 'theirs' }) }), {
      'x-api-key': 'acme-write-key',
    })
    const acme = await openSse(`${s.url}/api/v1/logs/tail?last_event_id=${after}`, { 'x-api-key': 'acme-admin-key' })
    t.after(() => acme.close())
    assert.deepEqual(messages(await acme.until(all => logs(all).length === 1)), ['theirs'])
  })

  test('a reader that comes back again and again under load sees each entry once, in order', async t => {
    const s = await startService(t)
    const total = 300
    let sent = 0
    const sending = (async () => {
      while (sent < total) {
        const texts = Array.from({ length: Math.min(1 + (sent % 7), total - sent) }, () => `n=${sent++}`)
        await send(s, ...texts)
      }
    })()
    const seen: string[] = []
    let last = ''
    const first = await openSse(`${s.url}/api/v1/logs/tail?last_event_id=x`, reader)
    const [begin] = (await first.until(all => logs(all).length > 0)).filter(event => event.event === 'log')
    first.close()
    seen.push((JSON.parse(begin?.data ?? '') as TailEntry).message)
    last = begin?.id ?? ''
    const lastOfAll = `n=${total - 1}`
    while (!seen.includes(lastOfAll)) {
      const tail = await openSse(`${s.url}/api/v1/logs/tail`, { ...reader, 'last-event-id': last })
      const isEnough = (all: readonly SseEvent[]) => logs(all).length >= 15 || messages(all).includes(lastOfAll)
      const events = (await tail.until(isEnough)).filter(event => event.event === 'log')
      tail.close()
      seen.push(...messages(events))
      last = events.at(-1)?.id ?? last
    }
    await sending
    const firstNumber = Number(seen[0]?.slice(2))
    assert.deepEqual(
      seen,
      Array.from({ length: sent - firstNumber }, (_, i) => `n=${firstNumber + i}`),
    )
  })

  test('a tail that resumes does not show what has expired meanwhile', async t => {
    const s = await startService(t, { env: { LOG_INGESTION_RETENTION: '1h' } })
    const first = await openSse(`${s.url}/api/v1/logs/tail`, reader)
    const old = new Date(Date.now() - 7_200_000).toISOString()
    await send(s, 'a')
    const [seen] = await first.until(all => logs(all).length === 1)
    first.close()
    await s.post('/api/v1/logs/batch', batch(entry({ message: 'expired', timestamp: old }), entry({ message: 'b' })))
    const again = await openSse(`${s.url}/api/v1/logs/tail`, { ...reader, 'last-event-id': seen?.id ?? '' })
    t.after(() => again.close())
    await again.until(all => logs(all).length >= 1)
    await s.post('/api/v1/logs/batch', batch(entry({ message: 'expired', timestamp: old }), entry({ message: 'c' })))
    assert.deepEqual(messages(await again.until(all => messages(all).includes('c'))), ['b', 'c'])
  })

  test('a place that nobody knows is a gap of unknown size, and the tail goes on live', async t => {
    const s = await startService(t)
    for (const id of ['nonsense', '01890a5d-ac96-774b-bcce-b302099a8057:512:0']) {
      const tail = await openSse(`${s.url}/api/v1/logs/tail`, { ...reader, 'last-event-id': id })
      await tail.until(all => all.some(event => event.event === 'gap'))
      await send(s, `after ${id}`)
      const events = await tail.until(all => messages(all).includes(`after ${id}`))
      assert.equal(events[0]?.event, 'gap')
      assert.deepEqual(JSON.parse(events[0]?.data ?? ''), { dropped: null })
      tail.close()
    }
  })

  async function openSocket(t: TestContext, s: TestService, path: string, headers: Record<string, string>) {
    const socket = new WebSocket(`${s.url.replace('http', 'ws')}${path}`, { headers })
    t.after(() => socket.terminate())
    const received: TailMessage[] = []
    socket.on('message', data => received.push(JSON.parse(String(data)) as TailMessage))
    await new Promise((resolve, reject) => {
      socket.once('open', resolve)
      socket.once('error', reject)
    })
    return { socket, received }
  }

  test('WebSocket carries the same JSON, resumes, and is refused like any request', async t => {
    const s = await startService(t)
    const { socket, received } = await openSocket(t, s, '/api/v1/logs/tail?q=a%20OR%20b', reader)
    await send(s, 'a', 'x', 'b')
    await pollUntil(() => received.length === 2, { what: 'two messages', everyMs: 10 })
    const [a, b] = received
    assert.ok(a?.event === 'log' && b?.event === 'log')
    assert.deepEqual([a.data.message, a.data.level, a.data.metadata, b.data.message], ['a', 'INFO', null, 'b'])
    const closed = new Promise<number>(resolve => socket.once('close', resolve))

    const again = await openSocket(t, s, `/api/v1/logs/tail?last_event_id=${a.id}`, reader)
    await pollUntil(() => again.received.length === 2, { what: 'what follows a', everyMs: 10 })
    assert.deepEqual(
      again.received.map(message => message.event === 'log' && message.data.message),
      ['x', 'b'],
    )
    await assert.rejects(openSocket(t, s, '/api/v1/logs/tail', {}), /401/)
    await assert.rejects(openSocket(t, s, '/api/v1/logs/tail?q=)', reader), /400/)
    await assert.rejects(openSocket(t, s, '/api/v1/logs/search', reader), /200/, 'not a place for WebSocket')
    await s.stop()
    assert.equal(await closed, 1001)
  })

  for (const storage of ['rows', 'columnar'])
    test(`what the journal has let go of comes from the store, then the journal, then live: ${storage}`, async t => {
      const s = await startService(t, {
        env: { LOG_INGESTION_STORAGE: storage, LOG_INGESTION_JOURNAL_KEEP_BYTES: '0' },
      })
      const first = await openSse(`${s.url}/api/v1/logs/tail?q=-skip`, reader)
      await send(s, 'a', 'b', 'c')
      const seen = await first.until(all => logs(all).length === 3)
      first.close()
      const segments = async () => (await readdir(join(s.dir, 'journal'))).filter(name => name.endsWith('.journal'))
      const [old = ''] = await segments()
      await s.post('/api/v1/logs/batch', batch(entry({ message: 'theirs' })), { 'x-api-key': 'acme-write-key' })
      await send(s, 'skip', 'd')
      await s.settled()
      await s.restart()
      await send(s, 'e')
      await s.settled()
      await s.restart()
      await pollUntil(async () => !(await segments()).includes(old), { what: 'the journal to let go' })
      await send(s, 'f', 'skip')
      const again = await openSse(`${s.url}/api/v1/logs/tail?q=-skip`, {
        ...reader,
        'last-event-id': seen[1]?.id ?? '',
      })
      t.after(() => again.close())
      await again.until(all => logs(all).length >= 4)
      await send(s, 'g')
      const events = await again.until(all => logs(all).length >= 5)
      assert.deepEqual(messages(events), ['c', 'd', 'e', 'f', 'g'])
      assert.ok(events.every(event => event.event !== 'gap'))
      // An event that came from the store is as good a place as any.
      const d = events.filter(event => event.event === 'log')[1]
      const once = await openSse(`${s.url}/api/v1/logs/tail?q=-skip`, { ...reader, 'last-event-id': d?.id ?? '' })
      t.after(() => once.close())
      assert.deepEqual(messages(await once.until(all => logs(all).length >= 3)), ['e', 'f', 'g'])
    })

  /** Two on one database, with one secret. */
  async function twoReplicas(
    t: TestContext,
    env: Record<string, string> = {},
  ): Promise<[TestService, TestService, Sql]> {
    const { url, sql } = await testDatabase(t)
    const o = { databaseUrl: url, env: { PURSER_SECRET: 'a-secret-that-all-replicas-share', ...env } }
    return [await startService(t, o), await startService(t, o), sql]
  }

  test('entries of other replicas come after their commit; whoever comes back, to either replica, misses and repeats nothing', async t => {
    const [a, b] = await twoReplicas(t)
    const open = (s: TestService, last?: string) =>
      openSse(`${s.url}/api/v1/logs/tail`, { ...reader, ...(last === undefined ? {} : { 'last-event-id': last }) })
    const first = await open(a)
    // Known to be followed from here on.
    await send(b, 'warm up')
    await pollUntil(
      async () => {
        await send(b, 'warm up')
        return first.events.some(event => event.event === 'log')
      },
      { what: 'the first entry of the other replica', everyMs: 200 },
    )
    const seen: string[] = []
    let sent = 0
    const sendBoth = async () => {
      for (let i = 0; i < 5; i++) await send((sent + i) % 2 === 0 ? a : b, `n=${sent + i}`)
      sent += 5
    }
    await sendBoth()
    const isNumber = (text: string) => text.startsWith('n=')
    let events = await first.until(all => messages(all).filter(isNumber).length === 5)
    first.close()
    seen.push(...messages(events).filter(isNumber))
    let last = events.findLast(event => event.event === 'log')?.id ?? ''
    for (const s of [b, a, a, b]) {
      await sendBoth()
      const tail = await open(s, last)
      await sendBoth()
      events = await tail.until(all => logs(all).length >= 7)
      tail.close()
      assert.ok(events.every(event => event.event !== 'gap'))
      // Left in the middle: whatever came since is still to be shown.
      const kept = events.filter(event => event.event === 'log').slice(0, 7)
      seen.push(...messages(kept))
      last = kept.at(-1)?.id ?? ''
    }
    const rest = await open(b, last)
    events = await rest.until(all => seen.length + logs(all).length >= sent)
    rest.close()
    seen.push(...messages(events))
    assert.deepEqual(seen.toSorted(), Array.from({ length: sent }, (_, n) => `n=${n}`).toSorted(), 'each once')
    for (const parity of [0, 1]) {
      const ofOne = seen.map(text => Number(text.slice(2))).filter(n => n % 2 === parity)
      assert.deepEqual(
        ofOne,
        ofOne.toSorted((x, y) => x - y),
        'in the order of acceptance of each replica',
      )
    }
  })

  test('by Redis, entries of other replicas come before their commit, exactly once; without it, after', {
    skip: whyNoRedis,
  }, async t => {
    const redis = await redisServer(t)
    const [a, b, sql] = await twoReplicas(t, { REDIS_URL: redis.url })
    const tail = await openSse(`${a.url}/api/v1/logs/tail?q=-warm`, reader)
    t.after(() => tail.close())
    const warm = await openSse(`${a.url}/api/v1/logs/tail`, reader)
    await pollUntil(
      async () => {
        await send(b, 'warm')
        return warm.events.some(event => event.event === 'log')
      },
      { what: 'the first entry of the other replica', everyMs: 100 },
    )
    warm.close()
    await b.settled()
    // From here on nothing is committed.
    const held = Promise.withResolvers<void>()
    t.after(() => held.resolve())
    const locked = Promise.withResolvers<void>()
    const holding = sql.begin(async tx => {
      await tx`lock table purser_logs.commits in share row exclusive mode`
      locked.resolve()
      await held.promise
    })
    await locked.promise
    await send(b, 'one', 'two')
    await send(a, 'own')
    await send(b, 'three')
    await tail.until(all => messages(all).length >= 4)
    assert.equal((await sql`select 1 from logs where message in ('one', 'two', 'three')`).length, 0)
    await redis.kill()
    await send(b, 'while Redis is away')
    held.resolve()
    await holding
    // Now all of them are in the database, and nothing comes twice.
    await tail.until(all => messages(all).includes('while Redis is away'))
    await send(b, 'end')
    const events = await tail.until(all => messages(all).includes('end'))
    assert.deepEqual(messages(events).toSorted(), ['end', 'one', 'own', 'three', 'two', 'while Redis is away'])
    assert.deepEqual(
      messages(events).filter(text => text !== 'own'),
      ['one', 'two', 'three', 'while Redis is away', 'end'],
    )
    assert.ok(events.every(event => event.event !== 'gap'))
  })

  test('a heartbeat every 15 s, whatever else comes; a hundred tails per replica', async t => {
    const { log } = testBase(t)
    const dir = await mkdtemp(join(tmpdir(), 'purser-tail-'))
    const journal = await openJournal({ dir, bytesMax: 64 * 1024 * 1024, readers: ['writer'], log })
    t.after(async () => {
      await journal.close()
      await rm(dir, { recursive: true, force: true })
    })
    t.mock.timers.enable({ apis: ['setInterval'] })
    const hub = createTailHub({
      journal,
      replica: '01890a5d-ac96-474b-8cce-b302099a8057',
      placeKey: Buffer.alloc(32),
      log,
      end: () => ({ ...journal.end, rows: 0n }),
      stored: () => undefined,
      view: () => ({ fromNs: null, isVisible: null }),
      onDropped: () => {},
    })
    t.after(() => hub.close())
    const beats: string[] = []
    const format = { entry: () => 'entry', gap: () => 'gap', heartbeat: () => 'heartbeat' }
    const sink = { bufferedBytes: () => 0, write: (text: string) => void beats.push(text), drained: async () => {} }
    const subscribe = (key: string) => hub.subscribe({ tenant: 'public', key, query: { kind: 'all' }, format, sink })
    const end = subscribe('0')
    t.mock.timers.tick(14_999)
    assert.deepEqual(beats, [])
    t.mock.timers.tick(1)
    assert.deepEqual(beats, ['heartbeat'])
    t.mock.timers.tick(45_000)
    assert.equal(beats.length, 4)
    for (let n = 1; n < 100; n++) assert.ok(subscribe(String(n % 20)))
    assert.equal(subscribe('another'), undefined)
    end?.()
    assert.ok(subscribe('another'))
  })
})
