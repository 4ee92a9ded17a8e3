import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import test, { type TestContext } from 'node:test'
import { openSql } from '#platform/postgres'
import { openTenancy } from '#platform/tenancy/tenancy'
import { mintToken, type Role } from '#platform/tenancy/token'
import { systemClock } from '#platform/time'
import { testBase } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import { routeScopes } from '../http/authorize.ts'
import { audited, isolation, portalIsolation } from './isolation.ts'
import { metric, minutesAgo, startBilling, testSecret } from './kit.ts'

const by = { kind: 'system', name: 'test' } as const

/** Who may do what, by scope. Everyone else gets 401 without, 403 with a credential. */
const holders: Record<string, readonly string[]> = {
  'billaged:ingest': ['operator key', 'owner', 'operator', 'key with billaged:ingest', 'key with admin'],
  'billaged:read': [
    'operator key',
    'owner',
    'operator',
    'finance',
    'viewer',
    'tenant-admin',
    'tenant-viewer',
    'key with billaged:read',
    'key with admin',
  ],
  'billaged:bill': ['operator key', 'owner', 'operator', 'finance'],
  'billaged:admin': ['operator key', 'owner', 'operator', 'key with admin'],
}

test('G44: keys have scopes and one tenant or the installation; not yours and not there answer alike; acts are audited', async t => {
  await t.test('every route answers each kind of caller as the table says', table)
  await t.test(
    'on every route another tenant’s thing is answered like what is not there, and no list tells of it',
    isolation,
  )
  await t.test('a portal token reads one customer, and is no key', portalIsolation)
  await t.test('every act of an operator is in the audit', audited)
})

async function table(t: TestContext) {
  const { url: databaseUrl } = await testDatabase(t)
  const sql = openSql({ url: databaseUrl, max: 1, applicationName: 'test', log: testBase(t).log })
  t.after(() => sql.end({ timeout: 1 }))
  const tenancy = await openTenancy({ sql, secret: Buffer.from(testSecret), log: testBase(t).log, clock: systemClock })
  t.after(() => tenancy.close())
  const acme = await tenancy.tenants.ensure('acme', by)
  const keyWith = async (scope: string) =>
    (await tenancy.keys.create({ tenantId: acme.id, name: scope, scopes: [scope], format: 'hex64' }, by)).key
  const keys = {
    ingest: await keyWith('billaged:ingest'),
    read: await keyWith('billaged:read'),
    admin: await keyWith('admin'),
    ai: await keyWith('ai'),
  }
  const billing = await startBilling(t, { databaseUrl })
  for (const customerId of ['acme', 'globex'])
    await billing.rpc('SendMetricsBatch', { vmId: 'v', customerId, metrics: [metric(minutesAgo(5), 1n)] })
  await billing.usage('globex')

  const roleToken = (role: Role, tenant?: string) =>
    mintToken(Buffer.from(testSecret), {
      audience: 'billaged',
      role,
      subject: 'console',
      // All routes are asked with it, however long that takes.
      ttlS: 600,
      clock: systemClock,
      ...(tenant === undefined ? {} : { tenant }),
    })
  const credentials: Record<string, string | null> = {
    nobody: null,
    'a stranger': 'nonsense',
    'a label': 'dev_user_cli-user',
    'operator key': billing.key,
    ...Object.fromEntries((['owner', 'operator', 'finance', 'viewer'] as const).map(role => [role, roleToken(role)])),
    ...Object.fromEntries((['tenant-admin', 'tenant-viewer'] as const).map(role => [role, roleToken(role, 'acme')])),
    'key with billaged:ingest': keys.ingest,
    'key with billaged:read': keys.read,
    'key with admin': keys.admin,
    'key with ai': keys.ai,
    'a token for another service': mintToken(Buffer.from(testSecret), {
      audience: 'builderd',
      role: 'owner',
      subject: 'console',
      clock: systemClock,
    }),
  }
  const bodies: Record<string, () => unknown> = {
    'POST /api/v1/events': () => [{ specversion: '1.0', id: randomUUID(), source: '/t', type: 'x', subject: 'acme' }],
    'PUT /v1/customers/:id': () => ({ name: 'Acme' }),
    'POST /v1/preview': () => ({ customerId: 'acme' }),
    'POST /v1/plans': () => ({ id: randomUUID(), name: 'p' }),
  }
  for (const [route, scope] of Object.entries(routeScopes)) {
    const [method = '', pattern = ''] = route.split(' ')
    const isPlan = pattern.startsWith('/v1/plans')
    const path = pattern
      .replace(':id', isPlan ? 'example' : pattern.startsWith('/api/v1/meters') ? 'ai_cost' : 'acme')
      .replace(':key', 'model')
      .replace(':customer/:vm', 'acme/v')
      .replace('*', 'apps')
      .replace(':line', 'li_0')
      .replace(':period', '2020-01')
      .replace('/draft', '/draft?customer=acme&period=2026-01')
      .replace('/focus', '/focus?period=2026-01')
    // Here are no invoices and only one replica: whoever may ask is told so.
    const isThere =
      !/^\/v1\/(invoices|lines|replicas|quarantine|webhooks|webhooks\/deliveries|budgets)\/:|^\/api\/v1\/subjects\/:/.test(
        pattern,
      )
    for (const [who, credential] of Object.entries(credentials)) {
      if (scope === 'open' || scope === 'portal') continue
      const authorization = credential === null ? null : `Bearer ${credential}`
      const status = pattern.startsWith('/v1/stream/')
        ? await streamStatus(`${billing.url}${path}?customer=acme`, authorization)
        : (await billing.api(method, path, bodies[route]?.(), authorization)).status
      const isKnown = !['nobody', 'a stranger', 'a label', 'a token for another service'].includes(who)
      const isHolder = holders[scope]?.includes(who) ?? false
      const label = `${route} by ${who}: ${status}`
      if (!isKnown) assert.equal(status, 401, label)
      else if (!isHolder) assert.equal(status, 403, label)
      else if (!isThere && status === 404) continue
      // A built-in meter stays; an area that is not here says so.
      else if (pattern.startsWith('/api/v') && (status === 409 || status === 501)) continue
      else assert.ok(status < 300 || status === 400 || (status === 403 && who.startsWith('key with admin')), label)
    }
  }

  // A tenant names itself; what it is charged is not for it to say.
  const ownAdmin = `Bearer ${keys.admin}`
  assert.equal((await billing.api('PUT', '/v1/customers/acme', { name: 'Acme' }, ownAdmin)).status, 200)
  for (const patch of [
    { taxPpm: 0 },
    { taxName: null },
    { anchorDay: 2 },
    { intervalMonths: 3 },
    { name: 'A', taxPpm: 0 },
  ])
    assert.equal((await billing.api('PUT', '/v1/customers/acme', patch, ownAdmin)).status, 403, JSON.stringify(patch))

  // What belongs to another tenant looks like what does not exist.
  const tenantKey = `Bearer ${keys.read}`
  for (const path of [
    '/v1/customers/globex',
    '/v1/customers/nobody',
    '/v1/customers/globex/usage',
    '/v1/customers/globex/spend',
  ])
    assert.equal((await billing.api('GET', path, undefined, tenantKey)).status, 404, path)
  assert.equal((await billing.api('POST', '/v1/preview', { customerId: 'globex' }, tenantKey)).status, 404)
  const list = (await billing.api('GET', '/v1/customers', undefined, tenantKey)).body as { customers: { id: string }[] }
  assert.deepEqual(
    list.customers.map(customer => customer.id),
    ['acme'],
  )

  // INGEST_AUTH=strict: a key that may act for the customer, the operator key for whole hosts.
  const strict = await startBilling(t, { databaseUrl, env: { BILLAGED_INGEST_AUTH: 'strict' } })
  const send = (method: string, message: object, key: string | null) =>
    strict.rpc(method, message, key === null ? {} : { headers: { authorization: `Bearer ${key}` } })
  const batch = (customerId: string) => ({ vmId: 'v', customerId, metrics: [metric(minutesAgo(4), 1n)] })
  const cases: [string, object, string | null, number][] = [
    ['SendMetricsBatch', batch('acme'), null, 401],
    ['SendMetricsBatch', batch('acme'), 'dev_user_x', 401],
    ['SendMetricsBatch', batch('acme'), 'nonsense', 401],
    ['SendMetricsBatch', batch('acme'), keys.ingest, 200],
    ['SendMetricsBatch', batch(''), keys.ingest, 200],
    ['SendMetricsBatch', batch('globex'), keys.ingest, 403],
    ['SendMetricsBatch', batch('acme'), keys.read, 403],
    ['SendMetricsBatch', batch('globex'), strict.key, 200],
    ['SendHeartbeat', { instanceId: 'h', activeVms: [] }, keys.ingest, 403],
    ['SendHeartbeat', { instanceId: 'h', activeVms: [] }, strict.key, 200],
    ['NotifyVmStopped', { vmId: 'v', stopTime: `${minutesAgo(3)}` }, keys.ingest, 200],
  ]
  for (const [method, message, key, status] of cases)
    assert.equal((await send(method, message, key)).status, status, `${method} ${JSON.stringify(message)} ${status}`)
  // A notice without tenant, sent with a tenant's key, is that tenant's.
  await strict.usage('acme')
  const stops = await sql`select customer_id as id from billaged.vm_mark where kind = 'stop'`
  assert.deepEqual([...stops.map(row => row.id)], ['acme'])
}

/** Of an answer that never ends. */
async function streamStatus(url: string, authorization: string | null): Promise<number> {
  const response = await fetch(url, { headers: authorization === null ? {} : { authorization } })
  await response.body?.cancel()
  return response.status
}
