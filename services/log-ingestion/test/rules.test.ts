// What tenants set, over HTTP, on a real database: as anybody would use it.

import assert from 'node:assert/strict'
import { createHmac, createPublicKey, verify } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { loadConfig } from '#platform/config'
import { testBase } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { spec } from '../config.ts'
import { newTally } from '../json/metadata.ts'
import { openDeletionMemory } from '../rules/deletion-memory.ts'
import { openRuleBook } from '../rules/rule-book.ts'
import { start } from '../service.ts'
import { shiftedClock } from './shifted-clock.ts'
import { adminKey, batch, entry, startService, type TestService } from './start.ts'

async function call<T = Record<string, unknown>>(
  service: TestService,
  method: string,
  path: string,
  body?: unknown,
  key = adminKey,
): Promise<{ status: number; body: T }> {
  const response = await fetch(service.url + path, {
    method,
    headers: { 'x-api-key': key, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  const text = await response.text()
  return { status: response.status, body: (text === '' ? {} : JSON.parse(text)) as T }
}

async function messages(service: TestService, q: string, key = adminKey): Promise<string[]> {
  const path = `/api/v1/logs/search?q=${encodeURIComponent(q)}&from=-7d&to=now%2B1h&limit=1000&order=asc`
  const { body } = await call<{ logs: { message: string }[] }>(service, 'GET', path, undefined, key)
  return body.logs.map(log => log.message)
}

const ago = (ms: number, now = Date.now()) => new Date(now - ms).toISOString()
const hourMs = 3_600_000
/** Of one wait; a loaded machine needs more than the usual. */
const timeoutMs = 60_000
const dayMs = 24 * hourMs

test('saved searches are made, read, changed and deleted by their tenant alone, and each act is audited', async t => {
  const service = await startService(t)
  const made = await call(service, 'POST', '/api/v1/searches', { name: 'errors', q: 'level>=error', from: '-1h' })
  assert.equal(made.status, 201)
  const { id } = made.body
  assert.equal(made.body.q, 'level>=error')

  assert.equal((await call(service, 'POST', '/api/v1/searches', { name: 'errors', q: '' })).body.reason, 'NAME_TAKEN')
  const bad = await call(service, 'POST', '/api/v1/searches', { name: 'x', q: 'level:loud' })
  assert.equal(bad.body.reason, 'BAD_PARAMETER')
  assert.match(String(bad.body.detail), /^q: "loud" is not a level/)
  for (const [path, body, detail] of [
    ['searches', { name: 'x', q: '', n: 1 }, 'body: "n" is not known here; leave it out'],
    ['searches', { name: 'x' }, 'q: is needed: it must be a text'],
    ['searches', { name: 'x', q: 5 }, 'q: must be a text'],
    ['alerts', { name: 'x', q: '', window: '5m' }, 'kind: is needed: it must be one of count, absence, rate'],
    ['alerts', { name: 'x', q: '', window: '5m', kind: 'often' }, 'kind: must be one of count, absence, rate'],
    ['retention', {}, 'keep: is needed: it must be a text'],
  ] as const)
    assert.equal((await call(service, 'POST', `/api/v1/${path}`, body)).body.detail, detail)

  const other = 'acme-admin-key'
  assert.equal((await call(service, 'GET', `/api/v1/searches/${id}`, undefined, other)).status, 404)
  assert.equal((await call(service, 'DELETE', `/api/v1/searches/${id}`, undefined, other)).status, 404)
  assert.equal((await call(service, 'PUT', `/api/v1/searches/${id}`, { name: 'x', q: '' }, other)).status, 404)
  assert.deepEqual((await call(service, 'GET', '/api/v1/searches', undefined, other)).body, { searches: [] })
  assert.equal((await call(service, 'POST', '/api/v1/searches', { name: 'x', q: '' }, 'test-write-key')).status, 403)

  const changed = await call(service, 'PATCH', `/api/v1/searches/${id}`, { q: 'level:warn', from: null })
  assert.deepEqual([changed.body.name, changed.body.q, changed.body.from], ['errors', 'level:warn', undefined])
  assert.equal((await call(service, 'DELETE', `/api/v1/searches/${id}`)).status, 204)
  assert.equal((await call(service, 'GET', `/api/v1/searches/${id}`)).status, 404)

  const audit = await service.sql<{ body: string }[]>`select body::text as body from tenancy.audit order by seq`
  const acts = audit.map(row => JSON.parse(row.body) as { action: string }).map(({ action }) => action)
  assert.deepEqual(
    acts.filter(action => action.startsWith('logs.')),
    ['logs.saved-search.create', 'logs.saved-search.update', 'logs.saved-search.delete'],
  )
})

test('limits are told to whoever asks for them, per tenant and per key', async t => {
  const service = await startService(t)
  const tenant = await call(service, 'POST', '/api/v1/limits', { rows_per_second: 100 })
  assert.equal(tenant.status, 201)
  assert.equal((await call(service, 'POST', '/api/v1/limits', { key: 'app', burst: 5 })).status, 201)
  assert.equal((await call(service, 'POST', '/api/v1/limits', { burst: 9 })).body.reason, 'NAME_TAKEN')
  assert.match(String((await call(service, 'POST', '/api/v1/limits', { key: 'b' })).body.detail), /at least one of/)
  const { body } = await call<{ limits: { name: string }[] }>(service, 'GET', '/api/v1/limits')
  assert.deepEqual(
    body.limits.map(limit => limit.name),
    ['key app', 'tenant'],
  )
})

test('G43: keys at any depth and patterns, built in and own, reach neither journal, database, log nor metric; each is counted, and a preview shows the effect', async t => {
  const lines: string[] = []
  const service = await startService(t, {
    base: testBase(t, { lines }),
    env: {
      LOG_INGESTION_REDACT_KEYS: 'iban',
      LOG_INGESTION_REDACT_PATTERNS: 'card,bearer,jwt,aws,order=ORD-[0-9]+',
      LOG_INGESTION_SELF_LOGS: 'true',
    },
  })
  const rule = { name: 'Mail', patterns: ['email'], keys: ['pin'] }
  assert.equal((await call(service, 'POST', '/api/v1/redaction', rule, 'acme-admin-key')).status, 201)
  assert.match(
    String((await call(service, 'POST', '/api/v1/redaction', { name: 'x', pattern: '(?=a)' })).body.detail),
    /^pattern: not a regular/,
  )
  assert.match(
    String((await call(service, 'POST', '/api/v1/redaction', { name: 'x', patterns: ['iban'] })).body.detail),
    /card, bearer/,
  )

  const token = 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl'
  const hidden = ['s3cr3t-t0ken-1', token, 'AKIAIOSFODNN7EXAMPLE', 'hunter2-nested', 'DE00-iban']
  const secrets = ['4111 1111 1111 1111', 'joe@secret.example', 'ORD-12345', 'pin-9876', ...hidden]
  const sent = batch(
    entry({
      message: `paid ${secrets[0]} by ${secrets[1]} for ${secrets[2]}`,
      metadata: { who: secrets[1], pin: secrets[3], ok: [{ deep: { 'Pass-Word': hidden[3], i_ban: hidden[4] } }] },
    }),
    entry({
      message: `Authorization: Bearer ${hidden[0]}; ${hidden[1]} ${hidden[2]}`,
      metadata: { list: hidden.slice(1, 3) },
    }),
  )
  const send = () => service.post('/api/v1/logs/batch', sent, { 'x-api-key': 'acme-write-key' })
  assert.equal((await send()).status, 202)
  const lines202 = await service.post('/api/v1/logs/ndjson', `{"message":"m ${secrets[1]}","pin":"${secrets[3]}"}\n`, {
    'x-api-key': 'acme-write-key',
  })
  assert.equal(lines202.status, 202)
  await service.settled()
  assert.deepEqual(await messages(service, 'service:*', 'acme-admin-key'), [
    'paid [redacted:card] by [redacted:email] for [redacted:order]',
    'Authorization: [redacted:bearer]; [redacted:jwt] [redacted:aws]',
    'm [redacted:email]',
  ])

  const shown = await call(service, 'POST', '/api/v1/redaction/preview', {
    message: 'a@b.example X-1',
    metadata: { card: '5500000000000004', password: 'p' },
    rule: { name: 'X', pattern: 'X-\\d' },
  })
  assert.deepEqual(shown.body, {
    message: 'a@b.example [redacted:x]',
    metadata: { card: '[redacted:card]' },
    redactions: { x: 1, card: 1, password: 1 },
  })

  // A start without the database knows the rule.
  const book = await openRuleBook({
    defaultKeepMs: () => null,
    settings: () => ({ redactKeys: [], redactPatterns: [] }),
    file: join(service.dir, 'redaction-rules.json'),
    deletions: await openDeletionMemory({ file: join(service.dir, 'deletions.json'), ...service.base }),
    onOlderDatabase: () => {},
    clock: service.base.clock,
    log: service.base.log,
  })
  t.after(() => book.close())
  assert.equal(book.redactionOf('acme')?.texts?.replace(`to ${secrets[1]}`, newTally()), 'to [redacted:email]')
  assert.equal(book.redactionOf('public'), undefined)

  const written = await bytesUnder(service.dir)
  const metrics = await (await service.get('/metrics')).text()
  const counted = { card: 1, email: 3, order: 1, bearer: 1, jwt: 2, aws: 2, pin: 2, password: 1, iban: 1 }
  for (const [rule, count] of Object.entries(counted))
    assert.match(metrics, new RegExp(`^log_ingestion_redactions_total\\{rule="${rule}"[^}]*\\} ${count}$`, 'm'))
  const table = JSON.stringify(await service.sql`select message, metadata::text from public.logs`)
  for (const secret of secrets) {
    assert.equal(written.includes(secret), false, `${secret} is on disk`)
    assert.equal(lines.join('').includes(secret), false, `${secret} is in the log`)
    assert.equal(metrics.includes(secret) || table.includes(secret), false)
  }
  assert.ok(written.includes('paid [redacted:card]'))
})

async function bytesUnder(dir: string): Promise<Buffer> {
  const files = (await readdir(dir, { recursive: true, withFileTypes: true })).filter(file => file.isFile())
  return Buffer.concat(await Promise.all(files.map(file => readFile(join(file.parentPath, file.name)))))
}

const storages = ['rows', 'columnar']

/** What is on disk of either storage, seen or not. */
async function storedRows({ sql }: TestService): Promise<number> {
  const [row] = await sql<{ rows: bigint }[]>`
    select (select count(*) from public.logs) + (select coalesce(sum(rows), 0) from purser_logs.blocks)::int8 as rows`
  return Number(row?.rows)
}

test('a reload applies retention and redaction to what comes next, and drops no connection', async t => {
  const { url } = await testDatabase(t)
  const dir = await mkdtemp(join(tmpdir(), 'purser-logs-'))
  const load = (more: Record<string, string>) => {
    const env = {
      LOG_INGESTION_SERVER_HOST: '127.0.0.1',
      LOG_INGESTION_SERVER_PORT: '0',
      LOG_INGESTION_DATA_DIR: dir,
      LOG_INGESTION_DATABASE_URL: url,
      LOG_INGESTION_ADMIN_API_KEYS: adminKey,
      LOG_INGESTION_BATCH_FLUSH_INTERVAL: '20ms',
      LOG_INGESTION_SELF_LOGS: 'false',
      ...more,
    }
    const loaded = loadConfig(spec, { env })
    assert.ok(loaded.ok)
    return loaded.config
  }
  const running = await start(load({}), testBase(t))
  t.after(async () => {
    await running.close()
    await rm(dir, { recursive: true, force: true })
  })
  const ask = (path: string, body?: string) =>
    fetch(running.url + path, {
      headers: { 'x-api-key': adminKey },
      ...(body === undefined ? {} : { method: 'POST', body }),
    })
  const sent = (message: string) =>
    batch(
      entry({ timestamp: ago(3 * dayMs), message: 'old' }),
      entry({ message, metadata: { pin: 1, mail: 'a@b.example' } }),
    )
  assert.equal((await ask('/api/v1/logs/batch', sent('first'))).status, 202)
  await running.reload?.(
    load({ LOG_INGESTION_REDACT_PATTERNS: 'email', LOG_INGESTION_REDACT_KEYS: 'pin', LOG_INGESTION_RETENTION: '2d' }),
  )
  assert.equal((await ask('/api/v1/logs/batch', sent('second'))).status, 202)
  const found = await pollUntil(
    async () => {
      const answer = await ask('/api/v1/logs/search?from=-7d&to=now%2B1h&order=asc')
      const { logs } = (await answer.json()) as { logs: { message: string; metadata: object }[] }
      return logs.length >= 2 && logs
    },
    { timeoutMs, what: 'both requests to be stored' },
  )
  assert.deepEqual(
    found.map(({ message, metadata }) => [message, metadata]),
    [
      ['first', { pin: 1, mail: 'a@b.example' }],
      ['second', { mail: '[redacted:email]' }],
    ],
  )
})

test('G42: a deletion counts before it acts, hides at once, survives restarts, spares what came later, and leaves a signed tombstone', {
  concurrency: 4,
}, async t => {
  await Promise.all(storages.map(storage => t.test(storage, t => deletes(t, storage))))
})

async function deletes(t: TestContext, storage: string): Promise<void> {
  const clock = shiftedClock()
  const service = await startService(t, { base: testBase(t, { clock }), env: { LOG_INGESTION_STORAGE: storage } })
  const of = (n: number, user: string) =>
    Array.from({ length: n }, (_, i) =>
      entry({ timestamp: ago(i * 7_000, clock.now()), message: `${user} did ${i}`, metadata: { user } }),
    )
  await service.post('/api/v1/logs/batch', batch(...of(5_000, 'joe'), ...of(20, 'ann')))
  await service.post('/api/v1/logs/batch', batch(...of(3, 'joe')), { 'x-api-key': 'acme-write-key' })
  await service.settled()
  const [range] = [{ q: 'user:joe', from: ago(2 * dayMs, clock.now()), to: ago(-dayMs, clock.now()) }]
  const countJoe = async () => (await messages(service, 'user:joe')).length

  const dry = await call(service, 'POST', '/api/v1/logs/delete', { ...range, dry_run: true })
  assert.equal(dry.body.rows, '5000')
  assert.equal(await countJoe(), 1_000, 'nothing is hidden by asking')
  assert.match(String((await call(service, 'POST', '/api/v1/logs/delete', range)).body.detail), /^reason: /)
  assert.equal((await call(service, 'POST', '/api/v1/logs/delete', range, 'test-write-key')).status, 403)

  clock.advance(1)
  const started = await call<{ id: string; state: string }>(service, 'POST', '/api/v1/logs/delete', {
    ...range,
    reason: 'Article 17',
  })
  assert.equal(started.status, 202)
  assert.equal(started.body.state, 'running')
  assert.equal(await countJoe(), 0, 'hidden by the time of the answer')
  // The watermark does not move until the clock does: the job is still running over the restart.
  await service.restart()
  await pollUntil(async () => (await service.get('/api/v1/logs/search?q=x')).status === 200, {
    timeoutMs,
    what: 'reads',
  })
  assert.equal(await countJoe(), 0, 'and after a restart')
  await service.post(
    '/api/v1/logs/batch',
    batch(entry({ timestamp: ago(60_000, clock.now()), message: 'joe again', metadata: { user: 'joe' } })),
  )
  await service.settled()
  assert.deepEqual(await messages(service, 'user:joe'), ['joe again'])

  clock.advance(60_000)
  const path = `/api/v1/deletions/${started.body.id}`
  const done = await pollUntil(
    async () => {
      const { body } = await call<{ state: string; rows: string; tombstone: Tombstone }>(service, 'GET', path)
      return body.state === 'done' && body
    },
    { timeoutMs, what: 'the deletion to end' },
  )
  assert.equal(done.rows, '5000')
  const { body, signature, public_key } = done.tombstone
  const key = createPublicKey({ key: Buffer.from(public_key, 'base64'), format: 'der', type: 'spki' })
  assert.ok(verify(null, Buffer.from(body), key, Buffer.from(signature, 'base64')))
  const stone = JSON.parse(body) as Record<string, unknown>
  assert.deepEqual(
    [stone.tenant, stone.reason, stone.rows, (stone.filter as { q: string }).q],
    ['public', 'Article 17', '5000', 'user:joe'],
  )
  assert.notEqual(stone.hash_before, stone.hash_after)
  assert.equal(body.includes('did'), false)

  assert.deepEqual(await messages(service, 'user:joe'), ['joe again'])
  assert.equal((await messages(service, 'user:ann')).length, 20)
  assert.equal((await messages(service, 'user:joe', 'acme-admin-key')).length, 3)
  const [counted] = await service.sql<{ deleted: bigint; total: bigint }[]>`
    select (select sum(deleted)::int8 from purser_logs.ledger) as deleted,
           (select sum(rows)::int8 from purser_logs.totals) as total`
  assert.deepEqual(counted, { deleted: 5_000n, total: 24n })
  assert.equal(await storedRows(service), 24)
  assert.equal((await call(service, 'GET', path, undefined, 'acme-admin-key')).status, 404)
}

interface Tombstone {
  body: string
  signature: string
  public_key: string
}

// Alerts

const g40 = new Map<string, (t: TestContext) => Promise<void>>()

interface Received {
  headers: IncomingHttpHeaders
  body: string
  path: string
}

/** A real receiver; `answers` are given in turn, then 204. */
async function receiver(t: TestContext, answers: number[] = []): Promise<{ url: string; received: Received[] }> {
  const received: Received[] = []
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      received.push({ headers: request.headers, body: Buffer.concat(chunks).toString(), path: request.url ?? '' })
      const status = answers.shift() ?? 204
      response.writeHead(status, status === 302 ? { Location: '/redirected' } : {}).end()
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.after(() => server.close())
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, received }
}

g40.set('an alert fires and ends by webhook, signed, retried under one delivery id, whoever evaluates it', async t => {
  const clock = shiftedClock()
  const service = await startService(t, { base: testBase(t, { clock }) })
  const hook = await receiver(t, [500, 302])
  const rule = {
    name: 'errors',
    q: 'level>=error',
    kind: 'count',
    threshold: 3,
    window: '1m',
    every: '10s',
    for: '20s',
    webhook: { url: `${hook.url}/hook` },
  }
  const made = await call<{ id: string; webhook_secret: string }>(service, 'POST', '/api/v1/alerts', rule)
  assert.equal(made.status, 201)
  const burst = () =>
    service.post(
      '/api/v1/logs/batch',
      batch(...[1, 2, 3].map(i => entry({ timestamp: ago(i * 1_000, clock.now()), level: 'ERROR' }))),
    )
  const state = async () => (await call<{ state: string }>(service, 'GET', `/api/v1/alerts/${made.body.id}`)).body.state

  await burst()
  await service.settled()
  clock.advance(20_000)
  await pollUntil(async () => (await state()) === 'pending', { timeoutMs, what: 'the rule to be pending' })
  assert.equal(hook.received.length, 0)
  clock.advance(20_000)
  await pollUntil(() => hook.received.length === 1, { timeoutMs, what: 'the first attempt' })
  // Refused once and redirected once; the clock brings the time of the next attempt.
  for (const attempts of [2, 3]) {
    await pollUntil(
      () => {
        clock.advance(1_000)
        return hook.received.length >= attempts
      },
      { timeoutMs, what: `attempt ${attempts}`, everyMs: 200 },
    )
  }
  assert.equal(
    hook.received.some(({ path }) => path === '/redirected'),
    false,
  )
  const [first, , third] = hook.received
  assert.ok(first && third)
  assert.equal(first.headers['x-purser-delivery'], third.headers['x-purser-delivery'])
  assert.equal(first.body, third.body)
  const { state: told, previous, value, rule: shown } = JSON.parse(third.body) as Record<string, unknown>
  assert.deepEqual([told, previous, value, (shown as { name: string }).name], ['firing', 'ok', '3', 'errors'])
  const [, t1, v1] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(String(third.headers['x-purser-signature'])) ?? []
  assert.equal(createHmac('sha256', made.body.webhook_secret).update(`${t1}.${third.body}`).digest('hex'), v1)

  clock.advance(90_000)
  await pollUntil(() => hook.received.length >= 4, { timeoutMs, what: 'the end of the alert' })
  assert.equal((JSON.parse(hook.received[3]?.body ?? '{}') as { state: string }).state, 'ok')
  const { body } = await call<{ events: { state: string }[]; deliveries: { state: string; attempts: number }[] }>(
    service,
    'GET',
    `/api/v1/alerts/${made.body.id}/timeline`,
  )
  assert.deepEqual(
    body.events.map(event => event.state),
    ['ok', 'firing', 'pending'],
  )
  assert.deepEqual(
    body.deliveries.map(delivery => delivery.attempts),
    [1, 3],
  )
})

g40.set('entries that wait in the journal hold a verdict back, and then the rule says that it is stalled', async t => {
  const clock = shiftedClock()
  const service = await startService(t, { base: testBase(t, { clock }) })
  const hook = await receiver(t)
  const rule = {
    name: 'heartbeat',
    q: 'beat',
    kind: 'absence',
    window: '1m',
    every: '10s',
    webhook: { url: hook.url, format: 'slack' },
  }
  await service.post('/api/v1/logs/batch', batch(entry({ timestamp: ago(25_000, clock.now()), message: 'beat' })))
  await service.settled()
  const { body } = await call<{ id: string }>(service, 'POST', '/api/v1/alerts', rule)
  clock.advance(15_000)
  const seen = async () =>
    (await call<{ state: string; evaluated_to: string | null }>(service, 'GET', `/api/v1/alerts/${body.id}`)).body
  await pollUntil(async () => (await seen()).evaluated_to !== null, { timeoutMs, what: 'a first verdict' })
  assert.equal((await seen()).state, 'ok')
  // Another replica, which has not stored what it accepted: silence here proves nothing.
  await service.sql`insert into purser_logs.replicas values (gen_random_uuid(), ${new Date(clock.now()).toISOString()}, now())`
  clock.advance(4 * 60_000)
  await pollUntil(
    async () => {
      const [row] = await service.sql<{ found: boolean }[]>`
        select exists(select from purser_logs.replicas where watermark > ${new Date(clock.now() - 1_000).toISOString()}) as found`
      return row?.found
    },
    { timeoutMs, what: 'this replica to have moved on' },
  )
  assert.equal(hook.received.length, 0)
  clock.advance(2 * 60_000)
  await pollUntil(() => hook.received.length === 1, { timeoutMs, what: 'word that it is stalled' })
  assert.match(hook.received[0]?.body ?? '', /heartbeat \(public\): stalled/)
  await service.sql`delete from purser_logs.replicas where watermark < ${new Date(clock.now() - 60_000).toISOString()}`
  await pollUntil(() => hook.received.length === 3, { timeoutMs, what: 'the verdicts on what was held back' })
  assert.match(hook.received[1]?.body ?? '', /resolved, 1 entries in 1m/)
  assert.match(hook.received[2]?.body ?? '', /FIRING, 0 entries in 1m/)
})

g40.set('a webhook never reaches a denied network, by address, by name or behind another spelling', async t => {
  const service = await startService(t, { env: { LOG_INGESTION_WEBHOOK_DENY: '127.0.0.0/8,::1,169.254.0.0/16' } })
  const hook = await receiver(t)
  const port = new URL(hook.url).port
  for (const host of ['127.0.0.1', 'localhost', '[::ffff:127.0.0.1]', '[::ffff:7f00:1]', '2130706433', '0x7f.1']) {
    const rule = {
      name: host,
      q: '',
      kind: 'count',
      threshold: 1,
      window: '1m',
      webhook: { url: `http://${host}:${port}/` },
    }
    const made = await call<{ id: string }>(service, 'POST', '/api/v1/alerts', rule)
    assert.equal(made.status, 201)
    const tried = await call<{ delivered: boolean; problem: string }>(
      service,
      'POST',
      `/api/v1/alerts/${made.body.id}/test`,
    )
    assert.equal(tried.body.delivered, false, host)
    assert.match(tried.body.problem, /WEBHOOK_DENY/, host)
  }
  assert.equal(hook.received.length, 0)
  const none = await call<{ id: string }>(service, 'POST', '/api/v1/alerts', {
    name: 'n',
    q: '',
    kind: 'absence',
    window: '1m',
  })
  assert.equal((await call(service, 'POST', `/api/v1/alerts/${none.body.id}/test`)).body.reason, 'WEBHOOK_MISSING')
})

g40.set('a sample can be sent, and a back-test shows when a rule would have fired', async t => {
  const service = await startService(t)
  const hook = await receiver(t)
  const rule = {
    name: 'errors',
    q: 'level:error',
    kind: 'count',
    threshold: 2,
    window: '10m',
    every: '5m',
    webhook: { url: hook.url, format: 'alertmanager' },
  }
  const made = await call<{ id: string }>(service, 'POST', '/api/v1/alerts', rule)
  const tried = await call<{ delivered: boolean }>(service, 'POST', `/api/v1/alerts/${made.body.id}/test`)
  assert.equal(tried.body.delivered, true)
  const [alert] = JSON.parse(hook.received[0]?.body ?? '[]') as { labels: Record<string, string>; startsAt: string }[]
  assert.equal(alert?.labels.alertname, 'errors')
  assert.equal(alert?.labels.test, 'true')

  const at = Math.floor(Date.now() / 300_000) * 300_000 - 3 * dayMs
  await service.post(
    '/api/v1/logs/batch',
    batch(...[1, 2, 3].map(s => entry({ timestamp: new Date(at + s * 1_000).toISOString(), level: 'ERROR' }))),
  )
  await service.settled()
  const { webhook: _, ...asked } = rule
  const { body } = await call<{ firing: number; fired: unknown[]; complete: boolean; series: unknown[] }>(
    service,
    'POST',
    '/api/v1/alerts/preview',
    asked,
  )
  const iso = (ms: number) => new Date(ms).toISOString()
  const plain = JSON.parse(JSON.stringify(body.fired)) as { from: string; to: string; value: string }[]
  assert.deepEqual(
    plain.map(({ from, to, value }) => [iso(Date.parse(from)), iso(Date.parse(to)), value]),
    [[iso(at + 300_000), iso(at + 900_000), '3']],
  )
  assert.equal(body.firing, 1)
  assert.equal(body.complete, true)
  assert.ok(body.series.length > 600 && body.series.length <= 1_000)
})

g40.set('two replicas are one evaluator, and the other takes over', async t => {
  const clock = shiftedClock()
  const { url, sql } = await testDatabase(t)
  const env = { PURSER_SECRET: 'the same on all replicas, 32 bytes and more' }
  const start = () => startService(t, { base: testBase(t, { clock }), databaseUrl: url, env })
  const first = await start()
  const second = await start()
  const hook = await receiver(t)
  const rule = {
    name: 'any',
    q: '',
    kind: 'count',
    threshold: 1,
    window: '1m',
    every: '10s',
    webhook: { url: hook.url },
  }
  const made = await call<{ id: string }>(first, 'POST', '/api/v1/alerts', rule)
  await second.post('/api/v1/logs/batch', batch(entry({ timestamp: ago(1_000, clock.now()) })))
  await second.settled()
  clock.advance(20_000)
  await pollUntil(() => hook.received.length === 1, { timeoutMs, what: 'the alert' })
  const evaluatedTo = async () =>
    Date.parse(
      (await call<{ evaluated_to: string }>(second, 'GET', `/api/v1/alerts/${made.body.id}`)).body.evaluated_to,
    )
  const before = await evaluatedTo()
  clock.advance(20_000)
  await pollUntil(async () => (await evaluatedTo()) >= before + 20_000, { timeoutMs, what: 'further verdicts' })
  assert.equal(hook.received.length, 1)

  const [held] = await sql<
    { holder: string }[]
  >`select holder::text as holder from purser_logs.leases where name = 'alerts'`
  await first.stop()
  clock.advance(60_000)
  await pollUntil(() => hook.received.length === 2, { timeoutMs, what: 'the end, told by the other' })
  const [now] = await sql<
    { holder: string }[]
  >`select holder::text as holder from purser_logs.leases where name = 'alerts'`
  assert.notEqual(now?.holder, held?.holder)
  assert.deepEqual(
    hook.received.map(({ body }) => (JSON.parse(body) as { state: string }).state),
    ['firing', 'ok'],
  )
})

g40.set('a notification that nobody takes is given up after an hour', async t => {
  const clock = shiftedClock()
  const service = await startService(t, { base: testBase(t, { clock }) })
  const hook = await receiver(t, Array<number>(1_000).fill(503))
  const rule = { name: 'silence', q: '', kind: 'absence', window: '10s', every: '10s', webhook: { url: hook.url } }
  const made = await call<{ id: string }>(service, 'POST', '/api/v1/alerts', rule)
  const delivery = async () => {
    const { body } = await call<{ deliveries: { state: string; attempts: number; status: number }[] }>(
      service,
      'GET',
      `/api/v1/alerts/${made.body.id}/timeline`,
    )
    return body.deliveries[0]
  }
  const tried = (attempts: number) => async () => ((await delivery())?.attempts ?? 0) >= attempts
  await pollUntil(tried(1), { timeoutMs, what: 'the first attempt' })
  clock.advance(59 * 60_000)
  await pollUntil(tried(2), { timeoutMs, what: 'an attempt within the hour' })
  assert.equal((await delivery())?.state, 'waiting')
  clock.advance(6 * 60_000)
  await pollUntil(async () => (await delivery())?.state === 'failed', { timeoutMs, what: 'giving up' })
  assert.equal((await delivery())?.status, 503)
})

g40.set(
  'windows are 10 s to 24 h, every 10 s at the shortest; a change of rate is seen against the window before',
  async t => {
    const service = await startService(t)
    const rule = { q: 'x', kind: 'rate', op: '>=', threshold: 100, window: '1h', every: '1h' }
    for (const wrong of [{ window: '9s' }, { window: '25h' }, { every: '9s' }, { threshold: undefined }])
      assert.equal(
        (await call(service, 'POST', '/api/v1/alerts/preview', { ...rule, ...wrong })).body.reason,
        'BAD_PARAMETER',
      )
    const at = Math.floor(Date.now() / hourMs) * hourMs - 2 * dayMs
    const counts = [2, 3, 6, 6]
    const sent = counts.flatMap((count, hour) =>
      Array.from({ length: count }, (_, i) =>
        entry({ timestamp: new Date(at + hour * hourMs + i * 1_000).toISOString(), message: 'x' }),
      ),
    )
    await service.post('/api/v1/logs/batch', batch(...sent))
    await service.settled()
    const { body } = await call<{ fired: { value: string }[] }>(service, 'POST', '/api/v1/alerts/preview', rule)
    assert.deepEqual(
      body.fired.map(({ value }) => value),
      ['new', '100.0'],
    )
  },
)

test('G40: alert rules count, miss and compare; verdicts wait for what is stored; one evaluator tells each change once', {
  concurrency: 4,
}, async t => {
  await Promise.all([...g40].map(([name, prove]) => t.test(name, prove)))
})
