// People and keys as the guide has them: sign up, sign in, keys of one's own.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import bcrypt from 'bcryptjs'
import { drivenClock, testBase } from '../../../test/kit/base.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { entry, startService, type TestService } from './start.ts'

const password = 'correct horse'

async function addUser(
  s: TestService,
  email: string,
  o: { isAdmin?: boolean; tenant?: string; isPlatformAdmin?: boolean } = {},
) {
  const hash = await bcrypt.hash(password, 4)
  const [row] = await s.sql<{ id: bigint }[]>`
    insert into purser_logs.users (email, name, password_hash, is_admin)
    values (${email}, 'Ann', ${hash}, ${o.isAdmin ?? false}) returning id`
  if (o.tenant !== undefined || o.isPlatformAdmin)
    await s.sql`insert into purser_logs.user_tenants (user_id, tenant, is_platform_admin)
                values (${row?.id ?? 0n}, ${o.tenant ?? 'public'}, ${o.isPlatformAdmin ?? false})`
  return Number(row?.id)
}

const post = (s: TestService, path: string, body: unknown, headers: Record<string, string> = {}) =>
  fetch(s.url + path, {
    method: 'POST',
    body: JSON.stringify(body),
    headers: { 'content-type': 'application/json', ...headers },
  })

async function signIn(s: TestService, email: string): Promise<{ authorization: string }> {
  const { token } = (await (await post(s, '/auth/login', { email, password })).json()) as { token: string }
  return { authorization: `Bearer ${token}` }
}

test('signing in: the answer, the cookie, and what the token opens', async t => {
  const s = await startService(t)
  const id = await addUser(s, 'ann@example.org', { isAdmin: true })
  for (const path of ['/auth/login', '/admin/login']) {
    const response = await post(s, path, { email: '  Ann@Example.org ', password })
    const body = (await response.json()) as { token: string }
    assert.deepEqual(
      [response.status, { ...body, token: '' }],
      [
        200,
        {
          success: true,
          message: 'Login successful',
          token: '',
          user: { id, email: 'ann@example.org', name: 'Ann', is_admin: true },
        },
      ],
    )
    assert.equal(
      response.headers.get('set-cookie'),
      `auth_token=${body.token}; Path=/; Max-Age=604800; HttpOnly; SameSite=Lax`,
    )
    const proxied = await post(s, path, { email: 'ann@example.org', password }, { 'x-forwarded-proto': 'https' })
    assert.match(proxied.headers.get('set-cookie') ?? '', /; Secure$/)
  }
  const { authorization } = await signIn(s, 'ann@example.org')
  const token = authorization.slice('Bearer '.length)
  for (const headers of [{ authorization }, { 'x-api-key': token }, { cookie: `a=b; auth_token=${token}` }])
    assert.equal((await fetch(`${s.url}/admin/stats`, { headers })).status, 200)
  assert.equal((await fetch(`${s.url}/api/v1/logs/search`, { headers: { authorization } })).status, 200)
  const sent = await s.post('/api/v1/logs', JSON.stringify({ log: entry() }), { 'x-api-key': token })
  assert.deepEqual([sent.status, await sent.json()], [401, { error: 'Invalid API key' }], 'a person is no sender')
})

test('what is not allowed, in the guide’s words', async t => {
  const s = await startService(t)
  await addUser(s, 'ann@example.org')
  const answer = async (response: Response) => [response.status, await response.json()]
  for (const body of [
    { email: 'ann@example.org', password: 'wrong' },
    { email: 'bob@example.org', password },
  ])
    assert.deepEqual(await answer(await post(s, '/auth/login', body)), [
      401,
      { success: false, error: 'Invalid email or password' },
    ])
  assert.deepEqual(await answer(await fetch(`${s.url}/admin/stats`)), [401, { error: 'Authentication required' }])
  assert.deepEqual(await answer(await s.get('/admin/stats', { 'x-api-key': 'test-write-key' })), [
    401,
    { error: 'Invalid or expired token' },
  ])
  const { authorization } = await signIn(s, 'ann@example.org')
  const cookie = `auth_token=${authorization.slice(7)}`
  const fromElsewhere = await post(s, '/admin/api/keys', { name: 'x' }, { cookie, origin: 'https://evil.example' })
  assert.equal(fromElsewhere.status, 401, 'a page of another origin changes nothing with the cookie')
  assert.equal((await post(s, '/admin/api/keys', { name: 'x' }, { cookie, origin: s.url })).status, 200)
  assert.deepEqual(await answer(await post(s, '/auth/register', { email: 'c@d.e', name: 'C', password })), [
    403,
    { error: 'Registration is disabled' },
  ])
})

test('ten tries a minute per address and email, then 429 until a token is back', async t => {
  const clock = drivenClock(Date.now())
  const s = await startService(t, { base: testBase(t, { clock }) })
  await addUser(s, 'ann@example.org')
  const attempt = (email = 'ann@example.org') => post(s, '/auth/login', { email, password: 'wrong' })
  for (let i = 0; i < 10; i++) assert.equal((await attempt()).status, 401)
  const refused = await attempt()
  assert.deepEqual([refused.status, refused.headers.get('retry-after')], [429, '6'])
  assert.equal((await attempt('bob@example.org')).status, 401)
  clock.advance(6_000)
  assert.equal((await post(s, '/auth/login', { email: 'ann@example.org', password })).status, 200)
})

test('signing up when it is open', async t => {
  const s = await startService(t, { env: { LOG_INGESTION_REGISTRATION: 'open' } })
  const register = async (o: object) => {
    const response = await post(s, '/auth/register', { email: 'New@Example.org', name: 'New', password, ...o })
    return [response.status, await response.json()] as const
  }
  const [status, body] = await register({})
  const { user } = body as { user: { id: number } }
  assert.deepEqual(
    [status, body],
    [
      201,
      {
        success: true,
        message: 'Account created successfully',
        user: { id: user.id, email: 'new@example.org', name: 'New', is_admin: false },
      },
    ],
  )
  assert.deepEqual(await register({}), [409, { error: 'A user with this email already exists' }])
  for (const [o, details] of [
    [{ password: 'short' }, 'password must have at least 6 characters'],
    [{ password: 'ü'.repeat(40) }, 'password must have at most 72 bytes'],
    [{ email: 'nobody' }, 'email must be an address such as ann@example.org'],
    [{ name: ' ' }, 'name must be a text of 1 to 255 characters'],
  ] as const)
    assert.deepEqual(await register(o), [400, { error: 'Invalid request', details }])
  await signIn(s, 'new@example.org')
})

test('keys: shown once, listed without the value, one’s own for who is no administrator', async t => {
  const s = await startService(t)
  const annId = await addUser(s, 'ann@example.org')
  await addUser(s, 'root@example.org', { isAdmin: true })
  const ann = await signIn(s, 'ann@example.org')
  const root = await signIn(s, 'root@example.org')
  const list = async (headers: Record<string, string>) =>
    ((await (await fetch(`${s.url}/admin/api/keys`, { headers })).json()) as { keys: Record<string, unknown>[] }).keys

  const made = (await (await post(s, '/admin/api/keys', { name: 'app', description: 'of Ann' }, ann)).json()) as {
    id: number
    key: string
    created_at: string
  }
  assert.equal(made.key.length, 44)
  assert.equal((await s.post('/api/v1/logs', JSON.stringify({ log: entry() }), { 'x-api-key': made.key })).status, 202)
  const byKey = (await (
    await post(s, '/admin/api/keys', { name: 'ops' }, { 'x-api-key': 'test-admin-key' })
  ).json()) as {
    id: number
  }
  assert.deepEqual(await list(ann), [
    {
      id: made.id,
      name: 'app',
      description: 'of Ann',
      created_at: made.created_at,
      is_active: true,
      created_by_user_id: annId,
    },
  ])
  assert.deepEqual((await list(root)).map(key => [key.id, key.created_by_user_id]).sort(), [
    [made.id, annId],
    [byKey.id, null],
  ])
  assert.equal(JSON.stringify(await list(root)).includes(made.key), false)
  assert.deepEqual(await list({ 'x-api-key': 'acme-admin-key' }), [], 'another tenant')

  const remove = async (id: number | string, headers: Record<string, string>) => {
    const response = await fetch(`${s.url}/admin/api/keys/${id}`, { method: 'DELETE', headers })
    return [response.status, await response.json()]
  }
  const gone = (id: number) => [404, { error: 'Failed to delete API key', details: `there is no active key ${id}` }]
  assert.deepEqual(await remove(byKey.id, ann), gone(byKey.id), 'not hers')
  assert.deepEqual(await remove(made.id, { 'x-api-key': 'acme-admin-key' }), gone(made.id))
  assert.deepEqual(await remove('x', ann), [400, { error: 'Invalid API key ID' }])
  assert.deepEqual(await remove(made.id, ann), [200, { message: 'API key deleted successfully' }])
  assert.deepEqual(await remove(made.id, ann), gone(made.id))
  assert.deepEqual(
    (await list(ann)).map(key => key.is_active),
    [false],
  )
  await pollUntil(
    async () =>
      (await s.post('/api/v1/logs', JSON.stringify({ log: entry() }), { 'x-api-key': made.key })).status === 401,
    { what: 'the key to be refused' },
  )
})

test('a person sees his tenant; only platform administrators choose another', async t => {
  const s = await startService(t)
  await addUser(s, 'acme@example.org', { isAdmin: true, tenant: 'acme' })
  await addUser(s, 'plain@example.org', { isAdmin: true })
  await addUser(s, 'root@example.org', { isAdmin: true, isPlatformAdmin: true })
  await s.post('/api/v1/logs', JSON.stringify({ log: entry() }), { 'x-api-key': 'acme-write-key' })
  await s.settled()
  const count = async (email: string, query = '') => {
    const response = await fetch(`${s.url}/admin/logs/recent${query}`, { headers: await signIn(s, email) })
    return ((await response.json()) as { count: number }).count
  }
  assert.equal(await count('acme@example.org'), 1)
  assert.equal(await count('plain@example.org', '?tenant=acme'), 0)
  assert.equal(await count('root@example.org', '?tenant=acme'), 1)
  assert.equal(await count('root@example.org'), 0)
})

test('tokens of one replica are good on another, and after a restart', async t => {
  const s = await startService(t)
  await addUser(s, 'ann@example.org')
  const headers = await signIn(s, 'ann@example.org')
  await s.restart()
  assert.equal((await fetch(`${s.url}/admin/stats`, { headers })).status, 200)
  await s.restart({ LOG_INGESTION_JWT_SECRET: 'another secret of the operator' })
  assert.equal((await fetch(`${s.url}/admin/stats`, { headers })).status, 401)
})
