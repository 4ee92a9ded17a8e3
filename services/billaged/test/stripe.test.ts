import assert from 'node:assert/strict'
import test, { type TestContext } from 'node:test'
import fc from 'fast-check'
import Stripe from 'stripe'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { CloseReport, Invoice } from '../api.ts'
import { itemsOf } from '../stripe/items.ts'
import { startFakeStripe } from './fake-stripe.ts'
import { type Billing, metric, minuteNs, startBilling } from './kit.ts'

const month = Temporal.Now.zonedDateTimeISO('UTC').with({ day: 1 }).startOfDay().subtract({ months: 1 })
const monthName = month.toPlainDate().toString().slice(0, 7)
const startNs = month.toInstant().epochNanoseconds
const webhookSecret = 'whsec_test_secret'

async function ok<T>(reply: ReturnType<Billing['api']>): Promise<T> {
  const { status, body } = await reply
  assert.ok(status < 300, `${status} ${JSON.stringify(body)}`)
  return body as T
}

/** `wallShare` 1: the wall clock goes along; 0: it does not, as where Stripe checks times. */
async function start(t: TestContext, stripeUrl: string, wallShare: 0 | 1, env: Record<string, string> = {}) {
  // After each try time passes: an unreachable Stripe is left alone for a while.
  let aheadMs = 0
  const clock = { now: () => Date.now() + aheadMs * wallShare, monotonicMs: () => performance.now() + aheadMs }
  const billing = await startBilling(t, {
    clock,
    env: {
      BILLAGED_STRIPE_API_KEY: 'sk_test_fake',
      BILLAGED_STRIPE_API_BASE: stripeUrl,
      BILLAGED_AGGREGATION_INTERVAL: '100ms',
      // Only we close here.
      BILLAGED_CLOSE_GRACE: '8760h',
      ...env,
    },
  })
  await ok(billing.api('POST', '/v1/plans', { id: 'std', name: 'Standard' }))
  const prices = [
    { id: 'base', model: 'flat', amountNano: '5004000000' },
    { id: 'cpu', model: 'per_unit', meter: 'vm_cpu', per: '3600000000000', amountNano: '100000003' },
  ]
  await ok(
    billing.api('POST', '/v1/plans/std/versions', {
      effectiveFrom: '2020-01-01T00:00:00Z',
      prices,
      unbilled: ['vm_memory'],
    }),
  )
  return {
    ...billing,
    passTime() {
      aheadMs += 60_000
    },
    async closeMonth(customers?: string[]): Promise<CloseReport> {
      aheadMs += 60_000
      return ok<CloseReport>(
        billing.api('POST', `/v1/close/${monthName}`, customers === undefined ? {} : { customers }),
      )
    },
  }
}

async function customer(billing: Billing, id: string, stripeId: string | null, hours: number) {
  const metrics = [0, hours].map(n => metric(startNs + BigInt(n) * 60n * minuteNs, BigInt(n) * 60n * minuteNs + 1n))
  // An hour is the longest spacing that is believed.
  const steps = Array.from({ length: hours + 1 }, (_, n) =>
    metric(startNs + BigInt(n) * 60n * minuteNs, BigInt(n) * 60n * minuteNs + 1n),
  )
  await billing.rpc('SendMetricsBatch', { vmId: 'vm', customerId: id, metrics: hours > 1 ? steps : metrics })
  await billing.usage(id)
  await ok(
    billing.api('POST', '/v1/subscriptions', { customerId: id, planId: 'std', from: month.toInstant().toString() }),
  )
  if (stripeId !== null) await ok(billing.api('PUT', `/v1/customers/${id}/stripe`, { stripeCustomerId: stripeId }))
}

interface Push {
  object: string
  status: string
  stripeId: string
  problem: string | null
}
const pushesOf = async (billing: Billing, id: string) =>
  (await ok<{ pushes: Push[] }>(billing.api('GET', `/v1/stripe/pushes?customer=${id}`))).pushes
const invoicesOf = async (billing: Billing, id: string) =>
  (await ok<{ invoices: Invoice[] }>(billing.api('GET', `/v1/invoices?customer=${id}`))).invoices

test('G42: a push that fails leaves the invoice a draft; repeats, reorderings and lost answers converge; one customer or meter that fails holds up nobody', async t => {
  await t.test('invoices', invoices)
  await t.test('meters', totals)
})

async function invoices(t: TestContext) {
  const seed = Date.now() % 1_000_000
  t.diagnostic(`seed ${seed}`)
  const fake = await startFakeStripe(t, { seed })
  const billing = await start(t, fake.url, 1, { BILLAGED_STRIPE_WEBHOOK_SECRET: webhookSecret })
  await customer(billing, 'a-failing', 'cus_failing', 1)
  await customer(billing, 'b-fine', 'cus_fine', 2)
  await customer(billing, 'c-unknown', null, 1)
  await customer(billing, 'd-fine', 'cus_other', 3)
  // Others' invoices at Stripe are not ours to find or touch.
  const other = {
    id: 'in_other',
    object: 'invoice',
    customer: 'cus_fine',
    currency: 'usd',
    status: 'draft',
    metadata: {},
    auto_advance: false,
    total: 7,
  } as const
  fake.invoices.set(other.id, { ...other, metadata: { purser_invoice: 'inv_of_someone_else' } })

  // One fails: it stays a draft that says why, and has no number. Everybody else is done.
  fake.failing.add('cus_failing')
  const first = await billing.closeMonth()
  assert.equal(first.finalised.length, 3)
  assert.deepEqual(
    first.blocked.map(one => [one.customerId, one.reasons.map(({ code }) => code)]),
    [['a-failing', ['push_failed']]],
  )
  assert.match(first.blocked[0]?.reasons[0]?.detail ?? '', /this one always fails/)
  const [draft] = await invoicesOf(billing, 'a-failing')
  assert.deepEqual([draft?.state, draft?.number], ['draft', null])
  assert.deepEqual(await pushesOf(billing, 'c-unknown'), [])

  // Half done, then other amounts: what is there is brought to what is due, not added to.
  fake.failing.clear()
  fake.state.failingRoute = /^GET \/v1\/invoices\/in_/
  assert.equal((await billing.closeMonth(['a-failing'])).blocked[0]?.reasons[0]?.code, 'push_failed')
  const halfDone = [...fake.items.values()].filter(item => item.customer === 'cus_failing').map(item => item.amount)
  assert.deepEqual(halfDone, [500, 10])
  const later = [2n, 3n].map(n => metric(startNs + n * 3_600_000_000_000n, n * 3_600_000_000_000n + 1n))
  await billing.rpc('SendMetricsBatch', { vmId: 'vm', customerId: 'a-failing', metrics: later })
  await billing.usage('a-failing')
  fake.state.failingRoute = null

  // On the worst of days, by two at once, until it is done.
  fake.be({ refused: 15, unanswered: 10, twice: 20, late: 40 })
  const isDone = async () => (await invoicesOf(billing, 'a-failing'))[0]?.state === 'finalised'
  for (let i = 0; i < 30 && !(await isDone()); i++)
    await Promise.all([billing.closeMonth(['a-failing']), billing.closeMonth(['a-failing'])])
  assert.ok(await isDone())

  // Finalised here they are finalised there, once each, to the cent.
  await pollUntil(
    () => {
      billing.passTime()
      return [...fake.invoices.values()].filter(one => one.status === 'open').length === 3
    },
    {
      what: 'three open invoices at Stripe',
    },
  )
  for (const [id, stripeId] of [
    ['a-failing', 'cus_failing'],
    ['b-fine', 'cus_fine'],
    ['d-fine', 'cus_other'],
  ] as const) {
    const [ours] = await invoicesOf(billing, id)
    const there = [...fake.invoices.values()].filter(one => one.customer === stripeId && one.id !== other.id)
    assert.equal(there.length, 1, id)
    assert.deepEqual([there[0]?.metadata.purser_invoice, `${there[0]?.total}`], [ours?.id, ours?.dueMinor])
    const items = [...fake.items.values()].filter(item => item.invoice === there[0]?.id)
    assert.equal(new Set(items.map(item => item.metadata.purser_line)).size, items.length)
  }
  assert.deepEqual(fake.invoices.get(other.id)?.status, 'draft')
  const numbers = (await ok<{ invoices: Invoice[] }>(billing.api('GET', '/v1/invoices'))).invoices.map(
    one => one.number,
  )
  assert.deepEqual(numbers.map(number => number?.slice(-6)).toSorted(), ['000001', '000002', '000003', '000004'])

  // Notices: signed, in any order; what Stripe says when it is asked is what counts.
  fake.be({})
  const [push] = await pushesOf(billing, 'b-fine')
  const paid = fake.invoices.get(push?.stripeId ?? '')
  assert.ok(paid !== undefined)
  paid.status = 'paid'
  const notice = async (type: string, secret = webhookSecret) => {
    const payload = JSON.stringify({
      id: 'evt_1',
      object: 'event',
      type,
      data: { object: { id: paid.id, status: 'open' } },
    })
    const signature = new Stripe('sk_test').webhooks.generateTestHeaderString({ payload, secret })
    return fetch(`${billing.url}/v1/stripe/webhook`, {
      method: 'POST',
      headers: { 'stripe-signature': signature, 'content-type': 'application/json' },
      body: payload,
    })
  }
  assert.equal((await notice('invoice.paid', 'whsec_wrong')).status, 400)
  const statusOf = async (id: string) => (await pushesOf(billing, id))[0]?.status
  assert.equal(await statusOf('b-fine'), 'open')
  for (const type of ['invoice.paid', 'invoice.finalized', 'customer.updated'])
    assert.equal((await notice(type)).status, 204)
  assert.equal(await statusOf('b-fine'), 'paid')

  // Void here is void there; the replacement is an invoice of its own.
  const [voided] = await invoicesOf(billing, 'd-fine')
  await ok(billing.api('POST', `/v1/invoices/${voided?.id}/void`, { reason: 'test' }))
  await billing.closeMonth(['d-fine'])
  const statuses = () => [...fake.invoices.values()].filter(one => one.customer === 'cus_other').map(one => one.status)
  await pollUntil(() => statuses().toSorted().join() === 'open,void', {
    what: 'the replacement at Stripe',
  })
  const counter = await billing.base.registry.getSingleMetric('billaged_stripe_pushes_total')?.get()
  const counted = Object.fromEntries((counter?.values ?? []).map(({ labels, value }) => [labels.outcome, value]))
  assert.ok((counted.pushed ?? 0) >= 3 && (counted.failed ?? 0) >= 1 && counted.skipped === 1)
}

async function totals(t: TestContext) {
  const fake = await startFakeStripe(t, { seed: 7 })
  fake.meters.push(
    { eventName: 'vm_cpu', formula: 'last' },
    { eventName: 'vm_alive', formula: 'last' },
    { eventName: 'vm_net_rx', formula: 'last' },
    { eventName: 'not_ours', formula: 'last' },
  )
  const billing = await start(t, fake.url, 0, { BILLAGED_STRIPE_MODE: 'meters' })
  await customer(billing, 'acme', 'cus_acme', 2)
  await customer(billing, 'globex', 'cus_globex', 1)
  fake.failing.add('cus_globex')
  fake.be({ unanswered: 10, twice: 40, late: 40 })

  // The running period: whatever is repeated or held up, the last value is the total so far.
  const now = Temporal.Now.instant().epochNanoseconds
  const runningStart = month.add({ months: 1 }).toInstant().epochNanoseconds
  const at = (now - runningStart) / 4n + runningStart
  let total = 0n
  for (const step of [1n, 2n, 3n]) {
    const metrics = [metric(at, 1n), metric(at + step * minuteNs, step * 1_000n + 1n)]
    await billing.rpc('SendMetricsBatch', { vmId: 'running', customerId: 'acme', metrics })
    total = step * 1_000n
    await pollUntil(() => fake.lastValue('vm_cpu', 'cus_acme') === `${total}`, {
      what: `the total of step ${step}`,
    })
  }
  assert.ok(fake.meterEvents.every(event => event.timestamp * 1_000 >= Number(runningStart / 1_000_000n)))

  // The closed one: a meter that fails leaves the invoice a draft, the other meters are right already.
  fake.meterEvents.length = 0
  fake.be({})
  fake.failing.add('vm_cpu')
  fake.meters.push({ eventName: 'vm_memory', formula: 'sum' })
  const memory = [0n, 1n].map(n => metric(startNs + n * minuteNs, n + 1n, { memoryUsageBytes: '5' }))
  await billing.rpc('SendMetricsBatch', { vmId: 'memory', customerId: 'acme', metrics: memory })
  await billing.usage('acme')
  const failed = await billing.closeMonth(['acme'])
  assert.equal(failed.blocked[0]?.reasons[0]?.code, 'push_failed')
  // A meter that adds up would count our totals again and again.
  assert.match(
    failed.blocked[0]?.reasons[0]?.detail ?? '',
    /vm_cpu: this one always fails.*vm_memory: it adds up \(sum\)/,
  )
  const last = month.add({ months: 1 }).toInstant().epochMilliseconds / 1_000
  const ofMonth = () => fake.meterEvents.filter(event => event.customer === 'cus_acme' && event.timestamp < last)
  assert.deepEqual(
    ofMonth().filter(event => event.eventName === 'vm_memory'),
    [],
  )
  fake.failing.delete('vm_cpu')
  fake.meters.pop()
  assert.equal((await billing.closeMonth(['acme'])).finalised.length, 1)
  const cpu = ofMonth().filter(event => event.eventName === 'vm_cpu')
  assert.deepEqual(
    cpu.map(event => event.value),
    [`${120n * minuteNs + 1n}`],
  )
  assert.ok(cpu.every(event => event.timestamp >= Number(startNs / 1_000_000_000n) && event.timestamp < last))
  assert.deepEqual(
    fake.meterEvents.filter(event => event.customer === 'cus_globex' || event.eventName === 'not_ours'),
    [],
  )
}

test('items sum to what is due, whatever fractions the lines have', () => {
  const line = fc.record({
    id: fc.string(),
    kind: fc.constantFrom('usage' as const, 'credit' as const),
    description: fc.string({ maxLength: 600 }),
    amountNano: fc.bigInt({ min: -(10n ** 13n), max: 10n ** 13n }),
  })
  fc.assert(
    fc.property(fc.array(line, { maxLength: 300 }), fc.constantFrom('USD', 'JPY'), (lines, currency) => {
      const total = lines.reduce((sum, { amountNano }) => sum + amountNano, 0n)
      const perMinor = currency === 'USD' ? 10_000_000n : 1_000_000_000n
      const due = total >= 0n || total % perMinor === 0n ? total / perMinor : total / perMinor - 1n
      const items = itemsOf('inv_1', currency, [
        ...lines,
        { id: 'r', kind: 'rounding', description: '', amountNano: 3n },
      ])
      assert.equal(
        items.reduce((sum, item) => sum + BigInt(item.amountMinor), 0n),
        due,
      )
      assert.ok(items.length <= 200 && items.every(item => item.description.length <= 500))
    }),
  )
})
