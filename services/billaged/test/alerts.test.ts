import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { Webhook } from 'standardwebhooks'
import { openSql } from '#platform/postgres'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { Budget, SpendAlert, WebhookDelivery, WebhookEndpoint, WebhookTest } from '../alerts/api.ts'
import { reachedPercents } from '../alerts/thresholds.ts'
import type { Spend } from '../api.ts'
import { webhooksChannel } from '../store/webhooks.ts'
import { giveUpAfterMs, retryDelayMs } from '../webhooks/backoff.ts'
import { type Billing, metric, midPeriod, minutesAgo, startBilling } from './kit.ts'
import { receiveWebhooks } from './webhook-receiver.ts'

const quick = { BILLAGED_AGGREGATION_INTERVAL: '100ms' }

async function made<T>(reply: ReturnType<Billing['api']>): Promise<T> {
  const { status, body } = await reply
  assert.ok(status === 200 || status === 201, `${status} ${JSON.stringify(body)}`)
  return body as T
}

/** A customer whose plan charges 1,000 nano-units a byte received. */
async function subscribe(billing: Billing, customerId: string, from = '2020-01-01T00:00:00Z') {
  await billing.rpc('SendMetricsBatch', { vmId: 'vm', customerId, metrics: [metric(minutesAgo(9), 1n)] })
  await billing.usage(customerId)
  const id = `plan-${customerId}`
  await made(billing.api('POST', '/v1/plans', { id, name: id }))
  const prices = [{ id: 'net', model: 'per_unit', meter: 'vm_net_rx', per: '1', amountNano: '1000' }]
  const version = { effectiveFrom: '2020-01-01T00:00:00Z', prices, unbilled: ['vm_cpu', 'vm_memory'] }
  await made(billing.api('POST', `/v1/plans/${id}/versions`, version))
  await made(billing.api('POST', '/v1/subscriptions', { customerId, planId: id, from }))
}

/** Brings the bytes of the running period to `bytes`. */
async function use(billing: Billing, customerId: string, bytes: bigint, minute: number) {
  const metrics = [
    metric(minutesAgo(9), 1n, { networkRxBytes: '0' }),
    metric(minutesAgo(minute), 2n, { networkRxBytes: `${bytes}` }),
  ]
  assert.equal((await billing.rpc('SendMetricsBatch', { vmId: 'vm', customerId, metrics })).status, 200)
  await billing.usage(customerId)
}

const alertsOf = async (billing: Billing, customerId: string) =>
  (await made<{ alerts: SpendAlert[] }>(billing.api('GET', `/v1/alerts?customer=${customerId}`))).alerts

test('G43: thresholds fire once a customer, period and percent, through restarts and replicas, at what the invoice would say', async t => {
  const hook = await receiveWebhooks(t)
  const billing = await startBilling(t, { env: quick })
  const other = await startBilling(t, { env: quick, databaseUrl: billing.databaseUrl })
  for (const customerId of ['acme', 'globex']) {
    await midPeriod(billing, customerId)
    await subscribe(billing, customerId)
  }
  const endpoint = await made<WebhookEndpoint>(
    billing.api('POST', '/v1/webhooks', { url: `${hook.url}/hook`, types: ['spend.threshold_reached'] }),
  )
  assert.match(endpoint.secret ?? '', /^whsec_/)
  await use(billing, 'acme', 499n, 8)
  await use(billing, 'globex', 10n, 8)
  const budget = await made<Budget>(
    billing.api('POST', '/v1/budgets', { customerId: 'acme', budgetNano: '1000000', stopRequestedAtFull: true }),
  )
  assert.deepEqual([budget.alertPercents, budget.firedPercents], [[50, 75, 100], []])

  // One nano-unit below is below: several looks later nothing has fired.
  await looks(billing, 2)
  assert.deepEqual(await alertsOf(billing, 'acme'), [])

  await use(billing, 'acme', 760n, 7)
  const two = await pollUntil(
    async () => {
      const alerts = await alertsOf(billing, 'acme')
      return alerts.length === 2 && alerts
    },
    { what: 'two thresholds' },
  )
  const spend = await made<Spend>(billing.api('GET', '/v1/customers/acme/spend'))
  assert.deepEqual(
    two.map(alert => [alert.thresholdPercent, alert.spentNano, alert.action]),
    [
      [50, spend.totalNano, undefined],
      [75, spend.totalNano, undefined],
    ],
  )

  // A restart, and another budget that is reached anew: what fired stays fired.
  await billing.close()
  const again = await startBilling(t, { env: quick, databaseUrl: billing.databaseUrl, dataDir: billing.dataDir })
  await made(again.api('POST', '/v1/budgets', { customerId: 'acme', budgetNano: '1000001' }))
  await use(again, 'acme', 2_000n, 6)
  const three = await pollUntil(
    async () => {
      const alerts = await alertsOf(again, 'acme')
      return alerts.length === 3 && alerts
    },
    { what: 'the whole budget' },
  )
  assert.deepEqual([three[2]?.thresholdPercent, three[2]?.action], [100, 'stop_requested'])
  await looks(again, 1)
  await again.close()
  await looks(other, 1)
  assert.equal((await alertsOf(other, 'acme')).length, 3)

  // Each was told once, signed as Standard Webhooks has it, whoever fired it.
  const told = () => hook.received.filter(one => one.data.customerId === 'acme')
  await pollUntil(() => told().length === 3, { what: 'three webhooks' })
  const verifier = new Webhook(endpoint.secret ?? '')
  for (const { body, headers } of told()) verifier.verify(body, headers)
  assert.throws(() => verifier.verify(`${told()[0]?.body} `, told()[0]?.headers ?? {}))
  assert.deepEqual(
    told()
      .map(one => one.data.thresholdPercent)
      .toSorted(),
    [100, 50, 75],
  )
  assert.equal(new Set(hook.received.map(one => one.headers['webhook-id'])).size, hook.received.length)
  const fired = await Promise.all(
    [billing, other, again].map(async one => one.base.registry.getSingleMetric('billaged_spend_alerts_total')?.get()),
  )
  const counted = fired.flatMap(metric => metric?.values ?? []).reduce((sum, { value }) => sum + value, 0)
  assert.equal(counted, 3 + percent)
})

let percent = 0
/** Waits until the budgets were surely looked at that often: globex reaches a new threshold each time. */
async function looks(billing: Billing, times: number) {
  for (let i = 0; i < times; i++) {
    percent++
    await made(billing.api('POST', '/v1/budgets', { customerId: 'globex', budgetNano: '1', alertPercents: [percent] }))
    await pollUntil(async () => (await alertsOf(billing, 'globex')).at(-1)?.thresholdPercent === percent, {
      what: 'a look at the budgets',
    })
  }
}

test('a threshold is reached at its last nano-unit and not before, for any amounts', () => {
  const amount = fc.bigInt({ min: 1n, max: 10n ** 30n })
  fc.assert(
    fc.property(amount, amount, fc.array(fc.integer({ min: 1, max: 1000 })), (spent, budget, percents) => {
      const reached = new Set(reachedPercents(spent, budget, percents))
      for (const percent of percents) {
        const neededNano = (budget * BigInt(percent) + 99n) / 100n
        assert.equal(reached.has(percent), spent >= neededNano)
      }
    }),
  )
})

test('a webhook that fails is tried again later under the same id, given up after three days, and replayed by hand', async t => {
  let nowMs = Date.now()
  const clock = { now: () => nowMs, monotonicMs: () => performance.now() }
  let isWell = false
  const hook = await receiveWebhooks(t, () => (isWell ? 200 : 503))
  const billing = await startBilling(t, { env: quick, clock })
  await midPeriod(billing, 'acme')
  await subscribe(billing, 'acme')
  // Only these: usage without a price is told as well, whenever the look at it happens to come.
  const { id, secret } = await made<WebhookEndpoint>(
    billing.api('POST', '/v1/webhooks', { url: hook.url, types: ['spend.threshold_reached'] }),
  )
  await use(billing, 'acme', 60n, 8)
  await made(billing.api('POST', '/v1/budgets', { customerId: 'acme', budgetNano: '100000', alertPercents: [50] }))
  const sql = openSql({ url: billing.databaseUrl, max: 1, applicationName: 'test', log: billing.base.log })
  t.after(() => sql.end({ timeout: 1 }))
  const delivery = async () => {
    const { deliveries } = await made<{ deliveries: WebhookDelivery[] }>(
      billing.api('GET', `/v1/webhooks/deliveries?webhook=${id}`),
    )
    return deliveries[0]
  }
  let attempts = 0
  for (;;) {
    attempts++
    const tried = await pollUntil(
      async () => {
        // Counted when its outcome is stored. The row alone does not tell: claimed, it is due in 30 s, as after a second failure.
        const { retried = 0, failed = 0 } = await outcomesOf(billing)
        return retried + failed === attempts && (await delivery())
      },
      { what: `attempt ${attempts}`, everyMs: 20 },
    )
    assert.deepEqual([tried.lastStatus, tried.lastProblem], [503, 'answered 503'])
    assert.equal(tried.attempts, attempts)
    if (tried.state === 'failed') break
    assert.equal(Date.parse(tried.nextAt ?? ''), nowMs + retryDelayMs(attempts))
    nowMs = Date.parse(tried.nextAt ?? '')
    // As an announcement would: instead of the look that comes every second.
    await sql`select pg_notify(${webhooksChannel}, '')`
  }
  const delays = Array.from({ length: attempts }, (_, i) => retryDelayMs(i + 1))
  assert.ok(delays.reduce((sum, ms) => sum + ms, 0) > giveUpAfterMs && delays.at(-1) === 6 * 3_600_000)
  assert.equal(delays[0], 5_000)
  assert.equal(new Set(hook.received.map(one => one.headers['webhook-id'])).size, 1)
  assert.equal(new Set(hook.received.map(one => one.headers['webhook-timestamp'])).size, attempts)

  isWell = true
  const { id: deliveryId } = (await delivery()) ?? { id: '' }
  await made(billing.api('POST', `/v1/webhooks/deliveries/${deliveryId}/replay`))
  await pollUntil(async () => (await delivery())?.state === 'delivered', { what: 'the replay' })
  assert.equal(hook.received.length, attempts + 1)
  assert.equal(hook.received.at(-1)?.body, hook.received[0]?.body)

  // A test message, a new secret, and no more.
  const tested = await made<WebhookTest>(billing.api('POST', `/v1/webhooks/${id}/test`))
  assert.deepEqual(tested, { delivered: true, status: 200, problem: null })
  assert.equal(hook.received.at(-1)?.type, 'webhook.test')
  const rotated = await made<WebhookEndpoint>(billing.api('PUT', `/v1/webhooks/${id}`, { rotateSecret: true }))
  assert.notEqual(rotated.secret, secret)
  await made(billing.api('POST', `/v1/webhooks/${id}/test`))
  const last = hook.received.at(-1)
  // The driven clock is days ahead of the verifier's: only signature errors count here.
  assert.throws(() => new Webhook(rotated.secret ?? '').verify(last?.body ?? '', last?.headers ?? {}), /timestamp/)
  assert.equal((await billing.api('DELETE', `/v1/webhooks/${id}`)).status, 204)
  assert.equal((await billing.api('POST', `/v1/webhooks/${id}/test`)).status, 404)
  assert.deepEqual(await outcomesOf(billing), { delivered: 1, retried: attempts - 1, failed: 1 })
})

async function outcomesOf(billing: Billing): Promise<Record<string, number>> {
  const counter = await billing.base.registry.getSingleMetric('billaged_webhook_deliveries_total')?.get()
  return Object.fromEntries((counter?.values ?? []).map(({ labels, value }) => [labels.outcome, value]))
}

test('webhooks never reach metadata services, and addresses that are none are refused', async t => {
  const billing = await startBilling(t)
  for (const url of ['http://169.254.169.254/latest', 'http://[::ffff:169.254.169.254]/', 'http://[fe80::1]/']) {
    const { id } = await made<WebhookEndpoint>(billing.api('POST', '/v1/webhooks', { url }))
    const tested = await made<WebhookTest>(billing.api('POST', `/v1/webhooks/${id}/test`))
    assert.match(tested.problem ?? '', /WEBHOOK_DENY forbids it/)
  }
  for (const [body, field] of [
    [{ url: 'ftp://example.org' }, 'url'],
    [{ url: 'nowhere' }, 'url'],
    [{ url: 'http://example.org', types: ['spend'] }, 'types'],
  ] as const) {
    const reply = await billing.api('POST', '/v1/webhooks', body)
    assert.equal(reply.status, 400)
    assert.match((reply.body as { detail: string }).detail, new RegExp(`^${field}`))
  }
  for (let i = 3; i < 20; i++) await made(billing.api('POST', '/v1/webhooks', { url: 'http://example.org' }))
  assert.equal((await billing.api('POST', '/v1/webhooks', { url: 'http://example.org' })).status, 409)
})

test('closes, corrections, usage without a price and silent hosts are told, each once; a tenant hears its own only', async t => {
  const hook = await receiveWebhooks(t)
  const first = await startBilling(t)
  const month = (back: number) =>
    Temporal.Now.zonedDateTimeISO('UTC').with({ day: 1 }).startOfDay().subtract({ months: back })
  const read = async (billing: Billing, customerId: string, back: number, vmId: string) => {
    const atNs = month(back).toInstant().epochNanoseconds
    const metrics = [0n, 7n].map(n => metric(atNs + n * 10_000_000_000n, 1n + n, { networkRxBytes: `${n}` }))
    await billing.rpc('SendMetricsBatch', { vmId, customerId, metrics })
    await billing.usage(customerId)
  }
  await subscribe(first, 'acme', month(2).toInstant().toString())
  await made(first.api('POST', '/v1/webhooks', { url: `${hook.url}/all` }))
  await made(first.api('POST', '/v1/webhooks', { url: `${hook.url}/acme`, customerId: 'acme' }))
  await read(first, 'acme', 2, 'vm')
  const two = month(2).toPlainDate().toString().slice(0, 7)
  await made(first.api('POST', `/v1/close/${two}`, { customers: ['acme'] }))
  await read(first, 'acme', 2, 'late')
  await read(first, 'globex', 1, 'vm')
  await read(first, 'globex', 0, 'vm-now')
  await first.close()

  // The first sweep of the next life closes what it can.
  const billing = await startBilling(t, {
    env: { ...quick, BILLAGED_HEARTBEAT_LEASE: '1s', BILLAGED_CLOSE_GRACE: '1s' },
    databaseUrl: first.databaseUrl,
    dataDir: first.dataDir,
  })
  await billing.rpc('SendHeartbeat', { instanceId: 'host-1', activeVms: ['vm'] })
  const expected = {
    '/acme': ['invoice.adjusted', 'invoice.finalised', 'invoice.finalised'],
    '/all': [
      'close.blocked',
      'host.down',
      'invoice.adjusted',
      'invoice.finalised',
      'invoice.finalised',
      ...Array(2).fill('usage.unrated'),
    ],
  }
  const told = (path: string) => hook.received.filter(one => one.path === path)
  const types = (path: string) =>
    told(path)
      .map(one => one.type)
      .toSorted()
  await pollUntil(() => told('/all').length >= 7 && types('/all').includes('host.down'), {
    what: 'all kinds of messages',
  })
  assert.deepEqual([types('/acme'), types('/all')], [expected['/acme'], expected['/all']])
  const of = (type: string) => told('/all').find(one => one.type === type)?.data
  assert.match(String(of('invoice.finalised')?.number), /^INV-/)
  assert.equal(of('invoice.adjusted')?.adjustedNano, '7000')
  assert.equal(of('host.down')?.instanceId, 'host-1')
  assert.equal(of('close.blocked')?.customerId, 'globex')
  assert.ok(told('/acme').every(one => one.data.customerId === 'acme'))
})
