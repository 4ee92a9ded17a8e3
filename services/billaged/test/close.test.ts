import assert from 'node:assert/strict'
import test from 'node:test'
import { openSql } from '#platform/postgres'
import { mintToken } from '#platform/tenancy/token'
import { systemClock } from '#platform/time'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { CloseReport, CreditView, Explanation, Invoice, InvoiceSummary } from '../api.ts'
import type { Verification } from '../close/verify.ts'
import { checkReceipt, type Receipt } from '../invoices/receipt.ts'
import { type Billing, metric, minuteNs, startBilling, testSecret } from './kit.ts'

const now = Temporal.Instant.fromEpochMilliseconds(Date.now()).toZonedDateTimeISO('UTC')
const thisMonth = now.with({ day: 1 }).startOfDay()
const monthStart = (back: number) => thisMonth.subtract({ months: back })
const monthName = (back: number) => monthStart(back).toPlainDate().toString().slice(0, 7)
const hour = (back: number, n: number) => monthStart(back).add({ hours: n }).toInstant()

async function send(
  billing: Billing,
  customerId: string,
  vmId: string,
  back: number,
  hours: { from: number; to: number },
) {
  const start = hour(back, hours.from).epochNanoseconds
  const minutes = (hours.to - hours.from) * 60
  const metrics = Array.from({ length: minutes + 1 }, (_, i) =>
    metric(start + BigInt(i) * minuteNs, BigInt(i) * minuteNs + 1n),
  )
  const reply = await billing.rpc('SendMetricsBatch', { vmId, customerId, metrics })
  assert.equal(reply.status, 200)
  await billing.usage(customerId)
}

async function ok<T>(reply: ReturnType<Billing['api']>): Promise<T> {
  const { status, body } = await reply
  assert.ok(status === 200 || status === 201, JSON.stringify(body))
  return body as T
}

async function givePlan(billing: Billing, more: object = {}) {
  await ok(billing.api('POST', '/v1/plans', { id: 'std', name: 'Standard' }))
  await ok(
    billing.api('POST', '/v1/plans/std/versions', {
      effectiveFrom: '2020-01-01T00:00:00Z',
      prices: [
        { id: 'base', model: 'flat', amountNano: '5000000000' },
        { id: 'cpu', model: 'per_unit', meter: 'vm_cpu', per: '3600000000000', amountNano: '100000003' },
      ],
      ...more,
    }),
  )
}

const subscribe = (billing: Billing, customerId: string, back: number) =>
  ok(billing.api('POST', '/v1/subscriptions', { customerId, planId: 'std', from: hour(back, 0).toString() }))
const close = (billing: Billing, back: number, body: object = {}) =>
  ok<CloseReport>(billing.api('POST', `/v1/close/${monthName(back)}`, body))
const invoiceOf = (billing: Billing, id: string) => ok<Invoice>(billing.api('GET', `/v1/invoices/${id}`))

async function bytes(billing: Billing, path: string) {
  const response = await fetch(`${billing.url}${path}`, { headers: { authorization: `Bearer ${billing.key}` } })
  assert.equal(response.status, 200, path)
  return Buffer.from(await response.arrayBuffer())
}

test('a month is closed once: number, documents and receipt stay what they are, and late data is corrected on the next invoice', async t => {
  const billing = await startBilling(t)
  await send(billing, 'acme', 'vm-1', 2, { from: 0, to: 3 })
  await givePlan(billing)
  await subscribe(billing, 'acme', 2)
  await ok(billing.api('PUT', '/v1/customers/acme', { name: '=Acme <b>', taxPpm: 190_000, taxName: 'VAT' }))

  const dry = await ok<CloseReport>(billing.api('GET', `/v1/close/${monthName(2)}`))
  assert.deepEqual([dry.finalised, dry.blocked, dry.ready.length], [[], [], 1])
  const [first, again, third] = await Promise.all([close(billing, 2), close(billing, 2), close(billing, 2)])
  assert.deepEqual([first, again], [again, third])
  const id = first.finalised[0] ?? ''
  assert.equal(id, dry.ready[0]?.invoiceId)
  const invoice = await invoiceOf(billing, id)
  // 3 core-hours at 0.100000003 + 5 flat, 19 % tax floored, paid in cents.
  const cpu = (3n * 3_600_000_000_000n * 100_000_003n) / 3_600_000_000_000n
  const net = 5_000_000_000n + cpu
  const tax = (net * 19n) / 100n
  assert.equal(invoice.totalNano, `${net + tax}`)
  assert.equal(invoice.due, '6.30')
  assert.match(invoice.number ?? '', /^INV-\d{4}-000001$/)
  assert.deepEqual(
    invoice.lines.map(line => line.kind),
    ['flat', 'usage', 'tax', 'rounding'],
  )

  const formats = ['.json', '.csv', '.html', '.pdf', '']
  const before = await Promise.all(formats.map(format => bytes(billing, `/v1/invoices/${id}${format}`)))
  assert.ok(before[1]?.toString().startsWith('invoice,number'))
  assert.ok(before[2]?.toString().includes('=Acme &lt;b&gt;') && !before[2]?.toString().includes('<b>'))
  assert.ok(before[3]?.toString('latin1').startsWith('%PDF-1.7'))

  const focus = (await bytes(billing, `/v1/exports/focus?period=${monthName(2)}`)).toString().trimEnd().split('\r\n')
  assert.deepEqual([focus.length, focus[0]?.slice(0, 27)], [5, 'BilledCost,BillingAccountId'])
  const costs = focus.slice(1).map(row => Number(row.split(',')[0]))
  assert.equal(costs.reduce((sum, cost) => sum + cost, 0).toFixed(9), '6.300000000')

  // The receipt verifies with nothing else; one flipped digit and it does not.
  const receipt = await ok<Receipt>(billing.api('GET', `/v1/invoices/${id}/receipt`))
  const { publicKey } = await ok<{ publicKey: string }>(billing.api('GET', '/v1/receipts/key'))
  const evidence = (await bytes(billing, `/v1/invoices/${id}/evidence`)).toString().trimEnd().split('\n')
  assert.deepEqual(checkReceipt(receipt, { publicKey, evidence }), [])
  const forged = JSON.parse(JSON.stringify(receipt).replace('"6.30"', '"6.31"'))
  assert.equal(checkReceipt(forged, { publicKey }).length, 2)
  assert.equal(checkReceipt(receipt, { evidence: evidence.slice(1) }).length, 1)

  // Down to the hour.
  const usageLine = invoice.lines.find(line => line.kind === 'usage')
  const explained = await ok<Explanation>(billing.api('GET', `/v1/lines/${usageLine?.id}/explain?vm=vm-1`))
  assert.deepEqual(explained.vms, [
    {
      vmId: 'vm-1',
      quantity: '10800000000000',
      hours: 4,
      notBilled: { unmeasuredNs: '0', hostDownNs: '0', disputedNs: '0' },
      estimatedNs: '0',
      rules: [],
    },
  ])
  assert.deepEqual(
    explained.hours?.map(row => [row.samples, row.quantity]),
    [
      [60, '3600000000000'],
      [60, '3600000000000'],
      [60, '3600000000000'],
      [1, '0'],
    ],
  )
  assert.equal(explained.plan?.version, 1)
  assert.equal(explained.receipt?.hash, receipt.hash)

  // A tenant reads its own, and another's looks like none.
  const asTenant = (tenant: string) =>
    `Bearer ${mintToken(Buffer.from(testSecret), { audience: 'billaged', role: 'tenant-viewer', tenant, subject: 'console', clock: systemClock })}`
  const own = [
    `/v1/invoices/${id}`,
    `/v1/invoices/${id}.csv`,
    `/v1/invoices/${id}/receipt`,
    `/v1/invoices/${id}/evidence`,
  ]
  own.push(`/v1/lines/${usageLine?.id}/explain`, '/v1/invoices?customer=acme', '/v1/credits?customerId=acme')
  own.push(`/v1/exports/focus?period=${monthName(2)}&customer=acme`)
  for (const path of own) {
    const status = async (tenant: string) =>
      (await fetch(billing.url + path, { headers: { authorization: asTenant(tenant) } })).status
    assert.deepEqual([await status('acme'), await status('globex')], [200, 404], path)
  }
  const nothing = await ok<{ invoices: unknown[] }>(billing.api('GET', '/v1/invoices', undefined, asTenant('globex')))
  assert.deepEqual(nothing.invoices, [])

  // Late: another VM of that month. The closed invoice stays, the next one carries the difference.
  await send(billing, 'acme', 'vm-2', 2, { from: 10, to: 12 })
  await send(billing, 'acme', 'vm-1', 1, { from: 5, to: 6 })
  const closedNext = await close(billing, 1)
  const next = await invoiceOf(billing, closedNext.finalised[0] ?? '')
  assert.match(next.number ?? '', /-000002$/)
  const adjustment = next.lines.find(line => line.kind === 'adjustment')
  assert.equal(adjustment?.adjusts, usageLine?.id)
  assert.equal(adjustment?.amountNano, `${2n * 100_000_003n}`)
  assert.equal(adjustment?.cause, 'late_data')
  assert.equal(adjustment?.quantity, '7200000000000')
  const nextReceipt = await ok<Receipt>(billing.api('GET', `/v1/invoices/${next.id}/receipt`))
  assert.deepEqual(checkReceipt(nextReceipt, { publicKey, previous: receipt }), [])

  assert.deepEqual((await close(billing, 2)).finalised, [id])
  const after = await Promise.all(formats.map(format => bytes(billing, `/v1/invoices/${id}${format}`)))
  assert.deepEqual(after, before)
  const verified = await ok<Verification>(billing.api('POST', '/v1/verify'))
  assert.deepEqual([verified.problems, verified.pending], [[], []])

  // What is stored for ever cannot be changed, and a change behind our back is found.
  const sql = openSql({ url: billing.databaseUrl, max: 1, applicationName: 'test', log: billing.base.log })
  t.after(() => sql.end({ timeout: 1 }))
  await assert.rejects(sql`update billaged.invoice_line set amount_nano = 1`.execute(), /for ever/)
  await sql`alter table billaged.invoice_document disable trigger append_only`
  await sql`update billaged.invoice_document set body = body || 'x'::bytea where invoice_id = ${id} and format = 'csv'`
  await sql`update billaged.invoice set total_nano = total_nano + 1 where id = ${next.id}`
  const broken = await ok<Verification>(billing.api('POST', '/v1/verify'))
  assert.equal(broken.problems.length, 2)
})

test('a period with something in its way stays a draft that says what and how to mend it; force needs a reason', async t => {
  const billing = await startBilling(t)
  await send(billing, 'acme', 'vm-1', 1, { from: 0, to: 1 })
  await send(billing, 'globex', 'vm-1', 2, { from: 0, to: 1 })
  await send(billing, 'globex', 'vm-1', 1, { from: 0, to: 1 })
  await givePlan(billing, { prices: [{ id: 'cpu', model: 'per_unit', meter: 'vm_cpu', per: '1', amountNano: '1' }] })
  await subscribe(billing, 'globex', 3)
  const codes = (report: CloseReport) =>
    Object.fromEntries(report.blocked.map(({ customerId, reasons }) => [customerId, reasons.map(({ code }) => code)]))
  const running = await close(billing, 0)
  assert.deepEqual(
    [running.finalised, codes(running).globex],
    [[], ['period_not_over', 'earlier_period_open', 'earlier_period_open', 'earlier_period_open']],
  )

  const report = await close(billing, 1)
  assert.deepEqual(codes(report), { acme: ['unrated_usage'], globex: ['earlier_period_open', 'earlier_period_open'] })
  const acme = report.blocked.find(({ customerId }) => customerId === 'acme')
  assert.match(acme?.reasons[0]?.detail ?? '', /^vm_cpu 3,600,000,000,000 ns, no subscription/)
  assert.match(acme?.reasons[0]?.fix ?? '', /^billaged subscribe acme --plan PLAN --from /)
  const draft = await invoiceOf(billing, acme?.invoiceId ?? '')
  assert.deepEqual([draft.state, draft.number, draft.blockers[0]?.code], ['draft', null, 'unrated_usage'])
  const refused = await billing.api('POST', `/v1/invoices/${draft.id}/finalise`, {})
  assert.deepEqual([refused.status, Object(refused.body).reason], [409, 'CLOSE_BLOCKED'])

  // The oldest first; then the others go through.
  for (const back of [3, 2, 1]) assert.deepEqual((await close(billing, back, { customers: ['globex'] })).blocked, [])
  assert.equal((await billing.api('POST', `/v1/close/${monthName(1)}`, { force: {} })).status, 400)
  const forced = await close(billing, 1, { force: { reason: 'a gift' } })
  assert.deepEqual([forced.blocked, forced.finalised.length], [[], 2])
  const gift = await invoiceOf(billing, draft.id)
  assert.equal(gift.forced?.reason, 'a gift')
  assert.equal(gift.forced?.over[0]?.code, 'unrated_usage')
  assert.deepEqual([gift.totalNano, gift.lines], ['0', []])
  const list = await ok<{ invoices: InvoiceSummary[] }>(billing.api('GET', '/v1/invoices?state=finalised'))
  assert.deepEqual(list.invoices.map(({ number }) => number?.slice(-1)).sort(), ['1', '2', '3', '4'])
})

test('G35: credits burn in order and never below zero, in a ledger that only grows; a void invoice gives them back and its period is billed anew', async t => {
  const billing = await startBilling(t)
  await send(billing, 'acme', 'vm-1', 2, { from: 0, to: 10 })
  await givePlan(billing)
  await subscribe(billing, 'acme', 2)
  const grant = (body: object, key?: string) =>
    fetch(`${billing.url}/v1/credits`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${billing.key}`,
        'content-type': 'application/json',
        ...(key === undefined ? {} : { 'idempotency-key': key }),
      },
      body: JSON.stringify({ customerId: 'acme', from: hour(3, 0).toString(), ...body }),
    })
  assert.equal((await grant({ kind: 'promotional', amountNano: '1000000000' }, 'k')).status, 201)
  assert.equal((await grant({ kind: 'promotional', amountNano: '1000000000' }, 'k')).status, 200)
  assert.equal((await grant({ kind: 'prepaid', amountNano: '9000000000' })).status, 201)
  assert.equal((await grant({ kind: 'prepaid', amountNano: '0' })).status, 400)
  const left = async () =>
    (await ok<{ credits: CreditView[] }>(billing.api('GET', '/v1/credits?customerId=acme'))).credits.map(
      ({ leftNano }) => leftNano,
    )
  assert.deepEqual(await left(), ['1000000000', '9000000000'])

  const [id = ''] = (await close(billing, 2)).finalised
  // 5 + 1.00000003 − 1 promotional − 5.00000003 prepaid
  const invoice = await invoiceOf(billing, id)
  assert.deepEqual([invoice.totalNano, invoice.dueMinor], ['0', '0'])
  assert.deepEqual(await left(), ['0', '3999999970'])

  const voided = await ok<{ replacement: string }>(
    billing.api('POST', `/v1/invoices/${id}/void`, { reason: 'wrong plan' }),
  )
  assert.deepEqual(await left(), ['1000000000', '9000000000'])
  assert.equal((await billing.api('POST', `/v1/invoices/${id}/void`, { reason: 'twice' })).status, 409)
  assert.equal((await invoiceOf(billing, id)).state, 'void')
  const [second] = (await close(billing, 2)).finalised
  assert.equal(second, voided.replacement)
  const replacement = await invoiceOf(billing, second ?? '')
  assert.deepEqual([replacement.revision, replacement.number?.slice(-6)], [1, '000002'])
  assert.deepEqual(await left(), ['0', '3999999970'])
  const sql = openSql({ url: billing.databaseUrl, max: 1, applicationName: 'test', log: billing.base.log })
  t.after(() => sql.end({ timeout: 1 }))
  await assert.rejects(sql`update billaged.credit_entry set amount_nano = 1`.execute(), /for ever/)
  await assert.rejects(sql`delete from billaged.credit_entry`.execute(), /for ever/)
  // Grant, burn, return, burn again: each kept, and their sum is what is left.
  const entries = await sql<{ kinds: string; left: string }[]>`
    select string_agg(kind, ' ' order by entry_id) as kinds, sum(amount_nano)::text as left
    from billaged.credit_entry group by grant_id order by sum(amount_nano)`
  assert.deepEqual(
    entries.map(({ kinds, left }) => [kinds, left]),
    [
      ['grant burn return burn', '0'],
      ['grant burn return burn', '3999999970'],
    ],
  )
  assert.deepEqual((await ok<Verification>(billing.api('POST', '/v1/verify'))).problems, [])
})

test('doubtful samples hold a close up until somebody decides; a released one counts, a discarded one does not', async t => {
  const billing = await startBilling(t)
  await send(billing, 'acme', 'vm-1', 1, { from: 0, to: 1 })
  await givePlan(billing)
  await subscribe(billing, 'acme', 1)
  // 101 days old: older than MAX_PAST. And two without a time.
  const old = BigInt(Date.now() - 101 * 86_400_000) * 1_000_000n
  const odd = [metric(old, 5n), { cpuTimeNanos: '1' }, { cpuTimeNanos: '2' }]
  await billing.rpc('SendMetricsBatch', { vmId: 'vm-1', customerId: 'acme', metrics: odd })
  await billing.usage('acme')
  const blocked = (await close(billing, 1)).blocked[0]?.reasons[0]
  assert.deepEqual(
    [blocked?.code, blocked?.detail],
    ['open_quarantine', '3 doubtful samples, notices or events wait for a decision'],
  )
  const { items } = await ok<{ items: { id: string; reason: string }[] }>(
    billing.api('GET', '/v1/quarantine?customer=acme'),
  )
  assert.deepEqual(
    items.map(({ reason }) => reason),
    ['too_old', 'no_timestamp', 'no_timestamp'],
  )
  const decide = async (i: number, verb: string) =>
    (await billing.api('POST', `/v1/quarantine/${items[i]?.id}/${verb}`)).status
  assert.equal(await decide(0, 'release'), 200)
  assert.equal(await decide(0, 'discard'), 409)
  assert.equal(await decide(1, 'release'), 409)
  assert.deepEqual([await decide(1, 'discard'), await decide(2, 'discard')], [200, 200])
  // It is a reading now, worth nothing, of a month that nobody had subscribed: no invoice is about that month.
  const report = await close(billing, 1)
  assert.deepEqual([report.finalised.length, report.blocked], [1, []])
})

test('a period with nothing in its way closes by itself after CLOSE_GRACE', async t => {
  const billing = await startBilling(t, {
    env: { BILLAGED_CLOSE_GRACE: '0s', BILLAGED_AGGREGATION_INTERVAL: '1s' },
  })
  await givePlan(billing)
  await subscribe(billing, 'acme', 2)
  const finalised = await pollUntil(
    async () => {
      const list = await ok<{ invoices: InvoiceSummary[] }>(
        billing.api('GET', '/v1/invoices?customer=acme&state=finalised'),
      )
      return list.invoices.length === 2 && list.invoices
    },
    { what: 'two invoices' },
  )
  assert.deepEqual(
    finalised.map(({ period, number, totalNano }) => [period.from.slice(0, 7), number?.slice(-1), totalNano]),
    [
      [monthName(1), '2', '5000000000'],
      [monthName(2), '1', '5000000000'],
    ],
  )
  await pollUntil(
    async () =>
      (await (await fetch(`${billing.url}/metrics`)).text()).includes('billaged_invoices{state="finalised"} 2'),
    { what: 'the gauge of invoices' },
  )
})

test('G36: what is due is floored to what can be paid, lines sum to it, and a negative total becomes credit for the next invoice', async t => {
  const billing = await startBilling(t)
  await send(billing, 'acme', 'vm-1', 2, { from: 0, to: 10 })
  await givePlan(billing)
  await subscribe(billing, 'acme', 2)
  const [firstId = ''] = (await close(billing, 2)).finalised
  const first = await invoiceOf(billing, firstId)
  // 5 + 1.00000003, in cents.
  assert.deepEqual([first.totalNano, first.due], ['6000000030', '6.00'])

  // A version that should have been there: from the second hour of that month on everything is free.
  const version = { effectiveFrom: hour(2, 1).toString(), prices: [], unbilled: ['vm_cpu'] }
  await ok(billing.api('POST', '/v1/plans/std/versions', version))
  const [secondId = ''] = (await close(billing, 1)).finalised
  const second = await invoiceOf(billing, secondId)
  const hours = (monthStart(1).epochMilliseconds - monthStart(2).epochMilliseconds) / 3_600_000
  const fairFlat = 5_000_000_000n / BigInt(hours)
  const fair = fairFlat + 100_000_003n
  const adjustments = second.lines.filter(line => line.kind === 'adjustment')
  assert.equal(
    adjustments.reduce((sum, line) => sum + BigInt(line.amountNano), 0n),
    fair - 6_000_000_030n,
  )
  assert.deepEqual([...new Set(adjustments.map(({ cause }) => cause))], ['plan_changed'])
  const carried = second.lines.at(-1)
  assert.deepEqual([carried?.kind, carried?.amountNano], ['credit', `${6_000_000_030n - fair}`])
  assert.deepEqual([second.totalNano, second.dueMinor, second.due], ['0', '0', '0.00'])
  for (const invoice of [first, second])
    assert.equal(
      invoice.lines.reduce((sum, line) => sum + BigInt(line.amountNano), 0n),
      BigInt(invoice.dueMinor) * 10_000_000n,
    )
  const { credits } = await ok<{ credits: CreditView[] }>(billing.api('GET', '/v1/credits?customerId=acme'))
  assert.deepEqual(
    credits.map(({ kind, leftNano, sourceInvoiceId }) => [kind, leftNano, sourceInvoiceId]),
    [['prepaid', carried?.amountNano, secondId]],
  )
})

test('a void after the close takes the event off the next invoice, and only that', async t => {
  const billing = await startBilling(t)
  const at = (n: number) => hour(2, n).toString()
  const event = (id: string, tokens: string, time: string) => ({
    specversion: '1.0',
    id,
    source: '/test',
    type: 'purser.ai.call.v1',
    subject: 'acme',
    time,
    data: { inputTokens: tokens, costNanoUsd: '0', provider: 'openai', model: 'm' },
  })
  const events = [event('a', '1500', at(1)), event('b', '700', at(2))]
  const post = await fetch(`${billing.url}/api/v1/events`, {
    method: 'POST',
    headers: { authorization: `Bearer ${billing.key}`, 'content-type': 'application/cloudevents-batch+json' },
    body: JSON.stringify(events),
  })
  assert.equal(post.status, 204)
  await billing.usage('acme')
  await givePlan(billing, {
    prices: [{ id: 'ai', model: 'package', meter: 'ai_tokens', packageSize: '1000', amountNano: '1000000000' }],
    unbilled: ['ai_requests', 'ai_cost'],
  })
  await subscribe(billing, 'acme', 2)
  const [firstId = ''] = (await close(billing, 2)).finalised
  const first = await invoiceOf(billing, firstId)
  // 2,200 tokens are three packages begun.
  assert.deepEqual([first.due, first.lines[0]?.quantity], ['3.00', '2200'])
  const explained = await ok<Explanation>(
    billing.api('GET', `/v1/invoices/${firstId}/lines/${first.lines[0]?.id}/explain`),
  )
  assert.deepEqual(
    explained.events?.map(({ type, count }) => [type, count]),
    [['purser.ai.call.v1', 2]],
  )
  const voided = await billing.api('POST', '/v1/events/void', {
    source: '/test',
    id: 'a',
    reason: 'sent for the wrong tenant',
  })
  assert.ok(voided.status < 300, JSON.stringify(voided.body))
  const [secondId = ''] = (await close(billing, 1)).finalised
  const second = await invoiceOf(billing, secondId)
  const correction = second.lines.find(({ kind }) => kind === 'adjustment')
  assert.deepEqual(
    [correction?.quantity, correction?.amountNano, correction?.adjusts],
    ['-1500', '-2000000000', first.lines[0]?.id],
  )
  assert.deepEqual((await ok<Verification>(billing.api('POST', '/v1/verify'))).problems, [])
})
