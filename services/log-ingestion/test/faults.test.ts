// The error tracker as its clients know it.

import assert from 'node:assert/strict'
import http from 'node:http'
import { connect } from 'node:net'
import { test } from 'node:test'
import { deflateSync } from 'node:zlib'
import Honeybadger from '@honeybadger-io/js'
import bcrypt from 'bcryptjs'
import { testDatabase } from '../../../test/kit/database.ts'
import { definitionsOf, makeLegacy } from './legacy-schema.ts'
import { startService, type TestService, writeKey } from './start.ts'

type Json = Record<string, unknown>

const sample = (
  o: { class?: string; message?: string; component?: string; environment?: string; tags?: string[] } = {},
) => ({
  notifier: { name: 'test', version: '1' },
  error: {
    class: o.class ?? 'NoMethodError',
    message: o.message ?? 'undefined method',
    tags: o.tags,
    backtrace: [{ file: 'app/orders.rb', number: '12', method: 'create' }],
  },
  request: {
    url: 'https://shop.example/orders',
    component: o.component ?? 'orders',
    action: 'create',
    params: { id: 7, password: 'hunter2', nested: { api_key: 'x', ok: 'NUL\u0000 here' } },
    session: {},
    context: { user_id: 3 },
  },
  server: { environment_name: o.environment ?? 'production', hostname: 'web-1', project_root: '/app', revision: 'abc' },
  breadcrumbs: {
    enabled: true,
    trail: [{ category: 'query', message: 'select', metadata: { ms: 3 }, timestamp: '2026-01-01T00:00:00Z' }],
  },
})

function client(s: TestService, headers: Record<string, string> = { 'x-api-key': writeKey }) {
  return async (method: string, path: string, body?: unknown): Promise<[number, Json]> => {
    const response = await fetch(s.url + path, {
      method,
      headers: { ...headers, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    return [response.status, (await response.json()) as Json]
  }
}

async function person(s: TestService, email: string): Promise<{ id: number; headers: { authorization: string } }> {
  const hash = await bcrypt.hash('secret1', 4)
  const [row] = await s.sql<{ id: bigint }[]>`
    insert into purser_logs.users (email, name, password_hash) values (${email}, 'Ann', ${hash}) returning id`
  const [, { token }] = await client(s, {})('POST', '/auth/login', { email, password: 'secret1' })
  return { id: Number(row?.id), headers: { authorization: `Bearer ${String(token)}` } }
}

test('notices: one fault per fingerprint, an exact count, the notice as it was sent less its secrets', async t => {
  const s = await startService(t)
  const call = client(s)
  const [status, first] = await call('POST', '/api/v1/notices', sample())
  assert.equal(status, 201)
  assert.match(String(first.id), /^[0-9A-HJKMNP-TV-Z]{26}$/)
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => call('POST', '/api/v1/notices', sample({ message: 'another message' }))),
  )
  assert.ok(answers.every(([code, body]) => code === 201 && body.fault_id === first.fault_id))
  const [, other] = await call('POST', '/api/v1/notices', sample({ environment: 'staging' }))
  assert.notEqual(other.fault_id, first.fault_id)
  const [, fault] = await call('GET', `/api/v1/faults/${String(first.fault_id)}`)
  assert.deepEqual(
    { ...fault, first_seen_at: 0, last_seen_at: 0, created_at: 0, updated_at: 0 },
    {
      id: first.fault_id,
      error_class: 'NoMethodError',
      message: 'another message',
      location: 'orders#create',
      environment: 'production',
      resolved: false,
      ignored: false,
      tags: [],
      public: false,
      occurrence_count: 21,
      first_seen_at: 0,
      last_seen_at: 0,
      created_at: 0,
      updated_at: 0,
    },
  )
  const [, page] = await call('GET', `/api/v1/faults/${String(first.fault_id)}/notices?limit=1&offset=20`)
  const [oldest] = page.notices as Json[]
  assert.deepEqual([page.limit, page.offset], [1, 20])
  assert.deepEqual(
    { ...oldest, created_at: 0 },
    {
      id: first.id,
      fault_id: first.fault_id,
      message: 'undefined method',
      backtrace: [{ file: 'app/orders.rb', line: 12, function: 'create' }],
      context: { user_id: 3 },
      params: { id: 7, nested: { ok: 'NUL␀ here' } },
      environment: {
        environment_name: 'production',
        project_root: '/app',
        url: 'https://shop.example/orders',
        component: 'orders',
        action: 'create',
      },
      breadcrumbs: [{ category: 'query', message: 'select', metadata: { ms: 3 }, time: '2026-01-01T00:00:00Z' }],
      revision: 'abc',
      hostname: 'web-1',
      created_at: 0,
    },
  )
  const [, stats] = await call('GET', `/api/v1/faults/${String(first.fault_id)}/stats`)
  assert.deepEqual([stats.total_occurrences, stats.one_hour_count, stats.one_day_count], [21, 21, 21])
})

test('what is missing has its default: class, message, place, environment', async t => {
  const s = await startService(t)
  const call = client(s)
  const faultOf = async (body: unknown) => {
    const [status, { fault_id: id }] = await call('POST', '/api/v1/notices', body)
    assert.equal(status, 201)
    const [, f] = await call('GET', `/api/v1/faults/${String(id)}`)
    return [f.error_class, f.message, f.location, f.environment]
  }
  assert.deepEqual(await faultOf({ error: { message: '', backtrace: [] } }), [
    'UnknownError',
    'No error message',
    'unknown',
    'production',
  ])
  assert.deepEqual(await faultOf({ error: { class: 'E', backtrace: [{ file: 'a.js', line: 3 }] } }), [
    'E',
    'No error message',
    'a.js:3',
    'production',
  ])
  assert.deepEqual(await faultOf({ error: { class: 'E', backtrace: [{ file: 'a.js' }] } }), [
    'E',
    'No error message',
    'a.js',
    'production',
  ])
  for (const body of [{}, { error: 5 }, []]) {
    const [status, { error }] = await call('POST', '/api/v1/notices', body)
    assert.deepEqual([status, error], [400, 'Invalid request body'])
  }
})

test('the credential ladder of the error tracker', async t => {
  const s = await startService(t)
  const ann = await person(s, 'ann@example.org')
  const status = async (headers: Record<string, string>) => (await client(s, headers)('GET', '/api/v1/faults'))[0]
  const cookie = `auth_token=${ann.headers.authorization.slice(7)}`
  for (const headers of [
    { authorization: writeKey },
    { 'x-api-key': writeKey },
    ann.headers,
    { cookie },
    { 'x-api-key': 'wrong', ...ann.headers },
  ] as Record<string, string>[])
    assert.equal(await status(headers), 200, JSON.stringify(headers))
  for (const headers of [{}, { 'x-api-key': 'wrong' }, { authorization: `Bearer ${writeKey}` }] as Record<
    string,
    string
  >[])
    assert.deepEqual(await client(s, headers)('GET', '/api/v1/faults'), [
      401,
      { error: 'Valid API key or authentication token required' },
    ])
})

test('changes: resolve, reopen by the next notice, ignore, assign, tags, PATCH, comments, each in the history with its person', async t => {
  const s = await startService(t)
  const ann = await person(s, 'ann@example.org')
  const call = client(s, ann.headers)
  const [, { fault_id: id }] = await call('POST', '/api/v1/notices', sample({ tags: ['db'] }))
  const path = `/api/v1/faults/${String(id)}`
  const change = async (method: string, sub: string, body: unknown = {}) => {
    const [status, fault] = await call(method, path + sub, body)
    assert.equal(status, 200, JSON.stringify(fault))
    return fault
  }
  assert.equal((await change('POST', '/resolve')).resolved, true)
  await call('POST', '/api/v1/notices', sample())
  assert.equal((await call('GET', path))[1].resolved, false, 'reopened')
  assert.equal((await change('POST', '/resolve')).resolved, true)
  assert.equal((await change('POST', '/unresolve')).resolved, false)
  assert.equal((await change('POST', '/ignore')).ignored, true)
  await call('POST', '/api/v1/notices', sample())
  assert.equal((await call('GET', path))[1].ignored, true, 'an ignored one stays ignored')
  const assigned = await change('POST', '/assign', { user_id: ann.id })
  assert.deepEqual([assigned.assignee_id, (assigned.assignee as Json).email], [ann.id, 'ann@example.org'])
  assert.equal((await change('POST', '/assign', { user_id: null })).assignee_id, undefined)
  assert.deepEqual((await change('POST', '/tags', { tags: ['ui', 'db'] })).tags, ['db', 'ui'])
  assert.deepEqual((await change('PUT', '/tags', { tags: ['only'] })).tags, ['only'])
  const [, current] = await call('GET', path)
  const patched = await change('PATCH', '', { ...current, ignored: false, public: true })
  assert.deepEqual([patched.ignored, patched.public], [false, true])
  for (const body of [{ message: 'x' }, { nonsense: 1 }, { assignee_id: 999 }, { tags: [1] }, { resolved: 'yes' }])
    assert.equal((await call('PATCH', path, body))[0], 400, JSON.stringify(body))
  const [commented, comment] = await call('POST', `${path}/comments`, { comment: 'look', user_id: 999 })
  assert.deepEqual([commented, comment.user_id, comment.comment], [201, ann.id, 'look'], 'a person comments as himself')
  assert.equal((await client(s)('POST', `${path}/comments`, { comment: 'look' }))[0], 400, 'a key names the user')
  assert.equal(((await call('GET', `${path}/comments`))[1].comments as Json[]).length, 1)
  const history = (await call('GET', `${path}/history`))[1].history as { action: string; user?: Json }[]
  assert.deepEqual(history.map(row => `${row.action} ${String(row.user?.email ?? '-')}`).reverse(), [
    'resolved ann@example.org',
    'reopened -',
    'resolved ann@example.org',
    'unresolved ann@example.org',
    'ignored ann@example.org',
    'assigned ann@example.org',
    'unassigned ann@example.org',
    'tagged ann@example.org',
    'tagged ann@example.org',
    'unignored ann@example.org',
    'published ann@example.org',
  ])
  assert.deepEqual(
    ((await call('GET', '/api/v1/users'))[1].users as Json[]).map(user => user.email),
    ['ann@example.org'],
  )
  assert.deepEqual(await call('DELETE', path), [200, { message: 'Fault deleted successfully' }])
  assert.deepEqual(await call('GET', path), [
    404,
    { error: 'Fault not found', details: `there is no fault ${String(id)}` },
  ])
  assert.deepEqual(await call('GET', '/api/v1/faults/x'), [400, { error: 'Invalid fault ID' }])
  const [, again] = await call('POST', '/api/v1/notices', sample())
  assert.notEqual(again.fault_id, id, 'a deleted fault does not come back: the next notice is a new one')
})

test('merging moves everything, and later notices of the source go to the target', async t => {
  const s = await startService(t)
  const call = client(s)
  const make = async (name: string, count: number) => {
    let id: unknown
    for (let i = 0; i < count; i++)
      id = (await call('POST', '/api/v1/notices', sample({ class: name, tags: [name] })))[1].fault_id
    return Number(id)
  }
  const source = await make('Source', 3)
  const target = await make('Target', 2)
  await call('POST', `/api/v1/faults/${source}/resolve`)
  assert.equal((await call('POST', `/api/v1/faults/${source}/merge`, { target_fault_id: source }))[0], 400)
  assert.equal((await call('POST', `/api/v1/faults/${source}/merge`, { target_fault_id: 999_999 }))[0], 404)
  assert.deepEqual(await call('POST', `/api/v1/faults/${source}/merge`, { target_fault_id: target }), [
    200,
    { message: 'Faults merged successfully' },
  ])
  assert.equal(await make('Source', 1), target)
  const [, merged] = await call('GET', `/api/v1/faults/${target}`)
  assert.deepEqual([merged.occurrence_count, merged.tags], [6, ['Target', 'Source']])
  assert.equal(((await call('GET', `/api/v1/faults/${target}/notices`))[1].notices as Json[]).length, 6)
  const history = (await call('GET', `/api/v1/faults/${target}/history`))[1].history as Json[]
  assert.deepEqual(history.map(row => row.action).sort(), ['merged', 'resolved'])
  assert.equal((await call('GET', `/api/v1/faults/${source}`))[0], 404)
})

test('searching: every term, negated too; wildcards are literal; wrong ones say so', async t => {
  const s = await startService(t)
  const ann = await person(s, 'ann@example.org')
  const call = client(s, ann.headers)
  const make = async (o: Parameters<typeof sample>[0]) =>
    Number((await call('POST', '/api/v1/notices', sample(o)))[1].fault_id)
  const a = await make({ class: 'AError', message: '100% broken', tags: ['db'] })
  const b = await make({ class: 'BError', message: 'all is broken', environment: 'staging' })
  const c = await make({ class: 'CError', message: 'no such table: x_y' })
  await call('POST', `/api/v1/faults/${a}/resolve`)
  await call('POST', `/api/v1/faults/${b}/ignore`)
  await call('POST', `/api/v1/faults/${c}/assign`, { user_id: ann.id })
  await s.sql`update purser_logs.faults set last_seen_at = now() - interval '2 days' where id = ${a}`
  const search = async (q: string) =>
    ((await call('GET', `/api/v1/faults?q=${encodeURIComponent(q)}`))[1].faults as { id: number }[]).map(f => f.id)
  for (const [q, expected] of [
    ['', [c, b, a]],
    ['is:resolved', [a]],
    ['-is:resolved', [c, b]],
    ['is:ignored', [b]],
    ['env:staging', [b]],
    ['-environment:Staging', [c, a]],
    ['assignee:me', [c]],
    ['assignee:ann@example.org', [c]],
    [`assignee:${ann.id}`, [c]],
    ['assignee:none', [b, a]],
    ['tag:db', [a]],
    ['-tag:db', [c, b]],
    ['after:1d', [c, b]],
    ['before:1d', [a]],
    ['broken', [b, a]],
    ['BROKEN -is:ignored', [a]],
    ['"such table"', [c]],
    ['-"such table"', [b, a]],
    ['100%', [a]],
    ['%', [a]],
    ['x_y', [c]],
    ['a_l', []],
    ['orders#create', [c, b, a]],
    ['BError', [b]],
  ] as const)
    assert.deepEqual(await search(q), expected, q)
  for (const q of ['is:gone', 'after:soon', 'assignee:somebody']) {
    const [status, { error }] = await call('GET', `/api/v1/faults?q=${encodeURIComponent(q)}`)
    assert.deepEqual([status, error], [400, 'Invalid search query'], q)
  }
  const [, page] = await call('GET', '/api/v1/faults?limit=1&offset=1')
  assert.deepEqual([(page.faults as Json[]).map(f => f.id), page.total, page.limit, page.offset], [[b], 3, 1, 1])
  for (const query of ['limit=0', 'limit=1001', 'limit=x', 'offset=-1'])
    assert.equal((await call('GET', `/api/v1/faults?${query}`))[1].error, 'Invalid pagination parameters', query)
})

test('another tenant sees nothing of it, on any route', async t => {
  const s = await startService(t)
  const call = client(s)
  const acme = client(s, { 'x-api-key': 'acme-write-key' })
  const [, { fault_id: ours }] = await call('POST', '/api/v1/notices', sample())
  const [, { fault_id: theirs }] = await acme('POST', '/api/v1/notices', sample())
  assert.notEqual(ours, theirs)
  assert.deepEqual(
    ((await acme('GET', '/api/v1/faults?tenant=public'))[1].faults as Json[]).map(f => f.id),
    [theirs],
  )
  for (const [method, sub, body] of [
    ['GET', ''],
    ['PATCH', '', {}],
    ['DELETE', ''],
    ['POST', '/resolve', {}],
    ['POST', '/tags', { tags: ['x'] }],
    ['PUT', '/tags', { tags: ['x'] }],
    ['POST', '/assign', { user_id: null }],
    ['POST', '/merge', { target_fault_id: theirs }],
    ['GET', '/notices'],
    ['GET', '/stats'],
    ['GET', '/history'],
    ['GET', '/comments'],
    ['POST', '/comments', { comment: 'x', user_id: 1 }],
  ] as const)
    assert.equal((await acme(method, `/api/v1/faults/${String(ours)}${sub}`, body))[0], 404, `${method} ${sub}`)
  assert.equal((await call('GET', `/api/v1/faults/${String(ours)}`))[0], 200)
})

test('Honeybadger’s own client, unmodified; and what Ruby’s sends, deflated', async t => {
  const s = await startService(t)
  // The client takes a host and no port; the network leads it to ours, as a balancer would.
  const agent = http.globalAgent
  http.globalAgent = Object.assign(new http.Agent(), {
    createConnection: () => connect(Number(new URL(s.url).port), '127.0.0.1'),
  })
  t.after(() => {
    http.globalAgent = agent
  })
  const honeybadger = Honeybadger.factory({
    apiKey: writeKey,
    endpoint: 'http://127.0.0.1',
    environment: 'staging',
    revision: 'r1',
    enableUncaught: false,
    enableUnhandledRejection: false,
    logger: { log() {}, info() {}, debug() {}, warn() {}, error() {} },
  })
  honeybadger.setContext({ order: 7 })
  honeybadger.addBreadcrumb('before', { category: 'custom' })
  const error = new TypeError('from the official client')
  await honeybadger.notifyAsync(error, { component: 'checkout', action: 'pay', tags: ['js'] })
  const call = client(s)
  const [, { faults }] = await call('GET', '/api/v1/faults?q=env:staging')
  const [fault] = faults as Json[]
  assert.deepEqual(
    [fault?.error_class, fault?.message, fault?.location, fault?.tags, fault?.occurrence_count],
    ['TypeError', 'from the official client', 'checkout#pay', ['js'], 1],
  )
  const [, { notices }] = await call('GET', `/api/v1/faults/${String(fault?.id)}/notices`)
  const [notice] = notices as {
    context: Json
    backtrace: { file: string; line: number }[]
    breadcrumbs: Json[]
    revision: string
  }[]
  assert.equal(notice?.context.order, 7)
  assert.match(notice?.backtrace[0]?.file ?? '', /faults\.test\.ts/)
  assert.ok((notice?.backtrace[0]?.line ?? 0) > 0)
  assert.equal(notice?.revision, 'r1')
  assert.ok(notice?.breadcrumbs.some(crumb => crumb.message === 'before'))

  const deflated = await fetch(`${s.url}/v1/notices`, {
    method: 'POST',
    headers: { 'x-api-key': writeKey, 'content-type': 'application/json', 'content-encoding': 'deflate' },
    body: Uint8Array.from(deflateSync(JSON.stringify(sample()))),
  })
  assert.equal(deflated.status, 201)
  const bomb = await fetch(`${s.url}/v1/notices`, {
    method: 'POST',
    headers: { 'x-api-key': writeKey, 'content-type': 'application/json', 'content-encoding': 'deflate' },
    body: Uint8Array.from(deflateSync(Buffer.alloc(50 * 1024 * 1024, 0x20))),
  })
  assert.equal(bomb.status, 413)
})

test('faults of an older installation: found, counted on, merged, and its tables left as they are', async t => {
  const { sql, url } = await testDatabase(t)
  await makeLegacy(sql)
  const before = await definitionsOf(sql)
  const s = await startService(t, { databaseUrl: url })
  const call = client(s)
  const body = sample({ class: 'OldError' })
  // Two rows are the same fault in old data: the first is counted on, whoever comes.
  const answers = await Promise.all(Array.from({ length: 5 }, () => call('POST', '/api/v1/notices', body)))
  assert.deepEqual(new Set(answers.map(([, { fault_id: id }]) => id)), new Set([1]))
  assert.equal((await call('GET', '/api/v1/faults/1'))[1].occurrence_count, 6)
  const [, { notices }] = await call('GET', '/api/v1/faults/1/notices')
  assert.equal((notices as Json[]).length, 6)
  assert.deepEqual(await call('POST', '/api/v1/faults/2/merge', { target_fault_id: 1 }), [
    200,
    { message: 'Faults merged successfully' },
  ])
  assert.deepEqual(await definitionsOf(sql), before)
  // G46: the first other tenant adds one nullable column, and older queries keep working.
  const [, theirs] = await client(s, { 'x-api-key': 'acme-write-key' })('POST', '/api/v1/notices', body)
  assert.notEqual(theirs.fault_id, 1)
  const after = (await definitionsOf(sql)).filter(line => !before.includes(line))
  assert.deepEqual(after, ['faults.tenant text YES '])
})
