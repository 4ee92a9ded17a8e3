import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import type { TestContext } from 'node:test'
import { openSql } from '#platform/postgres'
import { openTenancy } from '#platform/tenancy/tenancy'
import { systemClock } from '#platform/time'
import { testBase } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import { routeScopes } from '../http/authorize.ts'
import { type Billing, metric, minuteNs, minutesAgo, startBilling, testSecret } from './kit.ts'

// Two tenants, and the whole table of routes asked with the key of one about the other. For each route there is one
// question about what the other tenant has and one about what nobody has: the answers must not differ.

/** Names of one customer's things, as they stand in paths and bodies. */
interface Names {
  customer: string
  vm: string
  invoice: string
  line: string
  webhook: string
  delivery: string
  token: string
}

const month = Temporal.Now.zonedDateTimeISO('UTC').with({ day: 1 }).startOfDay().subtract({ months: 1 })
const monthName = month.toPlainDate().toString().slice(0, 7)
const secretName = 'Globex Secret'

export async function isolation(t: TestContext) {
  const { billing, names, nobody, key } = await twoTenants(t)
  const before = await objectsOf(billing, names)
  const scopes = Object.entries(routeScopes).filter(([, scope]) => scope !== 'open' && scope !== 'portal')
  for (const [route] of scopes) {
    const [yours, nothing] = [await ask(billing, route, names, key), await ask(billing, route, nobody, key)]
    assert.deepEqual(yours, nothing, route)
    assert.ok(!yours.text.includes(secretName), route)
  }
  // Asked about nobody in particular, lists have the caller's own only.
  for (const [route] of scopes) {
    const [method = '', pattern = ''] = route.split(' ')
    if (method !== 'GET' || pattern.includes(':') || pattern.includes('*') || pattern.startsWith('/v1/stream')) continue
    const query = pattern === '/v1/exports/focus' ? `?period=${monthName}` : ''
    const { status, body } = await billing.api('GET', pattern + query, undefined, key)
    assert.ok(!/globex/i.test(JSON.stringify(body)), `${route} ${status}`)
    const own = await billing.api('GET', pattern + query)
    assert.ok(own.status < 500, route)
  }
  assert.deepEqual(await objectsOf(billing, names), before)
}

export async function portalIsolation(t: TestContext) {
  const { billing, names, nobody } = await twoTenants(t)
  const made = await billing.api('POST', '/v1/portal/tokens', { customerId: 'acme' })
  const { token, link } = made.body as { token: string; link: string }
  assert.equal(link, `/portal#${token}`)
  const bearer = `Bearer ${token}`
  for (const [route, scope] of Object.entries(routeScopes)) {
    const [method = '', pattern = ''] = route.split(' ')
    if (scope === 'open') continue
    if (scope !== 'portal') {
      // To everything else it is an unknown key.
      assert.equal((await ask(billing, route, names, bearer)).status, 401, route)
      continue
    }
    for (const credential of [null, 'Bearer nonsense', `Bearer ${billing.key}`, `${bearer}x`])
      assert.equal((await ask(billing, route, names, credential)).status, 401, route)
    const [yours, nothing] = [await ask(billing, route, names, bearer), await ask(billing, route, nobody, bearer)]
    assert.deepEqual(yours, nothing, route)
    assert.ok(!/globex/i.test(yours.text), route)
    if (!pattern.includes(':')) assert.equal(yours.status, 200, `${method} ${pattern}`)
    else if (pattern !== '/api/v1/portal/meters/:slug/query') assert.equal(yours.status, 404, route)
  }
  // Nor by a name that leads elsewhere.
  for (const vm of ['..%2f..%2fglobex%2fglobex-vm', '%2e%2e/globex', 'x%3fcustomer=globex', 'vm%23'])
    for (const end of ['', '/timeline']) {
      const reply = await billing.api(
        'GET',
        `/v1/portal/vms/${vm}${end}?customer=globex&customerId=globex`,
        undefined,
        bearer,
      )
      assert.equal(reply.status, 404, vm)
    }
  const spend = await billing.api('GET', '/v1/portal/spend?customer=globex&id=globex', undefined, bearer)
  assert.equal((spend.body as { customerId: string }).customerId, 'acme')
}

/** Each act, by operator key, with what it takes; each adds to the audit. */
export async function audited(t: TestContext) {
  const { billing, names, sql } = await twoTenants(t)
  for (const id of ['old-1', 'old-2'])
    await billing.api('POST', '/api/v1/events', [
      { specversion: '1.0', id, source: '/t', type: 'x', subject: 'globex', time: '2001-01-01T00:00:00Z' },
    ])
  await billing.usage('globex')
  const { items } = (await billing.api('GET', '/v1/quarantine')).body as { items: { id: string }[] }
  const [first, second] = items
  const lost = randomUUID()
  await sql`insert into billaged.replica (id) values (${lost})`
  await billing.api('POST', '/api/v1/events', [
    { specversion: '1.0', id: 'd', source: '/t', type: 'x', subject: 'device' },
  ])
  await billing.usage('device')
  const meter = { slug: 'm', eventType: 'x', aggregation: 'COUNT' }
  const version = { effectiveFrom: '2020-01-01T00:00:00Z', prices: [] }
  const acts: [route: string, path: string, body?: object][] = [
    ['PUT /v1/customers/:id', '/v1/customers/acme', { name: 'Acme' }],
    ['POST /api/v1/meters', '/api/v1/meters', meter],
    ['PUT /api/v1/meters/:id', '/api/v1/meters/m', { name: 'M' }],
    ['DELETE /api/v1/meters/:id', '/api/v1/meters/m'],
    ['POST /api/v1/subjects', '/api/v1/subjects', [{ key: 'device', customerId: 'acme' }]],
    ['DELETE /api/v1/subjects/:id', '/api/v1/subjects/device'],
    ['POST /v1/events/void', '/v1/events/void', { source: '/t', id: 'd', reason: 'r' }],
    ['POST /v1/plans', '/v1/plans', { id: 'p', name: 'p' }],
    ['POST /v1/plans/:id/versions', '/v1/plans/p/versions', version],
    [
      'POST /v1/subscriptions',
      '/v1/subscriptions',
      { customerId: 'acme', planId: 'p', from: month.toInstant().toString() },
    ],
    ['POST /v1/subscriptions/:id/end', 'the subscription', { at: '2040-01-01T00:00:00Z' }],
    ['POST /v1/credits', '/v1/credits', { customerId: 'acme', kind: 'prepaid', amountNano: '1' }],
    ['POST /v1/budgets', '/v1/budgets', { customerId: 'acme', budgetNano: '1' }],
    ['DELETE /v1/budgets/:id', '/v1/budgets/acme'],
    ['PUT /v1/customers/:id/stripe', '/v1/customers/acme/stripe', { stripeCustomerId: 'cus_1' }],
    ['POST /v1/webhooks', '/v1/webhooks', { url: 'http://127.0.0.1:9/' }],
    ['PUT /v1/webhooks/:id', `/v1/webhooks/${names.webhook}`, { enabled: true }],
    ['POST /v1/webhooks/:id/test', `/v1/webhooks/${names.webhook}/test`],
    ['POST /v1/webhooks/deliveries/:id/replay', `/v1/webhooks/deliveries/${names.delivery}/replay`],
    ['DELETE /v1/webhooks/:id', `/v1/webhooks/${names.webhook}`],
    ['POST /v1/portal/tokens', '/v1/portal/tokens', { customerId: 'acme' }],
    ['POST /v1/portal/tokens/invalidate', '/v1/portal/tokens/invalidate', { subject: 'acme' }],
    ['POST /api/v1/portal/tokens', '/api/v1/portal/tokens', { subject: 'acme' }],
    ['POST /api/v1/portal/tokens/invalidate', '/api/v1/portal/tokens/invalidate', { subject: 'acme' }],
    ['POST /v1/quarantine/:id/release', `/v1/quarantine/${first?.id}/release`],
    ['POST /v1/quarantine/:id/discard', `/v1/quarantine/${second?.id}/discard`],
    ['POST /v1/replicas/:id/retire', `/v1/replicas/${lost}/retire`],
    ['POST /v1/invoices/:id/void', `/v1/invoices/${names.invoice}/void`, { reason: 'r' }],
    ['POST /v1/invoices/:id/finalise', 'the replacement', { force: { reason: 'released just now' } }],
    ['POST /v1/close/:period', `/v1/close/${monthName}`, { customers: ['acme'], force: { reason: 'test' } }],
  ]
  const covered = new Set(acts.map(([route]) => route))
  const changing = Object.entries(routeScopes).filter(
    ([route, scope]) => !route.startsWith('GET') && (scope === 'billaged:admin' || scope === 'billaged:bill'),
  )
  // These work something out, store nothing and change nothing.
  const questions = ['POST /v1/preview/compare', 'POST /v1/reconcile', 'POST /v1/verify']
  // Needs an outage; outages.test.ts has one, and looks into the audit.
  const elsewhere = ['POST /v1/outages/credit']
  assert.deepEqual(
    changing
      .map(([route]) => route)
      .filter(route => !covered.has(route) && ![...questions, ...elsewhere].includes(route)),
    [],
  )
  let [replacement, subscription] = ['', '']
  for (const [route, path, body] of acts) {
    const count = async () => (await sql<{ n: number }[]>`select count(*)::int4 as n from tenancy.audit`)[0]?.n ?? 0
    const beforeAct = await count()
    const targets: Record<string, string> = {
      'the replacement': `/v1/invoices/${replacement}/finalise`,
      'the subscription': `/v1/subscriptions/${subscription}/end`,
    }
    const target = targets[path] ?? path
    const reply = await billing.api(route.split(' ')[0] ?? '', target, body)
    assert.ok(reply.status < 300, `${route} ${reply.status} ${JSON.stringify(reply.body)}`)
    if (route === 'POST /v1/invoices/:id/void') replacement = (reply.body as { replacement: string }).replacement
    if (route === 'POST /v1/subscriptions') subscription = (reply.body as { id: string }).id
    const rows = await count()
    assert.ok(rows > beforeAct, `${route} leaves no trace`)
    const [last] = await sql<{ body: string }[]>`select body from tenancy.audit order by seq desc limit 1`
    assert.equal(JSON.parse(last?.body ?? '{}').actor.name, 'operator key', route)
  }
}

async function twoTenants(t: TestContext) {
  const { url: databaseUrl } = await testDatabase(t)
  const sql = openSql({ url: databaseUrl, max: 1, applicationName: 'test', log: testBase(t).log })
  t.after(() => sql.end({ timeout: 1 }))
  const tenancy = await openTenancy({ sql, secret: Buffer.from(testSecret), log: testBase(t).log, clock: systemClock })
  t.after(() => tenancy.close())
  const by = { kind: 'system', name: 'test' } as const
  const acme = await tenancy.tenants.ensure('acme', by)
  // Every scope there is: only whose things they are can make a difference.
  const made = await tenancy.keys.create(
    { tenantId: acme.id, name: 'all', scopes: ['billaged:*'], format: 'hex64' },
    by,
  )
  const billing = await startBilling(t, { databaseUrl })
  const startNs = month.toInstant().epochNanoseconds
  for (const customerId of ['acme', 'globex']) {
    const vmId = `${customerId}-vm`
    const metrics = [1n, 2n].map(n => metric(startNs + n * minuteNs, n))
    await billing.rpc('SendMetricsBatch', { vmId, customerId, metrics })
    await billing.rpc('SendMetricsBatch', { vmId, customerId, metrics: [metric(minutesAgo(2), 3n)] })
    await billing.usage(customerId)
  }
  const ok = async <T>(method: string, path: string, body?: object): Promise<T> => {
    const reply = await billing.api(method, path, body)
    assert.ok(reply.status < 300, `${path} ${JSON.stringify(reply.body)}`)
    return reply.body as T
  }
  await ok('PUT', '/v1/customers/globex', { name: secretName })
  await ok('POST', '/v1/subscriptions', { customerId: 'globex', planId: 'example', from: month.toInstant().toString() })
  await ok('POST', '/v1/budgets', { customerId: 'globex', budgetNano: '1000' })
  await ok('POST', '/v1/credits', { customerId: 'globex', kind: 'prepaid', amountNano: '7', note: secretName })
  // A port nobody listens on: the delivery stays pending.
  const webhook = await ok<{ id: string }>('POST', '/v1/webhooks', {
    customerId: 'globex',
    url: 'http://127.0.0.1:9/globex',
  })
  const event = { specversion: '1.0', id: 'globex-event', source: '/t', type: 'x', subject: 'globex' }
  await billing.api('POST', '/api/v1/events', [event])
  const { finalised } = await ok<{ finalised: string[] }>('POST', `/v1/close/${monthName}`, {
    customers: ['globex'],
    force: { reason: 'test' },
  })
  const invoice = finalised[0] ?? ''
  const { lines } = await ok<{ lines: { id: string }[] }>('GET', `/v1/invoices/${invoice}`)
  const { deliveries } = await ok<{ deliveries: { id: string }[] }>('GET', '/v1/webhooks/deliveries')
  const token = await ok<{ id: string }>('POST', '/v1/portal/tokens', { customerId: 'globex' })
  const names: Names = {
    customer: 'globex',
    vm: 'globex-vm',
    invoice,
    line: lines[0]?.id ?? '',
    webhook: webhook.id,
    delivery: deliveries[0]?.id ?? '',
    token: token.id,
  }
  const nobody: Names = {
    customer: 'nobody',
    vm: 'nobody-vm',
    invoice: 'inv_0000000000000000000000000',
    line: 'li_0000000000000000000000000',
    webhook: `wh_${'0'.repeat(32)}`,
    delivery: `whd_${'0'.repeat(32)}`,
    token: `pt_${'0'.repeat(32)}`,
  }
  assert.ok(Object.values(names).every(name => name !== ''))
  return { billing, names, nobody, key: `Bearer ${made.key}`, sql }
}

/** What the other tenant has, to see that nobody touched it. */
async function objectsOf(billing: Billing, names: Names) {
  const paths = [
    `/v1/customers/${names.customer}`,
    `/v1/invoices/${names.invoice}`,
    `/v1/webhooks/${names.webhook}`,
    `/v1/portal/tokens?customer=${names.customer}`,
    `/v1/subscriptions?customerId=${names.customer}`,
    `/v1/budgets`,
    `/api/v1/events?subject=${names.customer}`,
  ]
  return Promise.all(paths.map(async path => (await billing.api('GET', path)).body))
}

async function ask(billing: Billing, route: string, names: Names, authorization: string | null) {
  const [method = '', pattern = ''] = route.split(' ')
  const path = pathOf(pattern, names)
  const body = method === 'GET' || method === 'DELETE' ? undefined : bodyOf(route, names)
  const response = await fetch(billing.url + path, {
    method,
    headers: {
      ...(authorization === null ? {} : { authorization }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  const isStream = response.headers.get('content-type')?.startsWith('text/event-stream') ?? false
  if (isStream) await response.body?.cancel()
  const text = isStream ? 'a stream' : await response.text()
  return { status: response.status, type: response.headers.get('content-type'), text: neutral(text, names) }
}

/** Without what the caller said itself, and without the time. */
function neutral(text: string, names: Names): string {
  const known = Object.values(names).reduce((rest, name) => rest.replaceAll(name, '@'), text)
  return known
    .replace(/"requestId":"[^"]*"/g, '"requestId":"@"')
    .replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/g, '@time')
    .replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, '@uuid')
}

function pathOf(pattern: string, names: Names): string {
  const id = pattern.startsWith('/v1/webhooks/deliveries')
    ? names.delivery
    : /^(\/v1)?(\/portal)?\/invoices|^\/v1\/portal\/invoices/.test(pattern)
      ? names.invoice
      : pattern.startsWith('/v1/webhooks')
        ? names.webhook
        : pattern.startsWith('/v1/plans')
          ? 'example'
          : pattern.startsWith('/api/v1/meters')
            ? 'vm_cpu'
            : pattern.startsWith('/v1/replicas')
              ? '00000000-0000-4000-8000-000000000000'
              : pattern.startsWith('/v1/quarantine') || pattern.startsWith('/v1/subscriptions')
                ? '1'
                : names.customer
  const path = pattern
    .replace(':id', id)
    .replace(':customer', names.customer)
    .replace(':vm', names.vm)
    .replace(':line', names.line)
    .replace(':key', 'model')
    .replace(':slug', 'vm_cpu')
    .replace(':period', monthName)
    .replace('*', 'apps')
  // Whatever name the route has for it.
  const customer = encodeURIComponent(names.customer)
  const query = `customer=${customer}&customerId=${customer}&subject=${customer}&filterCustomerId=${customer}&period=${monthName}&webhook=${names.webhook}`
  return pattern.includes('/meters/:id/query') || pattern.includes(':slug')
    ? `${path}?subject=${customer}&filterCustomerId=${customer}`
    : `${path}?${query}`
}

function bodyOf(route: string, names: Names): unknown {
  const { customer } = names
  const event = {
    specversion: '1.0',
    id: 'intruder',
    source: '/t',
    type: 'x',
    subject: customer,
    time: '2026-11-01T00:00:00Z',
  }
  const bodies: Record<string, unknown> = {
    'POST /api/v1/events': [event],
    'PUT /v1/customers/:id': { name: 'Taken' },
    'POST /v1/preview': { customerId: customer },
    'POST /v1/webhooks': { customerId: customer, url: 'http://127.0.0.1:9/' },
    'PUT /v1/webhooks/:id': { enabled: false },
    'POST /v1/portal/tokens': { customerId: customer },
    'POST /v1/portal/tokens/invalidate': { subject: customer },
    'POST /api/v1/portal/tokens': { subject: customer },
    'POST /api/v1/portal/tokens/invalidate': { id: names.token },
    'POST /api/v1/meters/:id/query': { subject: [customer] },
    'POST /v1/budgets': { customerId: customer, budgetNano: '1' },
    'POST /v1/credits': { customerId: customer, kind: 'prepaid', amountNano: '1' },
    'POST /api/v1/subjects': [{ key: customer, customerId: 'acme' }],
    'POST /v1/invoices/:id/void': { reason: 'r' },
    'POST /v1/subscriptions': { customerId: customer, planId: 'example', from: '2020-01-01T00:00:00Z' },
    'POST /v1/subscriptions/:id/end': { at: '2040-01-01T00:00:00Z' },
    'POST /v1/events/void': { source: '/t', id: `${customer}-event`, reason: 'r' },
  }
  return bodies[route] ?? {}
}
