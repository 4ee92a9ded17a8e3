import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import test, { type TestContext } from 'node:test'
import fc from 'fast-check'
import { testBase } from '../../test/kit/base.ts'
import { testDatabase } from '../../test/kit/database.ts'
import { pollUntil } from '../../test/kit/poll.ts'
import { unusedPort } from '../../test/kit/ports.ts'
import type { Sql } from '../postgres.ts'
import { verifyToken } from '../tenancy/token.ts'
import { systemClock } from '../time.ts'
import { type OutboxOptions, openOutbox, type UsageEvent } from './outbox.ts'
import { type Answer, settle } from './post.ts'

const secret = Buffer.alloc(32, 's')

interface Received {
  id: string
  source: string
  data: Record<string, unknown>
}

/** A billaged of few lines: keeps events by (source, id), answers as told. */
interface Receiver {
  url: string
  /** Every post, as sent. */
  batches: Received[][]
  stored: Map<string, Received>
  /** For the next posts in turn, then 204. `refuse` sees the batch. */
  script: ((batch: Received[], res: ServerResponse) => void)[]
  refuse: (batch: Received[]) => number | undefined
  stop(): Promise<void>
  start(): Promise<void>
}

async function startReceiver(t: TestContext): Promise<Receiver> {
  let server: Server | undefined
  // Its address while it is away must not be somebody else's.
  const port = await unusedPort()
  const receiver: Receiver = {
    url: '',
    batches: [],
    stored: new Map(),
    script: [],
    refuse: () => undefined,
    async stop() {
      server?.close()
      server?.closeAllConnections()
      server = undefined
    },
    async start() {
      server = createServer((req, res) => void handle(req, res))
      server.listen(port, '127.0.0.1')
      await once(server, 'listening')
      receiver.url = `http://127.0.0.1:${port}`
    },
  }
  const handle = async (req: IncomingMessage, res: ServerResponse) => {
    let text = ''
    for await (const chunk of req.setEncoding('utf8')) text += chunk
    assert.deepEqual([req.method, req.url], ['POST', '/api/v1/events'])
    assert.equal(req.headers['content-type'], 'application/cloudevents-batch+json')
    const token = req.headers.authorization?.replace('Bearer ', '') ?? ''
    assert.equal(verifyToken(secret, token, { audience: 'billaged', clock: systemClock })?.subject, 'usage')
    const batch: Received[] = JSON.parse(text)
    receiver.batches.push(batch)
    const next = receiver.script.shift()
    if (next) return next(batch, res)
    const status = receiver.refuse(batch)
    if (status === undefined) for (const event of batch) receiver.stored.set(`${event.source} ${event.id}`, event)
    res.statusCode = status ?? 204
    if (status !== undefined) res.setHeader('content-type', 'application/problem+json')
    res.end(status === undefined ? undefined : JSON.stringify({ detail: `events[0] of ${batch.length} is bad` }))
  }
  await receiver.start()
  t.after(() => receiver.stop())
  return receiver
}

const answer = (status: number) => (_: Received[], res: ServerResponse) => void res.writeHead(status).end()

const event = (id: string, data: UsageEvent['data'] = { units: '12345678901234567890' }): UsageEvent => ({
  id,
  type: 'purser.test.v1',
  subject: 'acme',
  time: new Date('2026-01-02T03:04:05.678Z'),
  data,
})

async function openTest(t: TestContext, sql: Sql, receiver: Receiver, o: Partial<OutboxOptions> = {}) {
  const { log, clock, registry } = testBase(t)
  const outbox = await openOutbox({
    sql,
    schema: 'owner',
    service: 'test',
    clusterId: 'c1',
    billagedUrl: receiver.url,
    secret,
    log,
    clock,
    registry,
    ...o,
  })
  let isClosed = false
  const close = async () => {
    if (isClosed) return
    isClosed = true
    await outbox.close()
  }
  t.after(close)
  const metric = async (name: string) => Number(new RegExp(`^${name} (.*)$`, 'm').exec(await registry.metrics())?.[1])
  return { ...outbox, close, metric }
}

const rowsLeft = async (sql: Sql) => Number((await sql`select count(*) from owner.usage_outbox`)[0]?.count)

test('an event is sent when its transaction commits and never when it does not', async t => {
  const { sql } = await testDatabase(t)
  const receiver = await startReceiver(t)
  const outbox = await openTest(t, sql, receiver)
  await sql
    .begin(async tx => {
      await outbox.report(tx, [event('rolled back')])
      throw new Error('the business failed')
    })
    .catch(() => {})
  await sql.begin(tx => outbox.report(tx, [event('kept')]))
  await pollUntil(() => receiver.stored.size > 0, { what: 'the event' })
  await outbox.flush()
  assert.deepEqual(receiver.batches, [
    [
      {
        specversion: '1.0',
        id: 'kept',
        source: '/purser/test/c1',
        type: 'purser.test.v1',
        subject: 'acme',
        time: '2026-01-02T03:04:05.678Z',
        datacontenttype: 'application/json',
        data: { units: '12345678901234567890' },
      },
    ],
  ])
  assert.equal(await rowsLeft(sql), 0)
  assert.equal(await outbox.metric('usage_outbox_sent_total'), 1)
  assert.deepEqual(outbox.status(), { status: 'ok' })
})

test('the same event reported again, in one batch or many, is one', async t => {
  const { sql } = await testDatabase(t)
  const receiver = await startReceiver(t)
  await receiver.stop()
  // Two replicas that start at once on an empty database.
  const [outbox, other] = await Promise.all([openTest(t, sql, receiver), openTest(t, sql, receiver)])
  await outbox.report(sql, [event('a'), event('a'), event('b')])
  // Both at once, in opposite orders: neither may wait for the other for ever.
  await Promise.all([
    sql.begin(tx => outbox.report(tx, [event('b'), event('c'), event('a')])),
    sql.begin(tx => other.report(tx, [event('a'), event('c'), event('b')])),
  ])
  assert.equal(await rowsLeft(sql), 3)
  await receiver.start()
  await outbox.flush()
  assert.deepEqual([...receiver.stored.values()].map(({ id }) => id).sort(), ['a', 'b', 'c'])
})

test('billaged away: events wait, health says since when and why, and all arrive when it is back', async t => {
  const { sql } = await testDatabase(t)
  const receiver = await startReceiver(t)
  await receiver.stop()
  const outbox = await openTest(t, sql, receiver)
  await outbox.report(
    sql,
    Array.from({ length: 250 }, (_, i) => event(`e${i}`)),
  )
  await assert.rejects(outbox.flush(), /ECONNREFUSED/)
  assert.equal(outbox.status().status, 'degraded')
  assert.match(outbox.status().detail ?? '', /^250 usage events wait, the oldest for .*ECONNREFUSED/)
  assert.equal(await outbox.metric('usage_outbox_rows'), 250)
  await receiver.start()
  await pollUntil(() => receiver.stored.size === 250, { what: 'all events, without anyone asking' })
  await outbox.flush()
  assert.ok(receiver.batches.every(batch => batch.length <= 100))
  assert.equal(outbox.status().status, 'ok')
  assert.equal(await rowsLeft(sql), 0)
})

for (const status of [401, 408, 429, 500, 503, 302]) {
  test(`an answer of ${status} keeps the events and tries again`, async t => {
    const { sql } = await testDatabase(t)
    const receiver = await startReceiver(t)
    receiver.script.push(answer(status), answer(status))
    const outbox = await openTest(t, sql, receiver)
    await outbox.report(sql, [event('a'), event('b')])
    await pollUntil(() => receiver.stored.size === 2, { what: 'both events' })
    await outbox.flush()
    assert.equal(await rowsLeft(sql), 0)
    assert.equal(await outbox.metric('usage_outbox_dead_total'), 0)
  })
}

test('a lost answer, or a crash between the answer and the delete, sends the same bytes again: one event to billaged', async t => {
  const { sql } = await testDatabase(t)
  const receiver = await startReceiver(t)
  // Stored, but the sender never hears of it.
  receiver.script.push((batch, res) => {
    for (const item of batch) receiver.stored.set(`${item.source} ${item.id}`, item)
    res.socket?.destroy()
  })
  const first = await openTest(t, sql, receiver)
  await first.report(sql, [event('a', { tags: ['x', 'y'], z: true, a: 1.5 }), event('b')])
  await pollUntil(() => receiver.batches.length > 0, { what: 'the first post' })
  await first.close()
  const { length } = receiver.batches
  const second = await openTest(t, sql, receiver)
  await second.flush()
  for (const batch of receiver.batches.slice(length)) assert.deepEqual(batch, receiver.batches[0])
  assert.equal(receiver.stored.size, 2)
  assert.equal(await rowsLeft(sql), 0)
})

test('refused events are kept with the reason, hold up nobody, and can be revived', async t => {
  const { sql } = await testDatabase(t)
  const receiver = await startReceiver(t)
  const isBad = ({ id }: Received) => id.startsWith('bad')
  receiver.refuse = batch => (batch.some(isBad) ? 400 : undefined)
  const outbox = await openTest(t, sql, receiver)
  const events = Array.from({ length: 100 }, (_, i) => event(i === 13 || i === 77 ? `bad${i}` : `good${i}`))
  await sql.begin(tx => outbox.report(tx, events))
  await pollUntil(() => receiver.stored.size === 98, { what: 'the neighbours' })
  await outbox.flush()
  const dead = await sql`select id, dead_status, dead_reason from owner.usage_outbox order by id`
  assert.deepEqual(
    dead.map(row => ({ ...row })),
    ['bad13', 'bad77'].map(id => ({ id, dead_status: 400, dead_reason: '400 events[0] of 1 is bad' })),
  )
  assert.equal(await outbox.metric('usage_outbox_dead_total'), 2)
  assert.equal(await outbox.metric('usage_outbox_dead_rows'), 2)
  assert.match(outbox.status().detail ?? '', /^2 usage events were refused and wait for a person/)

  receiver.refuse = () => undefined
  assert.equal(await outbox.revive(), 2)
  await outbox.flush()
  assert.equal(receiver.stored.size, 100)
  assert.equal(await rowsLeft(sql), 0)
})

test('events on which billaged breaks do not hold up the others', async t => {
  const { sql } = await testDatabase(t)
  const receiver = await startReceiver(t)
  receiver.refuse = batch => (batch.some(({ id }) => id === 'poison') ? 500 : undefined)
  const outbox = await openTest(t, sql, receiver)
  await outbox.report(
    sql,
    Array.from({ length: 40 }, (_, i) => event(i === 0 ? 'poison' : `good${i}`)),
  )
  const flushed = () => outbox.flush().catch(() => {})
  // Asking does not wait for a row's time to retry, which is what this test has no time for.
  await pollUntil(() => flushed().then(() => receiver.stored.size === 39), { what: 'the neighbours' })
  assert.equal(await rowsLeft(sql), 1)
  assert.equal(await outbox.metric('usage_outbox_dead_total'), 0)
})

test('several replicas send side by side and no event is sent by two of them', async t => {
  const { sql } = await testDatabase(t)
  const receiver = await startReceiver(t)
  await receiver.stop()
  const { log, clock, registry } = testBase(t)
  const writer = await openOutbox({
    ...{
      sql,
      schema: 'owner',
      service: 'test',
      clusterId: 'c1',
      billagedUrl: receiver.url,
      secret,
      log,
      clock,
      registry,
    },
  })
  await writer.report(
    sql,
    Array.from({ length: 950 }, (_, i) => event(`e${i}`)),
  )
  await writer.close()
  await receiver.start()
  const [a, b] = await Promise.all([openTest(t, sql, receiver), openTest(t, sql, receiver)])
  await Promise.all([a.flush(), b.flush()])
  await pollUntil(async () => (await rowsLeft(sql)) === 0, { what: 'an empty outbox' })
  assert.equal(receiver.stored.size, 950)
  assert.equal(receiver.batches.flat().length, 950)
})

test('a batch stays below a mebibyte', async t => {
  const { sql } = await testDatabase(t)
  const receiver = await startReceiver(t)
  const outbox = await openTest(t, sql, receiver)
  await outbox.report(
    sql,
    Array.from({ length: 60 }, (_, i) => event(`e${i}`, { text: 'x'.repeat(60_000) })),
  )
  await pollUntil(() => receiver.stored.size === 60, { what: 'all events' })
  assert.ok(receiver.batches.every(batch => JSON.stringify(batch).length <= 1024 * 1024))
  assert.ok(receiver.batches.length <= 6)
  await assert.rejects(outbox.report(sql, [event('large', { text: 'x'.repeat(70_000) })]), RangeError)
})

test('at its cap an event goes into the log whole and is counted; the caller goes on', async t => {
  const { sql } = await testDatabase(t)
  const receiver = await startReceiver(t)
  await receiver.stop()
  const lines: string[] = []
  const { log } = testBase(t, { lines })
  const outbox = await openTest(t, sql, receiver, { rowsMax: 3, log })
  await outbox.report(sql, [event('1'), event('2')])
  await outbox.report(sql, [event('3'), event('4')])
  assert.equal(await rowsLeft(sql), 3)
  assert.equal(await outbox.metric('usage_outbox_lost_total'), 1)
  const [line] = lines.filter(text => text.includes('not stored')).map(text => JSON.parse(text))
  assert.equal(JSON.parse(line.event).id, '4')
})

test('an event that waited too long is buried, not dropped', async t => {
  const { sql } = await testDatabase(t)
  const receiver = await startReceiver(t)
  await receiver.stop()
  const outbox = await openTest(t, sql, receiver, { waitMsMax: 3_600_000 })
  await outbox.report(sql, [event('old'), event('young')])
  await sql`update owner.usage_outbox set created_at = now() - interval '61 minutes' where id = 'old'`
  await assert.rejects(outbox.flush())
  const [dead] = await sql`select id, dead_reason from owner.usage_outbox where dead_at is not null`
  assert.deepEqual({ ...dead }, { id: 'old', dead_reason: 'waited longer than 1h0m0s' })
})

test('text that no database takes does not fail the transaction it rides on', async t => {
  const { sql } = await testDatabase(t)
  const receiver = await startReceiver(t)
  const outbox = await openTest(t, sql, receiver)
  await sql.begin(tx => outbox.report(tx, [event('odd\0', { tag: 'nul \0 half \ud800', list: ['\0'] })]))
  await pollUntil(() => receiver.stored.size === 1, { what: 'the event' })
  assert.deepEqual([...receiver.stored.values()][0]?.data, { tag: 'nul \ufffd half \ufffd', list: ['\ufffd'] })
})

test('without an address nothing is stored and status says that it is off', async t => {
  const { sql } = await testDatabase(t)
  const { log, clock, registry } = testBase(t)
  const outbox = await openOutbox({
    sql,
    schema: 'owner',
    service: 'test',
    clusterId: 'c1',
    secret,
    log,
    clock,
    registry,
  })
  await outbox.report(sql, [event('x')])
  assert.match(outbox.status().detail ?? '', /PURSER_BILLAGED_URL/)
})

test('halving finds exactly the refused rows, asks little, and loses none when a post fails half way', async () => {
  const rows = fc.uniqueArray(fc.nat(500), { maxLength: 100 })
  await fc.assert(
    fc.asyncProperty(
      rows,
      fc.func(fc.integer({ min: 0, max: 9 })),
      fc.option(fc.nat(60)),
      async (ids, dice, failAt) => {
        const all = ids.map(id => ({ event: `${id}` }))
        const isBad = (text: string) => dice(text) === 0
        let posts = 0
        const post = async (events: readonly string[]): Promise<Answer> => {
          if (posts++ === failAt) return { kind: 'failed', isAnswered: false, reason: 'gone', retryAfterMs: 0 }
          return events.some(isBad) ? { kind: 'refused', status: 400, reason: 'bad' } : { kind: 'stored' }
        }
        const { stored, refused, left, failure } = await settle(all, post)
        assert.deepEqual([...stored, ...refused.map(({ row }) => row), ...left].sort(byEvent), all.toSorted(byEvent))
        assert.ok(stored.every(row => !isBad(row.event)) && refused.every(({ row }) => isBad(row.event)))
        assert.equal(failure === undefined, left.length === 0)
        const bad = all.filter(row => isBad(row.event)).length
        assert.ok(posts <= 1 + 2 * bad * Math.ceil(Math.log2(Math.max(2, all.length))))
      },
    ),
  )
})

const byEvent = (a: { event: string }, b: { event: string }) => Number(a.event) - Number(b.event)
