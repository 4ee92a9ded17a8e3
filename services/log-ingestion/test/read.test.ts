// Reading over HTTP: search, histogram, entries, receipts, admin, and who may see what.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testBase } from '../../../test/kit/base.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { HistogramAnswer, LogEntry, ProblemAnswer, ReceiptAnswer, SearchAnswer } from '../api.ts'
import { batch, entry, startService, type TestService } from './start.ts'

async function search(
  s: TestService,
  parameters: Record<string, string>,
  headers?: Record<string, string>,
): Promise<SearchAnswer> {
  const response = await s.get(`/api/v1/logs/search?${new URLSearchParams(parameters)}`, headers)
  assert.equal(response.status, 200, await response.clone().text())
  return (await response.json()) as SearchAnswer
}

const agoMs = (ms: number) => new Date(Date.now() - ms).toISOString()
const messages = (answer: { logs: LogEntry[] }) => answer.logs.map(log => log.message)

test('what was sent is found, as it was sent', async t => {
  const s = await startService(t)
  const timestamp = `${agoMs(1_000).slice(0, 19)}.123456789Z`
  const body = `{"logs":[{"timestamp":"${timestamp}","service":"shop","level":"warning","message":"héllo","metadata":{"n":12345678901234567890.10,"a":{"b":[true,null]}}}]}`
  assert.equal((await s.post('/api/v1/logs/batch', body)).status, 202)
  await s.settled()
  const response = await s.get('/api/v1/logs/search?q=n%3E12345678901234567890')
  const text = await response.text()
  assert.match(text, /"n": 12345678901234567890\.10/, 'no digit is lost on the way')
  const { logs, cursor, partial, stats, watermark } = JSON.parse(text) as SearchAnswer
  assert.equal(logs.length, 1)
  const { id, created_at, metadata, ...rest } = logs[0] as LogEntry
  assert.deepEqual(rest, {
    timestamp: timestamp.replace('789Z', 'Z'),
    service: 'shop',
    level: 'WARNING',
    message: 'héllo',
  })
  assert.match(id, /^\d+$/)
  assert.ok(Date.parse(created_at) <= Date.now() && Date.parse(watermark) >= Date.parse(created_at))
  assert.deepEqual([cursor, partial, stats.scanned_blocks], [null, false, 0])

  const one = await s.get(`/api/v1/logs/${id}`)
  assert.deepEqual(((await one.json()) as LogEntry).metadata, metadata)
  assert.equal((await s.get('/api/v1/logs/999999')).status, 404)
  assert.equal((await s.get('/api/v1/logs/x')).status, 404)
})

test('search takes its parameters from the query string or a JSON body, and says what is wrong with them', async t => {
  const s = await startService(t)
  await s.post('/api/v1/logs/batch', batch(entry({ message: 'one' }), entry({ message: 'two', level: 'error' })))
  await s.settled()
  assert.deepEqual(messages(await search(s, { q: 'level>=error', fields: 'message,level' })), ['two'])
  assert.deepEqual((await search(s, { q: 'two', fields: 'message' })).logs, [{ message: 'two' }] as unknown)
  const posted = await s.post('/api/v1/logs/search', JSON.stringify({ q: 'one', limit: 5, from: '-5m' }), {
    'x-api-key': 'test-admin-key',
    'content-type': 'application/json',
  })
  assert.deepEqual(messages((await posted.json()) as SearchAnswer), ['one'])
  for (const [parameters, reason, detail] of [
    [
      'q=level:loud',
      'BAD_QUERY',
      /"loud" is not a level at position 6; expected one of TRACE, .*; for example: level:warn$/,
    ],
    ['limit=1001', 'BAD_PARAMETER', /limit: "1001" is not a whole number from 1 to 1000/],
    ['from=yesterday', 'BAD_PARAMETER', /from: "yesterday" is not a time/],
    ['from=now&to=-1h', 'BAD_PARAMETER', /from: must be before `to`/],
    ['order=up', 'BAD_PARAMETER', /order: "up" is not one of desc, asc/],
    ['fields=id,nope', 'BAD_PARAMETER', /fields: "nope" is not one of/],
    ['timeout=2m', 'BAD_PARAMETER', /longer than the longest taken/],
    ['cursor=abc', 'NOT_FOUND', /does not belong to this search/],
  ] as const) {
    const response = await s.get(`/api/v1/logs/search?${parameters}`)
    const problem = (await response.json()) as ProblemAnswer
    assert.match(response.headers.get('content-type') ?? '', /^application\/problem\+json/)
    assert.equal(problem.reason, reason)
    assert.match(problem.detail, detail)
    assert.equal(problem.error, problem.detail)
  }
})

test('G35: newest first by time and id, cursors that neither repeat nor shift, from inclusive, to exclusive, default the last hour', async t => {
  const s = await startService(t)
  const at = (ms: number) => new Date(1_000 * Math.floor(Date.now() / 1_000) - ms).toISOString()
  const [t1, t2] = [at(60_000), at(120_000)]
  const old = at(3_700_000)
  await s.post(
    '/api/v1/logs/batch',
    batch(
      entry({ timestamp: old, message: 'old' }),
      ...['a', 'b', 'c'].map(message => entry({ timestamp: t2, message })),
      ...['d', 'e', 'f'].map(message => entry({ timestamp: t1, message })),
    ),
  )
  await s.settled()
  const newest = ['f', 'e', 'd', 'c', 'b', 'a']
  assert.deepEqual(messages(await search(s, {})), newest, 'ties by id; older than an hour left out')
  assert.deepEqual(messages(await search(s, { order: 'asc' })), newest.toReversed())
  assert.deepEqual(messages(await search(s, { from: t2, to: t1 })), ['c', 'b', 'a'])
  assert.deepEqual(messages(await search(s, { from: '-2h', q: 'old' })), ['old'])

  // Between two pages entries arrive on both sides of the cursor.
  const first = await search(s, { limit: '2' })
  await s.post(
    '/api/v1/logs/batch',
    batch(entry({ timestamp: at(0), message: 'newer' }), entry({ timestamp: t1, message: 'same time' })),
  )
  await s.settled()
  const seen = messages(first)
  for (let cursor = first.cursor; cursor !== null; ) {
    const page = await search(s, { limit: '2', cursor })
    seen.push(...messages(page))
    cursor = page.cursor
  }
  assert.deepEqual(seen, newest)

  // Bound to the query: another one must not go on from here.
  const other = await s.get(`/api/v1/logs/search?q=x&cursor=${first.cursor}`)
  assert.equal(other.status, 404)
})

test('G36: buckets at UTC multiples of the interval, empty ones too, at most a thousand, and they sum to the count', async t => {
  const s = await startService(t)
  const minute = 60_000
  const to = Math.floor(Date.now() / minute) * minute
  const times = [1, 1, 2, 30, 59, 59.5, 60, 61].map(minutes => to - minutes * minute)
  await s.post(
    '/api/v1/logs/batch',
    batch(
      ...times.map((ms, i) =>
        entry({ timestamp: new Date(ms).toISOString(), level: i % 2 ? 'error' : 'info', message: `m ${i}` }),
      ),
    ),
  )
  await s.settled()
  const histogram = async (parameters: Record<string, string>) => {
    const response = await s.get(`/api/v1/logs/histogram?${new URLSearchParams(parameters)}`)
    return { status: response.status, body: (await response.json()) as HistogramAnswer & ProblemAnswer }
  }
  const [fromText, toText] = [new Date(to - 60 * minute + 30_000).toISOString(), new Date(to).toISOString()]
  for (const q of ['', 'level:error', 'm', 'NOT m', 'missing:x OR m']) {
    const { body } = await histogram({ q, from: fromText, to: toText, interval: '7m', by: 'level' })
    const starts = body.buckets.map(bucket => Date.parse(bucket.time))
    assert.ok(starts.every(start => start % (7 * minute) === 0))
    assert.ok(
      starts.every((start, i) => i === 0 || start - (starts[i - 1] ?? 0) === 7 * minute),
      'no bucket is left out',
    )
    assert.ok(
      (starts[0] ?? 0) <= Date.parse(fromText) && (starts.at(-1) ?? 0) < to && (starts.at(-1) ?? 0) + 7 * minute >= to,
    )
    const { logs } = await search(s, { q, from: fromText, to: toText, limit: '1000' })
    assert.equal(
      body.buckets.reduce((sum, bucket) => sum + Number(bucket.count), 0),
      logs.length,
      q,
    )
    assert.ok(
      body.buckets.every(
        bucket => Object.values(bucket.by ?? {}).reduce((sum, n) => sum + Number(n), 0) === Number(bucket.count),
      ),
    )
  }
  const refused = await histogram({ from: '-1000h', interval: '1m' })
  assert.equal(refused.status, 400)
  const smallest = /the smallest that fits is (\S+)$/.exec(refused.body.detail)?.[1]
  assert.equal(smallest, '2h0m0s')
  const fits = await histogram({ from: '-1000h', interval: smallest ?? '' })
  assert.ok(fits.status === 200 && fits.body.buckets.length <= 1_000)
  assert.ok((await histogram({ from: '-1h' })).body.buckets.length <= 62, 'without an interval, about sixty')
})

test('G13: U+0000 in metadata becomes U+2400, lone surrogates U+FFFD, counted and stored; in messages NUL falls', async t => {
  const s = await startService(t)
  const raw = (message: string, metadata: string) =>
    `{"log":{"timestamp":"${new Date().toISOString()}","service":"s","level":"info","message":"${message}","metadata":${metadata}}}`
  for (const body of [
    raw('a\\u0000b', '{"k\\u0000":{"deep":["x\\u0000y",{"\\u0000":1}]}}'),
    raw('c\\ud800d', '{"s":["\\udfff"]}'),
  ])
    assert.equal((await s.post('/api/v1/logs', body)).status, 202)
  await s.settled()
  const { logs } = await search(s, { order: 'asc' })
  assert.deepEqual(
    logs.map(log => [log.message, log.metadata]),
    [
      ['ab', { 'k\u2400': { deep: ['x\u2400y', { '\u2400': 1 }] } }],
      ['c\ufffdd', { s: ['\ufffd'] }],
    ],
  )
  const metrics = await (await fetch(`${s.url}/metrics`)).text()
  assert.match(metrics, /log_ingestion_sanitized_total\{kind="nul"\} 3/)
  assert.match(metrics, /log_ingestion_sanitized_total\{kind="surrogate"\} 1/)
})

test('nobody sees, by any route or parameter, what belongs to another tenant', async t => {
  const s = await startService(t)
  const acme = { 'x-api-key': 'acme-admin-key' }
  await s.post('/api/v1/logs', JSON.stringify({ log: entry({ message: 'ours' }) }))
  const receipt = (
    await s.post('/api/v1/logs', JSON.stringify({ log: entry({ message: 'theirs', level: 'error' }) }), {
      'x-api-key': 'acme-write-key',
    })
  ).headers.get('x-receipt')
  await s.settled()
  const [ours, theirs] = [await search(s, {}), await search(s, {}, acme)]
  assert.deepEqual([messages(ours), messages(theirs)], [['ours'], ['theirs']])
  const [ourId, theirId] = [ours.logs[0]?.id, theirs.logs[0]?.id]
  for (const path of [
    '/api/v1/logs/search?tenant=acme',
    '/api/v1/logs/search?tenant=acme&q=theirs OR ours',
    '/admin/logs/recent?tenant=acme',
    '/admin/stats?tenant=acme',
    '/api/v1/logs/histogram?tenant=acme&q=theirs&by=service',
  ]) {
    const text = await (await s.get(path)).text()
    assert.ok(!text.includes('theirs') && !/"count":"[1-9]/.test(text), path)
  }
  for (const path of [`/api/v1/logs/${theirId}`, `/admin/logs/${theirId}`, `/api/v1/receipts/${receipt}`])
    assert.equal((await s.get(path)).status, 404, path)
  assert.equal((await s.get(`/api/v1/logs/${ourId}`, acme)).status, 404)
  assert.equal((await s.get(`/api/v1/receipts/${receipt}`, acme)).status, 200)
  const stats = (await (await s.get('/admin/stats', acme)).json()) as {
    stats: { by_level: object; error_count: number }
  }
  assert.deepEqual(stats.stats.by_level, { ERROR: 1 })
  const [columns] = await s.sql<{ count: bigint }[]>`select count(*) from logs where tenant = 'acme'`
  assert.equal(columns?.count, 1n)
})

test('refusals of the query side: no key, wrong key, missing scope', async t => {
  const s = await startService(t)
  const ask = async (headers: Record<string, string>) => {
    const response = await fetch(`${s.url}/api/v1/logs/search`, { headers })
    const { error, reason } = (await response.json()) as ProblemAnswer
    return [response.status, error, reason]
  }
  assert.deepEqual(await ask({}), [401, 'API key is required', 'KEY_REQUIRED'])
  assert.deepEqual(await ask({ 'x-api-key': 'nope' }), [401, 'Invalid API key', 'KEY_INVALID'])
  const [status, error, reason] = await ask({ 'x-api-key': 'test-write-key' })
  assert.deepEqual([status, reason], [403, 'SCOPE_MISSING'])
  assert.match(String(error), /lacks the scope logs:read/)
  const admin = async (headers: Record<string, string>) => (await fetch(`${s.url}/admin/stats`, { headers })).json()
  assert.deepEqual(await admin({}), { error: 'Authentication required' })
  assert.deepEqual(await admin({ 'x-api-key': 'test-write-key' }), { error: 'Invalid or expired token' })
})

test('a receipt tells what became of a request', async t => {
  const s = await startService(t)
  const response = await s.post('/api/v1/logs/batch', batch(entry(), entry(), entry({ level: 'x' })))
  const id = response.headers.get('x-receipt') ?? ''
  await s.settled()
  const receipt = (await (await s.get(`/api/v1/receipts/${id}`)).json()) as ReceiptAnswer
  const { received_at, ...counts } = receipt
  assert.deepEqual(counts, { id, accepted: 2, pending: 0, stored: 2, quarantined: 0, duplicates: 0, state: 'stored' })
  assert.ok(Math.abs(Date.parse(received_at) - Date.now()) < 60_000)
  const forged = `${id.slice(0, -1)}${id.endsWith('A') ? 'B' : 'A'}`
  for (const other of [forged, 'rcp_x', 'x']) assert.equal((await s.get(`/api/v1/receipts/${other}`)).status, 404)
})

test('the admin routes answer in the shapes of the guide', async t => {
  const s = await startService(t)
  await s.post(
    '/api/v1/logs/batch',
    batch(entry({ metadata: { a: 1 } }), entry({ service: 'db', level: 'fatal', message: 'down' })),
  )
  await s.settled()
  const get = async (path: string) => (await (await s.get(path)).json()) as Record<string, unknown>
  const health = await get('/admin/health')
  assert.deepEqual(Object.keys(health), ['status', 'uptime', 'database', 'batcher', 'config'])
  assert.equal(health.status, 'healthy')
  assert.deepEqual(health.config, {
    batch_size: 1000,
    batch_flush_interval: '20ms',
    rate_limit_enabled: false,
    rate_limit_rps: 100,
  })
  const recent = (await get('/admin/logs/recent?limit=1')) as { logs: Record<string, unknown>[]; count: number }
  assert.equal(recent.count, 1)
  assert.deepEqual(Object.keys(recent.logs[0] ?? {}), ['id', 'timestamp', 'service', 'level', 'message'])
  assert.equal(typeof recent.logs[0]?.id, 'number')
  assert.equal((await get(`/admin/logs/${recent.logs[0]?.id}`)).message, 'down')
  assert.deepEqual(await get('/admin/logs/x'), { error: 'Invalid log ID' })
  assert.equal((await get('/admin/logs/99999')).error, 'Log not found')
  const stats = (await get('/admin/stats')) as {
    total_logs: number
    stats: unknown
    recent_errors: { message: string }[]
  }
  assert.equal(stats.total_logs, 2)
  assert.deepEqual(stats.stats, {
    total_logs: 2,
    by_service: { shop: 1, db: 1 },
    by_level: { INFO: 1, FATAL: 1 },
    error_count: 1,
    recent_errors: 1,
  })
  assert.deepEqual(
    stats.recent_errors.map(log => log.message),
    ['down'],
  )
  const metrics = (await get('/admin/metrics?range=bad&interval=2m')) as {
    time_range: string
    time_series: { count: number }[]
  }
  assert.equal(metrics.time_range, '1h0m0s')
  assert.equal(
    metrics.time_series.reduce((sum, point) => sum + point.count, 0),
    2,
  )
})

test('a key made here works, is shown once, and stops when it is deleted', async t => {
  const s = await startService(t)
  const admin = { 'x-api-key': 'test-admin-key', 'content-type': 'application/json' }
  const made = (await (await s.post('/admin/api/keys', JSON.stringify({ name: 'app' }), admin)).json()) as {
    id: number
    key: string
  }
  assert.match(made.key, /^[\w-]{43}=$/)
  const send = () => s.post('/api/v1/logs', JSON.stringify({ log: entry() }), { 'x-api-key': made.key })
  assert.equal((await send()).status, 202)
  const listed = await (await s.get('/admin/api/keys')).text()
  assert.ok(listed.includes('"name":"app"') && !listed.includes(made.key))
  const remove = () =>
    fetch(`${s.url}/admin/api/keys/${made.id}`, { method: 'DELETE', headers: { 'x-api-key': 'test-admin-key' } })
  assert.deepEqual(await (await remove()).json(), { message: 'API key deleted successfully' })
  assert.equal((await send()).status, 401)
  assert.equal((await remove()).status, 404)
})

test('own lines are stored without a loop, and hold no secret', async t => {
  const s = await startService(t, { env: { LOG_INGESTION_SELF_LOGS: 'true' }, base: testBase(t, { lines: [] }) })
  s.base.log.info({ token: 'hush', port: 1 }, 'a line of our own')
  // Nobody waits for the acknowledgement of such a line, so nobody can tell when it is on its way.
  const logs = await pollUntil(
    async () => {
      const found = await search(s, { q: '"a line of our own"' })
      return found.logs.length > 0 && found.logs
    },
    { what: 'the line' },
  )
  assert.equal(logs.length, 1)
  assert.deepEqual(logs[0]?.metadata, { port: 1 })
})

test('of own lines at most a hundred are stored in any second, later ones come again, and requests make none', async t => {
  const s = await startService(t, { env: { LOG_INGESTION_SELF_LOGS: 'true' }, base: testBase(t, { lines: [] }) })
  const own = async (q: string) => {
    const seen: LogEntry[] = []
    for (let cursor: string | null = ''; cursor !== null; ) {
      const page: SearchAnswer = await search(s, { q, order: 'asc', limit: '1000', ...(cursor ? { cursor } : {}) })
      seen.push(...page.logs)
      cursor = page.cursor
    }
    return seen
  }
  for (let n = 0; n < 5_000; n++) s.base.log.info({ n }, 'storm')
  // A storm is no reason to be silent for ever.
  await pollUntil(
    async () => {
      s.base.log.info('after the storm')
      return (await own('"after the storm"')).length > 0
    },
    { what: 'a later line', everyMs: 50 },
  )
  const times = (await own('storm')).map(log => Date.parse(log.timestamp))
  assert.ok(times.length >= 50)
  // Lines are dated in milliseconds, a moment before they are counted.
  for (let i = 100; i < times.length; i++) assert.ok((times[i] ?? 0) - (times[i - 100] ?? 0) >= 998)

  await s.settled()
  const before = (await own('service:*')).length
  for (let n = 0; n < 30; n++) assert.equal((await s.get('/api/v1/logs/search?q=nothing')).status, 200)
  const { logs } = await search(s, { limit: '1000' })
  assert.equal(logs.filter(log => /request|search/i.test(log.message)).length, 0)
  // Each look and each stored line would have made another if this were a loop.
  assert.ok((await own('service:*')).length - before < 10)
})
