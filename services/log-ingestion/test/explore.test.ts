// The read routes around search: fields and their values, context, export, patterns; bounds, tenants and errors of each.

import assert from 'node:assert/strict'
import { type IncomingMessage, request } from 'node:http'
import { text } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'
import { pollUntil } from '../../../test/kit/poll.ts'
import type {
  ContextAnswer,
  FieldsAnswer,
  FieldValuesAnswer,
  LogEntry,
  PatternsAnswer,
  ProblemAnswer,
  SearchAnswer,
} from '../api.ts'
import { readRoutes } from '../http/openapi.ts'
import { adminKey, batch, entry, startService, type TestService, writeKey } from './start.ts'

async function ask<T>(s: TestService, path: string, headers?: Record<string, string>): Promise<T> {
  const response = await s.get(path, headers)
  assert.equal(response.status, 200, await response.clone().text())
  return (await response.json()) as T
}

const acme = { 'x-api-key': 'acme-admin-key' }
const at = (i: number) => new Date(Math.floor(Date.now() / 1_000) * 1_000 - 600_000 + i * 1_000).toISOString()

async function withEntries(t: TestContext, ...entries: unknown[]): Promise<TestService> {
  const s = await startService(t)
  assert.equal((await s.post('/api/v1/logs/batch', batch(...entries))).status, 202)
  await s.settled()
  return s
}

test('fields, their types and shares; values with exact digits and counts; both by query, both per tenant', async t => {
  const raw = `{"timestamp":"${at(0)}","service":"api","level":"warn","message":"m","metadata":{"big":12345678901234567891,"http":{"status":500},"tags":["a","b"]}}`
  const s = await startService(t)
  await s.post(
    '/api/v1/logs/batch',
    `{"logs":[${raw},${JSON.stringify(entry({ metadata: { http: { status: '404' }, tags: ['a'] } }))}]}`,
  )
  await s.post('/api/v1/logs', JSON.stringify({ log: entry({ service: 'theirs', metadata: { secretive: 1 } }) }), {
    'x-api-key': 'acme-write-key',
  })
  await s.settled()
  const { fields, complete } = await ask<FieldsAnswer>(s, '/api/v1/logs/fields')
  const byName = Object.fromEntries(fields.map(({ name, ...rest }) => [name, rest]))
  assert.equal(complete, true)
  assert.deepEqual(byName['http.status'], { types: ['number', 'string'], count: '2', share: 1 })
  assert.deepEqual(byName.big, { types: ['number'], count: '1', share: 0.5 })
  assert.deepEqual(byName.tags?.types, ['array'])
  assert.deepEqual(byName.service, { types: ['string'], count: '2', share: 1 })
  assert.equal(byName.secretive, undefined)

  const values = (name: string, more = '', headers?: Record<string, string>) =>
    ask<FieldValuesAnswer>(s, `/api/v1/logs/fields/${encodeURIComponent(name)}/values?${more}`, headers)
  assert.deepEqual((await values('big')).values, [{ value: '12345678901234567891', count: '1' }])
  assert.deepEqual(await values('tags'), {
    values: [
      { value: 'a', count: '2' },
      { value: 'b', count: '1' },
    ],
    complete: true,
  })
  assert.deepEqual((await values('tags', 'prefix=b')).values, [{ value: 'b', count: '1' }])
  assert.deepEqual(await values('tags', 'limit=1'), { values: [{ value: 'a', count: '2' }], complete: false })
  assert.deepEqual((await values('http.status', 'q=level:warn')).values, [{ value: '500', count: '1' }])
  assert.deepEqual((await values('service')).values, [
    { value: 'api', count: '1' },
    { value: 'shop', count: '1' },
  ])
  assert.deepEqual((await values('level', 'q=service:api')).values, [{ value: 'WARN', count: '1' }])
  assert.deepEqual((await values('service', '', acme)).values, [{ value: 'theirs', count: '1' }])
  assert.equal((await s.get('/api/v1/logs/fields/message/values')).status, 400)
})

test('more distinct values than an answer may hold are counted as far as memory goes, and it says so', async t => {
  const s = await startService(t)
  for (let part = 0; part < 3; part++)
    await s.post(
      '/api/v1/logs/batch',
      batch(...Array.from({ length: 4_000 }, (_, i) => entry({ metadata: { n: part * 4_000 + i } }))),
    )
  await s.settled()
  const answer = await ask<FieldValuesAnswer>(s, '/api/v1/logs/fields/n/values?limit=1000')
  assert.equal(answer.complete, false)
  assert.equal(answer.values.length, 1_000)
})

test('context: the neighbours of the same service in order, others and other tenants left out', async t => {
  const s = await withEntries(
    t,
    ...['a', 'b', 'c', 'd', 'e'].map((message, i) => entry({ timestamp: at(i), message })),
    entry({ timestamp: at(2), message: 'other', service: 'db' }),
  )
  const { logs } = await ask<SearchAnswer>(s, '/api/v1/logs/search?q=service:shop')
  const id = logs.find(log => log.message === 'c')?.id
  const {
    before,
    entry: middle,
    after,
    partial,
  } = await ask<ContextAnswer>(s, `/api/v1/logs/${id}/context?before=1&after=5`)
  const messages = (list: LogEntry[]) => list.map(log => log.message)
  assert.deepEqual([messages(before), middle.message, messages(after), partial], [['b'], 'c', ['d', 'e'], false])
  assert.deepEqual((await ask<ContextAnswer>(s, `/api/v1/logs/${id}/context?before=0&after=0`)).before, [])
  assert.equal((await s.get(`/api/v1/logs/${id}/context`, acme)).status, 404)
  assert.equal((await s.get('/api/v1/logs/x/context')).status, 404)
  assert.equal((await s.get(`/api/v1/logs/${id}/context?before=501`)).status, 400)
})

/** `fetch` hides trailers. */
async function exported(s: TestService, parameters: string): Promise<{ response: IncomingMessage; body: string }> {
  const response = await new Promise<IncomingMessage>((resolve, reject) =>
    request(`${s.url}/api/v1/logs/export?${parameters}`, { headers: { 'x-api-key': adminKey } }, resolve)
      .once('error', reject)
      .end(),
  )
  return { response, body: await text(response) }
}

test('an export is every match with the number of rows in a trailer, as NDJSON or as RFC 4180 CSV', async t => {
  const messages = ['plain', 'with "quotes", a comma', 'two\nlines', 'ünï']
  const s = await withEntries(
    t,
    ...messages.map((message, i) => entry({ timestamp: at(i), message, metadata: { i } })),
    entry({ timestamp: at(9), message: 'noise', level: 'DEBUG' }),
  )
  const ndjson = await exported(s, 'q=-noise&order=asc')
  assert.equal(ndjson.response.headers['content-type'], 'application/x-ndjson')
  assert.equal(ndjson.response.headers.trailer, 'X-Export-Rows')
  assert.deepEqual(ndjson.response.trailers, { 'x-export-rows': '4' })
  const found = ndjson.body
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line) as LogEntry)
  assert.deepEqual(
    found.map(log => log.message),
    messages,
  )
  assert.deepEqual(Object.keys(found[0] ?? {}), [
    'id',
    'timestamp',
    'service',
    'level',
    'message',
    'metadata',
    'created_at',
  ])

  const csv = await exported(s, 'q=-noise&order=asc&format=csv&fields=service,message,metadata')
  assert.match(csv.response.headers['content-type'] ?? '', /^text\/csv/)
  assert.equal(csv.response.trailers['x-export-rows'], '4')
  assert.equal(
    csv.body,
    [
      'service,message,metadata',
      'shop,plain,"{""i"": 0}"',
      'shop,"with ""quotes"", a comma","{""i"": 1}"',
      'shop,"two\nlines","{""i"": 2}"',
      'shop,ünï,"{""i"": 3}"',
      '',
    ].join('\r\n'),
  )
  assert.equal((await s.get('/api/v1/logs/export?format=xml')).status, 400)
  assert.deepEqual((await exported(s, 'q=nothing')).response.trailers, { 'x-export-rows': '0' })
})

test('G39: an export waits for its reader, and one that is cut cannot be taken for whole', async t => {
  const s = await startService(t)
  const filler = 'x'.repeat(9_000)
  const count = 6_000
  for (let i = 0; i < count; i += 1_000)
    await s.post(
      '/api/v1/logs/batch',
      batch(...Array.from({ length: 1_000 }, (_, n) => entry({ message: `${i + n} ${filler}` }))),
    )
  await s.settled()
  const open = () =>
    new Promise<IncomingMessage>((resolve, reject) =>
      request(`${s.url}/api/v1/logs/export`, { headers: { 'x-api-key': adminKey } }, resolve)
        .once('error', reject)
        .end(),
    )
  const queries = async () =>
    Number(
      /query_duration_seconds_count\{kind="export"\} (\d+)/.exec(await (await fetch(`${s.url}/metrics`)).text())?.[1] ??
        0,
    )

  // Nobody reads: 54 MB do not fit into the buffers on the way, so the export is not through until somebody does.
  const slow = await open()
  await s.get('/api/v1/logs/search?limit=1')
  assert.equal(await queries(), 0)
  const body = await text(slow)
  assert.equal(body.split('\n').length - 1, count)
  assert.deepEqual([slow.complete, slow.trailers], [true, { 'x-export-rows': String(count) }])
  await pollUntil(async () => (await queries()) === 1, { what: 'the export to be counted' })

  const cut = await open()
  const stopped = s.stop()
  await assert.rejects(text(cut), /aborted/)
  assert.deepEqual([cut.complete, cut.trailers], [false, {}])
  await stopped
})

test('patterns: templates with counts and first seen, and which of them the day before did not have', async t => {
  const hours = (n: number) => new Date(Date.now() - n * 3_600_000).toISOString()
  const s = await withEntries(
    t,
    ...Array.from({ length: 5 }, (_, i) => entry({ message: `GET /cart/${i} 200 in ${i * 3} ms` })),
    entry({ message: 'GET /cart/9 200 in 1 ms', timestamp: hours(5) }),
    entry({ message: 'payment provider timed out', level: 'error', service: 'pay' }),
  )
  const { patterns, matches, complete } = await ask<PatternsAnswer>(s, '/api/v1/logs/patterns?from=-1h')
  assert.deepEqual([matches, complete], ['6', true])
  assert.deepEqual(
    patterns.map(p => [p.template, p.count, p.new_since_yesterday, p.services, p.levels]),
    [
      ['GET /cart/<num> <num> in <num> ms', '5', false, ['shop'], ['INFO']],
      ['payment provider timed out', '1', true, ['pay'], ['ERROR']],
    ],
  )
  assert.ok(patterns.every(p => Date.parse(p.first_seen) <= Date.parse(p.last_seen)))
  assert.deepEqual((await ask<PatternsAnswer>(s, '/api/v1/logs/patterns', acme)).patterns, [])
})

test('a query that does not parse is a 400 with position, expectation and the query mended, on every route that takes one', async t => {
  const s = await startService(t)
  for (const route of ['search', 'histogram', 'fields', 'fields/x/values', 'patterns', 'export', 'tail']) {
    const response = await s.get(`/api/v1/logs/${route}?q=${encodeURIComponent('level:eror timeout')}`)
    const problem = (await response.json()) as ProblemAnswer
    assert.deepEqual(
      [response.status, problem.reason, problem.position, problem.example],
      [400, 'BAD_QUERY', 6, 'level:error timeout'],
      route,
    )
    assert.match(problem.expected ?? '', /^one of TRACE/)
  }
})

test('no read route answers without a key, with a write key, or beyond its limits', async t => {
  const s = await startService(t)
  for (const route of [
    'search',
    'histogram',
    'fields',
    'fields/x/values',
    'patterns',
    'export',
    'tail',
    '1',
    '1/context',
  ]) {
    assert.equal((await fetch(`${s.url}/api/v1/logs/${route}`)).status, 401, route)
    assert.equal((await s.get(`/api/v1/logs/${route}`, { 'x-api-key': writeKey })).status, 403, route)
  }
  const slow = await s.get('/api/v1/logs/fields?timeout=2m')
  assert.match(((await slow.json()) as ProblemAnswer).detail, /longer than the longest taken, 1m/)
})

test('whatever the route and the parameters, the answer is of the tenant whose key asked', async t => {
  const s = await startService(t)
  const mark = 'only-ours-7f3a'
  await s.post('/api/v1/logs', JSON.stringify({ log: entry({ message: mark }) }))
  const sent = await s.post(
    '/api/v1/logs',
    JSON.stringify({ log: entry({ service: mark, message: mark, metadata: { [mark]: mark } }) }),
  )
  await s.settled()
  const { logs, cursor } = await ask<SearchAnswer>(s, `/api/v1/logs/search?limit=1&q=${mark}`)
  const id = logs[0]?.id ?? ''
  const foreign = await s.get(`/api/v1/logs/search?limit=1&q=${mark}&cursor=${cursor}`, acme)
  assert.deepEqual([cursor === null, foreign.status], [false, 404], 'a cursor of another tenant')
  const receipt = sent.headers.get('x-receipt') ?? ''

  const lokiRoutes = [
    'labels',
    'label/service/values',
    'series?match[]={}',
    'query?query={}',
    'query_range?query={}',
    'index/stats',
    'index/volume',
  ]
  const routes = readRoutes
    .filter(({ path }) => !path.endsWith('/tail'))
    .map(({ path }) => path.replace('{id}', path.includes('receipts') ? receipt : id).replace('{name}', mark))
  for (const path of [
    ...routes,
    ...lokiRoutes.map(route => `/loki/api/v1/${route}`),
    '/admin/logs/recent',
    '/admin/stats',
    `/admin/logs/${id}`,
  ])
    for (const more of ['tenant=public', `q=${mark}&tenant=public`, `q=service:${mark}&tenant=*`]) {
      const response = await s.get(`${path}${path.includes('?') ? '&' : '?'}${more}`, {
        ...acme,
        'x-scope-orgid': 'public',
      })
      const text = await response.text()
      assert.ok(
        !text.includes(mark) && !/"(?:total_logs|count|entries)":"?[1-9]/.test(text),
        `${path} ${more}: ${text}`,
      )
      // Guessing looks like there is nothing.
      if (path.split('/').some(part => part === id || part === receipt)) assert.equal(response.status, 404, path)
    }
  // The tenant's own way to the same things.
  assert.match(await (await s.get(`/api/v1/logs/${id}?tenant=acme`)).text(), new RegExp(mark))
})

test('a query that runs out of time is a partial page whose cursor goes on where it stopped', async t => {
  const s = await startService(t)
  const count = 3_000
  for (let i = 0; i < count; i += 1_000)
    await s.post(
      '/api/v1/logs/batch',
      batch(...Array.from({ length: 1_000 }, (_, n) => entry({ message: `n=${i + n}` }))),
    )
  await s.settled()
  const seen: string[] = []
  let partials = 0
  let cursor: string | null = ''
  // Longer each time, so that it ends however slow the machine is.
  for (let timeoutMs = 2; cursor !== null && timeoutMs < 60_000; timeoutMs = Math.ceil(timeoutMs * 1.5)) {
    const page: SearchAnswer = await ask(
      s,
      `/api/v1/logs/search?q=${encodeURIComponent('/^n=/')}&limit=1000&order=asc&timeout=${timeoutMs}ms${cursor === '' ? '' : `&cursor=${cursor}`}`,
    )
    if (page.partial) partials++
    assert.ok(page.cursor !== null || !page.partial, 'a partial page can be gone on with')
    seen.push(...page.logs.map(log => log.message))
    cursor = page.cursor
  }
  assert.deepEqual(
    seen,
    Array.from({ length: count }, (_, i) => `n=${i}`),
  )
  assert.ok(partials > 0, 'two milliseconds are not enough for three thousand rows')
})
