// Usage as billaged hears of it: a real service, a real database, and a receiver that is rude at first.

import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type TestContext, test } from 'node:test'
import { testBase } from '../../../test/kit/base.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { shiftedClock } from './shifted-clock.ts'
import { batch, entry, startService } from './start.ts'

interface Event {
  id: string
  type: string
  source: string
  subject: string
  data: { rows: string; bytes: string }
}

/** Refuses the first `refusals` batches after having read them, as a server does whose answer is lost. */
async function receiver(
  t: TestContext,
  refusals: number,
): Promise<{ url: string; events: Event[]; requests: () => number }> {
  const events: Event[] = []
  let requests = 0
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      events.push(...(JSON.parse(Buffer.concat(chunks).toString()) as Event[]))
      response.writeHead(requests++ < refusals ? 503 : 204).end()
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.after(() => server.close())
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, events, requests: () => requests }
}

test('G45: each tenant’s hour is told once, as soon as it is over and stored, by rows and bytes after redaction', async t => {
  const clock = shiftedClock()
  const billaged = await receiver(t, 1)
  const service = await startService(t, {
    base: testBase(t, { clock }),
    env: { PURSER_BILLAGED_URL: billaged.url, LOG_INGESTION_REDACT_PATTERNS: 'card' },
  })
  // Early in an hour, so that the test stays in it.
  const hourMs = 3_600_000
  clock.advance(hourMs - (clock.now() % hourMs) + 60_000)
  const hour = new Date(clock.now()).toISOString().slice(0, 13)
  const now = () => new Date(clock.now()).toISOString()
  const send = async (key: string, ...messages: string[]) => {
    const entries = messages.map(message => entry({ timestamp: now(), message, metadata: { password: 'gone', é: 1 } }))
    assert.equal((await service.post('/api/v1/logs/batch', batch(...entries), { 'x-api-key': key })).status, 202)
  }
  const bytes = (...messages: string[]) =>
    messages.reduce((sum, message) => sum + Buffer.byteLength(`shopINFO${message}{"é":1}`), 0)

  await send('test-write-key', 'ü', 'card 4111111111111111')
  await send('acme-write-key', 'three')
  await service.settled()
  await service.restart()
  await send('test-write-key', 'after a restart')
  await service.settled()
  assert.equal(billaged.events.length, 0, 'the hour is not over')

  clock.advance(hourMs - (clock.now() % hourMs) + 6_000)
  const known = () => new Map(billaged.events.map(event => [`${event.source} ${event.id}`, event]))
  await pollUntil(() => known().size === 2 && billaged.requests() === 2, { what: 'both tenants, after a lost answer' })
  const replicas = await service.sql<
    { replica: string }[]
  >`select distinct replica::text as replica from purser_logs.usage_hours`
  assert.equal(replicas.length, 1)
  const told = () =>
    [...known().values()]
      .sort((a, b) => (a.id < b.id ? -1 : 1))
      .map(({ id, type, subject, data }) => ({ id, type, subject, data }))
  const expected = [
    ['acme', '1', bytes('three')],
    ['public', '3', bytes('ü', 'card [redacted:card]', 'after a restart')],
  ].map(([tenant, rows, size]) => ({
    id: `${tenant}/${hour}/${replicas[0]?.replica}`,
    type: 'purser.logs.ingested.v1',
    subject: tenant,
    data: { rows, bytes: String(size) },
  }))
  assert.deepEqual(told(), expected)

  // Another round, another life, another hour without entries: nothing is told again.
  await service.restart()
  clock.advance(hourMs)
  await send('acme-write-key', 'of another hour')
  await service.settled()
  clock.advance(hourMs)
  await pollUntil(() => known().size === 3, { what: 'the next hour' })
  assert.deepEqual(
    told().filter(event => event.id.includes(hour)),
    expected,
  )
})
