// The admin API in the guide's shapes, and who may use it.

import assert from 'node:assert/strict'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { mintToken } from '#platform/tenancy/token'
import { systemClock } from '#platform/time'
import { pollUntil } from '../../../test/kit/poll.ts'
import type {
  AdminError,
  ApiKey,
  Budget,
  BudgetState,
  CreatedApiKey,
  LedgerPage,
  ModelPrice,
  Tenant,
  UsageDay,
  UsageOfModel,
} from '../api.ts'
import { adminKey, makeTenant, rowsOf, secret, startService, type TestService } from './kit.ts'

async function refused(
  service: TestService,
  method: string,
  path: string,
  o: { body?: unknown; headers?: Record<string, string> } = {},
): Promise<{ status: number; error: AdminError }> {
  const response = await fetch(service.url + path, {
    method,
    headers: { 'x-admin-key': adminKey, 'content-type': 'application/json', ...o.headers },
    ...(o.body === undefined ? {} : { body: typeof o.body === 'string' ? o.body : JSON.stringify(o.body) }),
  })
  return { status: response.status, error: (await response.json()) as AdminError }
}
test('the admin API, as the guide has it', async t => {
  const service = await startService(t)

  await t.test('a tenant is made, read, changed and removed; its rows outlive it without its name', async () => {
    const made = await service.admin<Tenant>('POST', '/admin/tenant', {
      name: 'Acme Robotics',
      displayName: 'Acme',
      rateLimitPerMin: 0,
      defaultSessionBudgetUsd: 1.5,
      budgets: [{ period: 'daily', amountUsd: 2 }],
    })
    assert.deepEqual(
      { ...made, id: 0, createdAt: '', updatedAt: '' },
      {
        id: 0,
        name: 'Acme Robotics',
        displayName: 'Acme',
        rateLimitPerMin: 0,
        defaultSessionBudgetUsd: 1.5,
        defaultSessionBudgetUsdNano: '1500000000',
        slug: 'acme-robotics',
        timezone: 'UTC',
        createdAt: '',
        updatedAt: '',
      },
    )
    assert.deepEqual(await service.admin('GET', `/admin/tenant/${made.id}`), made)
    const { key } = await service.admin<CreatedApiKey>('POST', `/admin/tenant/${made.id}/apikeys`)
    assert.equal((await service.chat(key)).status, 200)
    await rowsOf(service, { ...made, key }, 1)

    assert.equal((await service.admin<Tenant>('PUT', `/admin/tenant/${made.id}`, { name: 'Acme AG' })).slug, made.slug)
    assert.deepEqual(await service.admin('DELETE', `/admin/tenant/${made.id}`), { ok: true })
    assert.equal((await refused(service, 'GET', `/admin/tenant/${made.id}`)).status, 404)
    assert.equal((await service.chat(key)).status, 401)
    const { data } = await service.admin<LedgerPage>('GET', '/admin/usage/ledger')
    assert.deepEqual([data[0]?.tenant, data[0]?.tenantId, data[0]?.model], ['', null, 'echo-priced'])
  })

  await t.test('errors name what is wrong in the guide’s words', async () => {
    const tenant = await makeTenant(service, 'acme', '1')
    const cases: [method: string, path: string, body: unknown, status: number, error: RegExp][] = [
      ['POST', '/admin/tenant', {}, 400, /^Missing name$/],
      ['POST', '/admin/tenant', { name: tenant.name }, 400, /^Tenant already exists$/],
      ['PUT', `/admin/tenant/${tenant.id}`, { name: ' ' }, 400, /^Name cannot be empty$/],
      ['GET', '/admin/tenant/abc', undefined, 400, /^Invalid tenant ID$/],
      ['GET', '/admin/tenant/99999', undefined, 404, /^Tenant not found$/],
      ['PUT', `/admin/tenant/${tenant.id}/ratelimit`, { rateLimitPerMin: -1 }, 400, /must be >= 0/],
      [
        'POST',
        `/admin/tenant/${tenant.id}/budgets`,
        { period: 'hourly', amountUsd: 1 },
        400,
        /^Invalid period\. Allowed: /,
      ],
      [
        'POST',
        `/admin/tenant/${tenant.id}/budgets`,
        { period: 'custom', amountUsd: 1 },
        400,
        /^Custom period requires valid startDate and endDate/,
      ],
      [
        'POST',
        `/admin/tenant/${tenant.id}/budgets`,
        { period: 'custom', amountUsd: 1, startDate: '2026-02-02', endDate: '2026-02-01' },
        400,
        /^endDate must be equal to or after startDate/,
      ],
      ['POST', `/admin/tenant/${tenant.id}/budgets`, { period: 'daily', amountUsd: -1 }, 400, /must not be negative/],
      [
        'POST',
        `/admin/tenant/${tenant.id}/budgets`,
        { period: 'daily', amountUsd: '0.0000000001' },
        400,
        /10 fraction digits/,
      ],
      [
        'POST',
        `/admin/tenant/${tenant.id}/budgets`,
        { period: 'daily', amountUsd: 0.30000000000000004 },
        400,
        /send it as a string/,
      ],
      ['DELETE', '/admin/apikey/99999', undefined, 404, /^API key not found$/],
      ['DELETE', '/admin/budget/99999', undefined, 404, /^Budget not found$/],
      ['GET', `/admin/tenant/${tenant.id}/usage/ledger?status=lost`, undefined, 400, /status must be one of/],
      ['GET', '/admin/usage/ledger?startDate=2026-13-01', undefined, 400, /2026-13-01/],
      ['POST', '/admin/tenant', '{"name":"a","name":"b"}', 400, /"name" is given twice/],
      ['GET', `/admin/tenant/${tenant.id}/tags`, undefined, 501, /not served by this release/],
      ['GET', '/admin/nothing', undefined, 404, /is not a route/],
    ]
    for (const [method, path, body, status, wanted] of cases) {
      const answer = await refused(service, method, path, { body })
      assert.equal(answer.status, status, `${method} ${path} ${JSON.stringify(body)}: ${JSON.stringify(answer.error)}`)
      assert.match(answer.error.error, wanted)
      assert.equal(answer.error.statusCode, status)
      assert.ok(answer.error.requestId !== '' && answer.error.reason !== '' && answer.error.message !== '')
    }
  })

  await t.test('keys are shown once, listed without themselves, and gone when revoked', async () => {
    const tenant = await makeTenant(service, 'acme', '1')
    const made = await service.admin<CreatedApiKey>('POST', `/admin/tenant/${tenant.id}/apikeys`, { name: 'ci' })
    assert.match(made.key, /^[0-9a-f]{64}$/)
    assert.equal(made.keyPrefix, made.key.slice(0, 8))
    assert.equal((await service.chat(made.key)).status, 200)
    assert.deepEqual(await service.admin('DELETE', `/admin/apikey/${made.id}`), { ok: true })
    assert.equal((await service.chat(made.key)).status, 401)
    const keys = await service.admin<ApiKey[]>('GET', `/admin/tenant/${tenant.id}/apikeys`)
    assert.deepEqual(
      keys.map(key => [key.id === made.id, key.isActive]),
      [
        [false, true],
        [true, false],
      ],
    )
    assert.ok(!JSON.stringify(keys).includes(made.key))
  })

  await t.test('usage, history, models and ledger agree with each other', async () => {
    const tenant = await makeTenant(service, 'acme', '1')
    for (let i = 0; i < 3; i++) await service.chat(tenant.key)
    await service.chat(tenant.key, { model: 'echo' })
    await rowsOf(service, tenant, 4)
    const path = `/admin/tenant/${tenant.id}/usage`
    // 2 × 1 + 2 × 2 USD per million, three times.
    assert.deepEqual(await service.admin('GET', path), { monthly: 0.000018, monthlyNano: '18000' })
    const history = await service.admin<UsageDay[]>('GET', `${path}/history?days=7`)
    assert.equal(history.length, 7)
    assert.deepEqual(history.map(day => day.usageNano).sort(), ['0', '0', '0', '0', '0', '0', '18000'].sort())
    assert.deepEqual(await service.admin<UsageOfModel[]>('GET', `${path}/models`), [
      { model: 'echo-priced', usage: 0.000018, usageNano: '18000', percentage: 100 },
    ])
    const page = await service.admin<LedgerPage>('GET', `${path}/ledger?limit=2&page=1&model=PRICED&status=success`)
    assert.deepEqual([page.total, page.page, page.limit, page.data.length], [3, 1, 2, 1])
    const none = await service.admin<LedgerPage>('GET', '/admin/usage/ledger?tenant=nobody')
    assert.equal(none.total, 0)
  })

  await t.test('a new price has a later date and the same id; calls before it keep theirs', async () => {
    const tenant = await makeTenant(service, 'acme', '9')
    const model = 'echo-dated'
    const before = await service.admin<ModelPrice>('POST', '/admin/model-pricing', {
      model,
      provider: 'echo',
      inputPrice: 1,
      cachedInputPrice: 0.1,
      outputPrice: '2',
    })
    await service.chat(tenant.key, { model })
    const after = await service.admin<ModelPrice>('PUT', `/admin/model-pricing/${model}`, { outputPrice: '3' })
    assert.deepEqual(
      [after.id, after.outputPrice, after.inputPrice, after.cachedInputPrice, after.source],
      [before.id, '3', '1', '0.1', 'operator'],
    )
    await service.chat(tenant.key, { model })
    const rows = await rowsOf(service, tenant, 2)
    assert.deepEqual(rows.map(row => row.usd).sort(), ['0.000006', '0.000008'])
    const prices = await service.admin<ModelPrice[]>('GET', '/admin/model-pricing')
    const guide = prices.find(price => price.model === 'gpt-4o')
    assert.deepEqual(
      [guide?.versionTag, guide?.inputPrice, guide?.cachedInputPrice, guide?.outputPrice, guide?.provider],
      ['gpt-4o-2024-08-06', '2.5', '1.25', '10', 'openai'],
    )

    const made = await service.admin<ModelPrice>('POST', '/admin/model-pricing', {
      model: 'local-llama',
      versionTag: 'local-llama',
      inputPrice: 0.05,
      cachedInputPrice: 0.05,
      outputPrice: '0.1',
    })
    assert.deepEqual([made.provider, made.inputPrice, made.outputPrice], ['openai', '0.05', '0.1'])
    assert.equal((await refused(service, 'POST', '/admin/model-pricing', { body: made })).status, 400)
  })

  await t.test('nobody gets in without the key, a token for this service, or a session; roles bind', async () => {
    const secretBytes = Buffer.from(secret)
    const as = async (headers: Record<string, string>, method = 'GET', path = '/admin/tenant') => {
      const response = await fetch(service.url + path, {
        method,
        headers: { 'content-type': 'application/json', ...headers },
        ...(method === 'GET' ? {} : { body: '{"name":"x"}' }),
      })
      return response.status
    }
    const token = (role: 'viewer' | 'owner', audience = 'budgetguard') =>
      `Bearer ${mintToken(secretBytes, { audience, role, subject: 'test', clock: systemClock })}`
    assert.equal(await as({}), 401)
    assert.equal(await as({ 'x-admin-key': 'wrong' }), 401)
    // Authentication comes before validation.
    assert.equal(await as({}, 'GET', '/admin/tenant/abc'), 401)
    assert.equal(await as({ authorization: token('viewer') }), 200)
    assert.equal(await as({ authorization: token('viewer') }, 'POST'), 403)
    assert.equal(await as({ authorization: token('owner') }, 'POST'), 200)
    assert.equal(await as({ authorization: token('owner', 'billaged') }), 401)
    assert.equal(await as({ authorization: 'Bearer pit_x.y' }), 401)
    const unauthorized = await refused(service, 'GET', '/admin/tenant', { headers: { 'x-admin-key': 'no' } })
    assert.equal(unauthorized.error.error, 'Unauthorized')
  })

  await t.test('a session is an httpOnly cookie; with it, changes come from the same origin only', async () => {
    const login = (body: unknown, headers: Record<string, string> = {}) =>
      fetch(`${service.url}/admin/login`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: JSON.stringify(body),
      })
    assert.equal((await login({ adminKey: 'wrong-key-wrong-key' })).status, 401)
    assert.equal((await login({})).status, 400)
    assert.equal((await login({ adminKey }, { origin: 'https://evil.example' })).status, 403)
    const signedIn = await login({ adminKey })
    assert.equal(signedIn.status, 200)
    const setCookie = signedIn.headers.get('set-cookie') ?? ''
    assert.match(setCookie, /^bg_session=[A-Za-z0-9_-]{43}; Path=\/; HttpOnly; SameSite=Strict; Max-Age=43200$/)
    const cookie = setCookie.split(';')[0] ?? ''
    const { host } = new URL(service.url)
    const make = async (headers: Record<string, string>, name: string) =>
      (
        await fetch(`${service.url}/admin/tenant`, {
          method: 'POST',
          headers: { 'content-type': 'application/json', cookie, ...headers },
          body: JSON.stringify({ name }),
        })
      ).status
    const read = async () => (await fetch(`${service.url}/admin/me`, { headers: { cookie } })).status
    assert.equal(await read(), 200)
    // fetch adds no Origin of its own here, as a cross-site form post would not add ours.
    assert.equal(await make({}, 'a'), 403)
    assert.equal(await make({ origin: 'https://evil.example' }, 'b'), 403)
    assert.equal(await make({ 'sec-fetch-site': 'cross-site', origin: `http://${host}` }, 'c'), 403)
    assert.equal(await make({ origin: `http://${host}` }, 'd'), 200)
    assert.equal(await make({ 'sec-fetch-site': 'same-origin' }, 'e'), 200)

    await fetch(`${service.url}/admin/logout`, { method: 'POST', headers: { cookie, origin: `http://${host}` } })
    assert.equal(await read(), 401)
  })

  await t.test('live events tell of a call, the budget it moved, and the holds', async () => {
    const tenant = await makeTenant(service, 'live', '1')
    const leave = new AbortController()
    const response = await fetch(`${service.url}/admin/live`, {
      headers: { 'x-admin-key': adminKey },
      signal: leave.signal,
    })
    assert.equal(response.headers.get('content-type'), 'text/event-stream; charset=utf-8')
    let text = ''
    const reading = (async () => {
      for await (const bytes of response.body ?? []) text += Buffer.from(bytes).toString('utf8')
    })().catch(() => undefined)
    await service.chat(tenant.key)
    await pollUntil(() => /event: call\n/.test(text) && /event: budget\n/.test(text) && /event: holds\n/.test(text), {
      what: 'all three events',
    })
    const call = JSON.parse(/event: call\ndata: (.*)\n/.exec(text)?.[1] ?? '{}')
    assert.deepEqual(
      [call.tenant, call.model, call.status, call.usd],
      [tenant.slug, 'echo-priced', 'success', '0.000006'],
    )
    leave.abort()
    await reading
  })
})

test('budgets are stored one per period; the implicit one comes back when the stored one goes', async t => {
  const service = await startService(t, { env: { DEFAULT_BUDGET_USD: '7', BUDGET_PERIODS: 'daily,monthly' } })
  const tenant = await makeTenant(service, 'acme', '3.5')
  const path = `/admin/tenant/${tenant.id}/budgets`
  const before = await service.admin<BudgetState[]>('GET', path)
  assert.deepEqual(
    before.map(budget => [budget.period, budget.amountUsd, budget.isImplicit, budget.isRecurring]).sort(),
    [
      ['daily', '7', true, true],
      ['monthly', '3.5', false, true],
    ],
  )
  const month = before.find(budget => budget.period === 'monthly')
  assert.ok(month)
  assert.match(month.currentPeriodStartDate ?? '', /-01T00:00:00\.000Z$/)
  assert.match(month.currentPeriodEndDate ?? '', /T23:59:59\.999Z$/)
  const changed = await service.admin<Budget>('PUT', `/admin/budget/${month.id}`, { amountUsd: '4' })
  assert.deepEqual([changed.id, changed.amountUsd, changed.amountUsdNano], [month.id, '4', '4000000000'])
  assert.deepEqual(await service.admin('DELETE', `/admin/budget/${month.id}`), { ok: true })
  const after = await service.admin<BudgetState[]>('GET', path)
  assert.deepEqual(
    after.map(budget => budget.amountUsd),
    ['7', '7'],
  )
  assert.equal((await refused(service, 'DELETE', `/admin/budget/${month.id}`)).status, 400)

  const custom = { period: 'custom', amountUsd: 1, startDate: '2020-01-01', endDate: '2020-01-31' }
  const [past] = await service.admin<Budget[]>('POST', path, { budgets: [custom] })
  assert.deepEqual([past?.startDate, past?.endDate], ['2020-01-01T00:00:00.000Z', '2020-01-31T23:59:59.999Z'])
  assert.equal((await service.chat(tenant.key)).status, 200, 'a budget that has ended binds nobody')
})

test('more than twenty wrong keys a minute are told to wait, the right one is not', async t => {
  const service = await startService(t)
  const statuses: number[] = []
  for (let i = 0; i < 25; i++)
    statuses.push((await refused(service, 'GET', '/admin/tenant', { headers: { 'x-admin-key': `no${i}` } })).status)
  assert.deepEqual([...new Set(statuses)], [401, 429])
  await service.admin('GET', '/admin/tenant')
})

test('a sign-in link works once, also across a restart, and no longer than it lives', async t => {
  const service = await startService(t)
  const secretBytes = Buffer.from(secret)
  const mint = (ttlS: number) =>
    mintToken(secretBytes, {
      audience: 'console-login',
      role: 'owner',
      subject: 'supervisor',
      ttlS,
      clock: systemClock,
    })
  const use = async (token: string) =>
    (
      await fetch(`${service.url}/admin/login`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ token }),
      })
    ).status
  const link = mint(600)
  assert.equal(await use(link), 200)
  assert.equal(await use(link), 401)
  await service.restart()
  assert.equal(await use(link), 401)
  assert.equal(await use(mint(-10)), 401)
})

test('the admin key is generated once outside production, and the admin API is closed in it', async t => {
  const service = await startService(t, { env: { ADMIN_API_KEY: '' } })
  const path = join(service.dataDir, 'budgetguard', 'admin-key')
  const generated = readFileSync(path, 'utf8').trim()
  assert.equal(statSync(path).mode & 0o777, 0o600)
  const status = async (key: string) =>
    (await fetch(`${service.url}/admin/tenant`, { headers: { 'x-admin-key': key } })).status
  assert.equal(await status(generated), 200)
  await service.restart({ ADMIN_API_KEY: '' })
  assert.equal(await status(generated), 200)
  assert.ok(!service.lines.join('').includes(generated), 'the key is in the log')

  await service.restart({ ADMIN_API_KEY: '', NODE_ENV: 'production' })
  assert.equal(await status(generated), 401)
  assert.match(service.lines.join(''), /the admin API is closed/)
})
