import assert from 'node:assert/strict'
import dns from 'node:dns/promises'
import { syncBuiltinESMExports } from 'node:module'
import test from 'node:test'
import { openTenancy } from '#platform/tenancy/tenancy'
import { testBase } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import type { WebhookEndpoint, WebhookTest } from '../alerts/api.ts'
import { type Billing, startBilling, temporaryFolder, testSecret } from './kit.ts'
import { receiveWebhooks } from './webhook-receiver.ts'

async function made<T>(reply: ReturnType<Billing['api']>): Promise<T> {
  const { status, body } = await reply
  assert.ok(status === 200 || status === 201, `${status} ${JSON.stringify(body)}`)
  return body as T
}

test('an address that a tenant gave leads into the internet alone unless WEBHOOK_ALLOW opens more; no redirect and no second look-up of a name leads anywhere else', async t => {
  let isRedirecting = false
  const hook = await receiveWebhooks(t, () => (isRedirecting ? 307 : 204))
  const { url: databaseUrl, sql } = await testDatabase(t)
  const tenancy = await openTenancy({
    sql,
    secret: Buffer.from(testSecret),
    log: testBase(t).log,
    clock: testBase(t).clock,
  })
  t.after(() => tenancy.close())
  const by = { kind: 'system', name: 'test' } as const
  const acme = await tenancy.tenants.ensure('acme', by)
  const scopes = ['billaged:read', 'billaged:admin']
  const { key } = await tenancy.keys.create({ tenantId: acme.id, name: 'k', scopes, format: 'hex64' }, by)
  const first = await startBilling(t, { databaseUrl })
  await first.api('POST', '/v1/subscriptions', { customerId: 'acme', planId: 'example', from: '2020-01-01T00:00:00Z' })
  const port = new URL(hook.url).port
  const make = async (billing: Billing, url: string, authorization?: string) =>
    made<WebhookEndpoint>(billing.api('POST', '/v1/webhooks', { url, customerId: 'acme' }, authorization))
  const tested = (billing: Billing, id: string) => made<WebhookTest>(billing.api('POST', `/v1/webhooks/${id}/test`))
  const tenants = `Bearer ${key}`

  // The operator's own receivers lie beside the service; a tenant's must not be taken there, by any spelling.
  const own = await make(first, hook.url)
  assert.deepEqual(await tested(first, own.id), { delivered: true, status: 204, problem: null })
  for (const host of [
    '127.0.0.1',
    'localhost',
    '[::1]',
    '10.1.2.3',
    '192.168.0.9',
    '[fd00::1]',
    '0.0.0.0',
    '0x7f000001',
  ]) {
    const { id } = await make(first, `http://${host}:${port}/`, tenants)
    assert.match((await tested(first, id)).problem ?? '', /private networks; WEBHOOK_ALLOW/, host)
  }
  // Whoever gives the address answers for it: a tenant that changes an operator's address makes it its own, and back.
  const change = (url: string, authorization?: string) =>
    made(first.api('PUT', `/v1/webhooks/${own.id}`, { url }, authorization))
  await change(`${hook.url}/x`, tenants)
  assert.equal((await tested(first, own.id)).delivered, false)
  await made(first.api('PUT', `/v1/webhooks/${own.id}`, { description: 'still the tenant’s' }))
  assert.equal((await tested(first, own.id)).delivered, false)
  await change(`${hook.url}/y`)
  assert.equal((await tested(first, own.id)).delivered, true)

  const allowed = await startBilling(t, {
    databaseUrl,
    dataDir: temporaryFolder(t),
    env: { BILLAGED_WEBHOOK_ALLOW: '127.0.0.0/8' },
  })
  const opened = await make(allowed, hook.url, tenants)
  assert.equal((await tested(allowed, opened.id)).delivered, true)

  isRedirecting = true
  assert.match((await tested(first, own.id)).problem ?? '', /redirects are not followed/)
  isRedirecting = false

  // A name that leads elsewhere the second time it is looked up: it is looked up once an attempt, and dialled as checked.
  let addresses = ['127.0.0.1']
  const looked = t.mock.method(dns, 'lookup', async () => addresses.map(address => ({ address, family: 4 })))
  syncBuiltinESMExports()
  t.after(() => {
    looked.mock.restore()
    syncBuiltinESMExports()
  })
  await change(`http://rebinding.test:${port}/`)
  assert.equal((await tested(first, own.id)).delivered, true)
  assert.equal(looked.mock.callCount(), 1)
  for (const answer of [['169.254.169.254'], ['127.0.0.1', '169.254.169.254']]) {
    addresses = answer
    assert.match((await tested(first, own.id)).problem ?? '', /WEBHOOK_DENY forbids it: rebinding.test leads to 169/)
  }
})
