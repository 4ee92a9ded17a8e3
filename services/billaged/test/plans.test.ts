import assert from 'node:assert/strict'
import test from 'node:test'
import { openSql } from '#platform/postgres'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { CloseReport, Invoice, UnratedList } from '../api.ts'
import type { Verification } from '../close/verify.ts'
import { type Billing, metric, minuteNs, startBilling, temporaryFolder } from './kit.ts'

const month = Temporal.Instant.fromEpochMilliseconds(Date.now())
  .toZonedDateTimeISO('UTC')
  .with({ day: 1 })
  .startOfDay()
  .subtract({ months: 1 })
const name = month.toPlainDate().toString().slice(0, 7)
const hour = (n: number) => month.add({ hours: n }).toInstant()
const hours = (month.add({ months: 1 }).epochMilliseconds - month.epochMilliseconds) / 3_600_000

/** A core-hour in each of the given hours of last month. */
async function runHours(billing: Billing, customerId: string, ...at: number[]) {
  for (const n of at) {
    const start = hour(n).epochNanoseconds
    const metrics = Array.from({ length: 61 }, (_, i) =>
      metric(start + BigInt(i) * minuteNs, BigInt(i) * minuteNs + 1n),
    )
    await billing.rpc('SendMetricsBatch', { vmId: `vm-${n}`, customerId, metrics })
  }
  await billing.usage(customerId)
}

const cpu = (amountNano: bigint) => ({
  id: 'cpu',
  model: 'per_unit',
  meter: 'vm_cpu',
  per: '3600000000000',
  amountNano: `${amountNano}`,
})

test('G32: plans are versioned on whole UTC hours, no version changes, and a change splits the period into segments, each rated with its own', async t => {
  const billing = await startBilling(t)
  await runHours(billing, 'acme', 10, 200, 400)
  for (const id of ['std', 'other']) await billing.api('POST', '/v1/plans', { id, name: id })
  const add = (id: string, from: string, amountNano: bigint, more: object = {}) =>
    billing.api('POST', `/v1/plans/${id}/versions`, { effectiveFrom: from, prices: [cpu(amountNano)], ...more })
  assert.equal((await add('std', '2020-01-01T00:00:00Z', 100_000_000n)).status, 201)
  assert.equal((await add('std', hour(100).toString(), 200_000_000n)).status, 201)
  assert.equal((await add('other', '2020-01-01T00:00:00Z', 700_000_000n)).status, 201)

  // Neither between hours nor behind what there is; and there is no way to change or remove one.
  const half = await add('std', hour(300).add({ minutes: 30 }).toString(), 1n)
  assert.deepEqual([half.status, Object(half.body).reason], [400, 'INVALID_FIELD'])
  for (const from of ['2020-01-01T00:00:00Z', hour(50).toString(), hour(100).toString()]) {
    const refused = await add('std', from, 1n)
    assert.deepEqual([refused.status, Object(refused.body).reason], [409, 'VERSION_NOT_LATER'], from)
  }
  for (const method of ['PUT', 'PATCH', 'DELETE'])
    assert.equal((await billing.api(method, '/v1/plans/std/versions/1', {})).status, 404, method)
  const sql = openSql({ url: billing.databaseUrl, max: 1, applicationName: 'test', log: billing.base.log })
  t.after(() => sql.end({ timeout: 1 }))
  await assert.rejects(sql`update billaged.plan_version set body = '{}' where plan_id = 'std'`.execute(), /for ever/)
  await assert.rejects(sql`delete from billaged.plan_version where plan_id = 'std'`.execute(), /for ever/)

  // Version 1, version 2 from hour 100, another plan from hour 300.
  const subscribe = (planId: string, from: string, to: string | null) =>
    billing.api('POST', '/v1/subscriptions', { customerId: 'acme', planId, from, to })
  assert.equal((await subscribe('std', month.toInstant().toString(), hour(300).toString())).status, 201)
  assert.equal((await subscribe('other', hour(300).toString(), null)).status, 201)
  const { finalised } = (await billing.api('POST', `/v1/close/${name}`)).body as CloseReport
  const invoice = (await billing.api('GET', `/v1/invoices/${finalised[0]}`)).body as Invoice
  const segment = (from: number, to: number) => ({ from: iso(from), to: iso(to) })
  const iso = (n: number) => new Date(hour(n).epochMilliseconds).toISOString()
  assert.deepEqual(
    invoice.lines
      .filter(({ kind }) => kind === 'usage')
      .map(line => [line.plan, line.segment, line.quantity, line.amountNano]),
    [
      [{ id: 'std', version: 1 }, segment(0, 100), '3600000000000', '100000000'],
      [{ id: 'std', version: 2 }, segment(100, 300), '3600000000000', '200000000'],
      [{ id: 'other', version: 1 }, segment(300, hours), '3600000000000', '700000000'],
    ],
  )
  assert.deepEqual(((await billing.api('POST', '/v1/verify')).body as Verification).problems, [])
})

test('G37: usage without subscription or price, and not listed as unbilled, raises the alarm while the month runs and blocks its close', async t => {
  const env = { BILLAGED_CLOSE_GRACE: '9000h' }
  const billing = await startBilling(t, { env })
  const nowNs = BigInt(Date.now()) * 1_000_000n
  const thisMonth = month.add({ months: 1 }).toInstant().epochNanoseconds
  // In this month, however young it is.
  const step = (nowNs - thisMonth) / 20n < minuteNs ? (nowNs - thisMonth) / 20n : minuteNs
  const metrics = Array.from({ length: 10 }, (_, i) =>
    metric(nowNs - BigInt(10 - i) * step, BigInt(i) * step + 1n, { diskWriteBytes: `${i * 1000}` }),
  )
  for (const customerId of ['acme', 'globex'])
    await billing.rpc('SendMetricsBatch', { vmId: 'vm-1', customerId, metrics })
  await runHours(billing, 'acme', 5)
  await billing.api('POST', '/v1/plans', { id: 'std', name: 'Standard' })
  await billing.api('POST', '/v1/plans/std/versions', {
    effectiveFrom: '2020-01-01T00:00:00Z',
    prices: [cpu(1n)],
    unbilled: ['vm_memory'],
  })
  await billing.api('POST', '/v1/subscriptions', {
    customerId: 'acme',
    planId: 'std',
    from: month.toInstant().toString(),
  })
  const used = step * 9n

  // What a person sees: who, what, how much, and the command that mends it.
  const list = (await billing.api('GET', '/v1/unrated?limit=1')).body as UnratedList
  assert.deepEqual(
    list.unrated.map(({ customerId, planId, meter, quantity, unit }) => [customerId, planId, meter, quantity, unit]),
    [['acme', 'std', 'vm_disk_write', '9000', 'bytes']],
  )
  assert.match(list.unrated[0]?.fix ?? '', /^billaged plan add-price std --meter vm_disk_write /)
  const next = (await billing.api('GET', `/v1/unrated?cursor=${list.nextCursor}`)).body as UnratedList
  assert.deepEqual(
    next.unrated.map(({ customerId, planId, meter, quantity }) => [customerId, planId, meter, quantity]),
    [
      ['globex', null, 'vm_cpu', `${used}`],
      ['globex', null, 'vm_disk_write', '9000'],
    ],
  )
  assert.match(next.unrated[0]?.fix ?? '', /^billaged subscribe globex --plan PLAN --from /)
  assert.equal((await billing.api('GET', '/v1/unrated?customer=nobody')).status, 200)

  // A replica that starts now looks at every customer at once, and again every ten minutes.
  const { databaseUrl } = billing
  const looking = await startBilling(t, {
    env: { ...env, BILLAGED_AGGREGATION_INTERVAL: '1s' },
    databaseUrl,
    dataDir: temporaryFolder(t),
  })
  // The alarm: a gauge by meter, over all customers; the rule on it is in deploy/monitoring.
  const gauge = async (meter: string) => {
    const text = await (await fetch(`${looking.url}/metrics`)).text()
    return Number(new RegExp(`billaged_unrated_usage\\{meter="${meter}"\\} (\\S+)`).exec(text)?.[1] ?? 'NaN')
  }
  await pollUntil(async () => (await gauge('vm_disk_write')) === 18_000, {
    what: 'the alarm of both',
  })
  assert.equal(await gauge('vm_cpu'), Number(used))
  assert.ok(Number.isNaN(await gauge('vm_memory')))

  // Last month had one core-hour, which has a price: nothing is in the way. Under a plan without one it is.
  const dry = (await billing.api('GET', `/v1/close/${name}?customer=acme`)).body as CloseReport
  assert.deepEqual([dry.blocked, dry.ready.length], [[], 1])
  await runHours(billing, 'globex', 7)
  const blocked = (await billing.api('GET', `/v1/close/${name}?customer=globex`)).body as CloseReport
  assert.deepEqual(
    blocked.blocked.flatMap(({ reasons }) => reasons.map(({ code, detail }) => [code, detail])),
    [['unrated_usage', 'vm_cpu 3,600,000,000,000 ns, no subscription']],
  )
  await billing.api('POST', '/v1/subscriptions', {
    customerId: 'globex',
    planId: 'std',
    from: month.toInstant().toString(),
  })
  const ready = (await billing.api('GET', `/v1/close/${name}?customer=globex`)).body as CloseReport
  assert.deepEqual([ready.blocked, ready.ready.length], [[], 1])
})

test('a customer leaves a plan or changes to another: a subscription ends at any hour up to its end, also one that is billed already, which then is corrected', async t => {
  const billing = await startBilling(t)
  await runHours(billing, 'acme', 10, 200, 400)
  const [start, half] = [month.toInstant().toString(), hour(300).toString()]
  for (const [id, amountNano] of [
    ['std', 100_000_000n],
    ['big', 50_000_000n],
  ] as const) {
    await billing.api('POST', '/v1/plans', { id, name: id })
    const version = { effectiveFrom: '2020-01-01T00:00:00Z', prices: [cpu(amountNano)] }
    assert.equal((await billing.api('POST', `/v1/plans/${id}/versions`, version)).status, 201)
  }
  const subscribe = (planId: string, from: string) =>
    billing.api('POST', '/v1/subscriptions', { customerId: 'acme', planId, from })
  const first = await subscribe('std', start)
  const { id } = first.body as { id: string }
  const end = (at: string, which = id) => billing.api('POST', `/v1/subscriptions/${which}/end`, { at })
  const total = async () =>
    (await billing.preview({ customerId: 'acme', from: start, to: hour(700).toString() })).totalNano
  const whole = BigInt(await total())
  const closed = (await billing.api('POST', `/v1/close/${name}`, { customers: ['acme'] })).body as CloseReport
  assert.equal(closed.finalised.length, 1)

  const refused = await subscribe('big', half)
  assert.match((refused.body as { detail: string }).detail, /billaged unsubscribe acme --at /)
  assert.equal((await end(half, '999999')).status, 404)
  assert.equal((await end(hour(300).add({ minutes: 1 }).toString())).status, 400)
  const before = await end(start)
  assert.deepEqual([before.status, Object(before.body).reason], [409, 'SUBSCRIPTION_NOT_RUNNING'])
  const ended = await end(half)
  assert.deepEqual([ended.status, Date.parse(Object(ended.body).to)], [200, Date.parse(half)])
  assert.equal((await end(hour(301).toString())).status, 409, 'it does not grow again')
  assert.equal((await subscribe('big', half)).status, 201)
  assert.ok(BigInt(await total()) < whole)
  const { subscriptions, nextCursor } = (await billing.api('GET', '/v1/subscriptions?customerId=acme&limit=1'))
    .body as Listed
  const next = (await billing.api('GET', `/v1/subscriptions?limit=1&cursor=${nextCursor}`)).body as Listed
  assert.deepEqual(
    [...subscriptions, ...next.subscriptions].map(({ planId }) => planId),
    ['std', 'big'],
  )
  assert.equal(next.nextCursor, null)

  // The next invoice pays back what the other plan makes cheaper.
  const following = month.add({ months: 1 }).toPlainDate().toString().slice(0, 7)
  const draft = (await billing.api('GET', `/v1/invoices/draft?customer=acme&period=${following}`)).body as Invoice
  const corrections = draft.lines.filter(({ kind }) => kind === 'adjustment')
  assert.ok(corrections.length > 0 && corrections.every(({ cause }) => cause === 'plan_changed'))
  const corrected = corrections.reduce((sum, { amountNano }) => sum + BigInt(amountNano), 0n)
  assert.equal(whole + corrected, BigInt(await total()))
})

interface Listed {
  subscriptions: { planId: string }[]
  nextCursor: string | null
}
