import assert from 'node:assert/strict'
import test from 'node:test'
import type { CloseReport, Invoice, InvoiceSummary } from '../api.ts'
import type { Verification } from '../close/verify.ts'
import { metric, minuteNs, startBilling } from './kit.ts'

// A generated history of three months: VMs that are read in time and too late, closes in between, a void. Whatever
// happened, all that was billed for a month adds up to that month done once by hand, one core-hour after the other.

const thisMonth = Temporal.Instant.fromEpochMilliseconds(Date.now())
  .toZonedDateTimeISO('UTC')
  .with({ day: 1 })
  .startOfDay()
const months = [3, 2, 1].map(back => thisMonth.subtract({ months: back }))
const name = (month: number) => months[month]?.toPlainDate().toString().slice(0, 7) ?? ''

// 10 free core-hours are cheaper than 5 dear ones: tiers that fall, a fee on entering the second, and a minimum.
const usd = 1_000_000_000n
const first = { upTo: 5n, amountNano: usd / 3n, flatNano: 0n }
const second = { amountNano: usd / 7n, flatNano: usd / 11n }
const minimumNano = usd
const baseNano = usd / 13n

function byHand(coreHours: number): bigint {
  let charged = baseNano
  for (let hour = 1n; hour <= BigInt(coreHours); hour++) {
    if (hour <= first.upTo) charged += first.amountNano
    else charged += second.amountNano + (hour === first.upTo + 1n ? second.flatNano : 0n)
  }
  return charged < minimumNano ? minimumNano : charged
}

function randomFrom(seed: number): (below: number) => number {
  let state = seed
  return below => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

test('G38: what is billed for a month in the end is that month rated once, whenever its data came; closed invoices never change', async t => {
  const seed = Date.now() % 1_000_000
  t.diagnostic(`seed ${seed}`)
  const random = randomFrom(seed)
  const billing = await startBilling(t, { env: { BILLAGED_MAX_PAST: '9600h' } })
  const tiers = [
    { upTo: `${first.upTo * 3_600_000_000_000n}`, amountNano: `${first.amountNano}` },
    { upTo: null, amountNano: `${second.amountNano}`, flatNano: `${second.flatNano}` },
  ]
  await billing.api('POST', '/v1/plans', { id: 'std', name: 'Standard' })
  await billing.api('POST', '/v1/plans/std/versions', {
    effectiveFrom: '2020-01-01T00:00:00Z',
    minimumNano: `${minimumNano}`,
    prices: [
      { id: 'base', model: 'flat', amountNano: `${baseNano}` },
      { id: 'cpu', model: 'graduated', meter: 'vm_cpu', per: '3600000000000', tiers },
    ],
  })
  const used = [0, 0, 0]
  let vms = 0
  async function run(month: number) {
    const [start, hours] = [months[month]?.toInstant().epochNanoseconds ?? 0n, 1 + random(4)]
    const at = start + BigInt(random(24 * 20)) * 60n * minuteNs
    const metrics = Array.from({ length: hours * 2 + 1 }, (_, i) => {
      const sinceNs = BigInt(i) * 30n * minuteNs
      return metric(at + sinceNs, sinceNs + 1n)
    })
    await billing.rpc('SendMetricsBatch', { vmId: `vm-${vms++}`, customerId: 'acme', metrics })
    used[month] = (used[month] ?? 0) + hours
  }
  await run(0)
  await billing.usage('acme')
  await billing.api('POST', '/v1/subscriptions', {
    customerId: 'acme',
    planId: 'std',
    from: months[0]?.toInstant().toString(),
  })
  await billing.api('PUT', '/v1/customers/acme', { taxPpm: 190_000 })
  const seen = new Map<string, unknown>()
  const invoices: Invoice[] = []
  for (const month of [0, 1, 2]) {
    for (let i = random(4); i > 0; i--) await run(random(month + 1))
    await billing.usage('acme')
    const { finalised, blocked } = (await billing.api('POST', `/v1/close/${name(month)}`)).body as CloseReport
    assert.deepEqual(blocked, [], `seed ${seed}`)
    const invoice = (await billing.api('GET', `/v1/invoices/${finalised[0]}`)).body as Invoice
    invoices.push(invoice)
    seen.set(invoice.id, invoice)
  }
  // One more after the last close: it waits for the next invoice, and `verify` says so. Then the last is made void.
  await run(random(3))
  await billing.usage('acme')
  const waiting = (await billing.api('POST', '/v1/verify')).body as Verification
  assert.deepEqual(waiting.problems, [], `seed ${seed}`)
  await billing.api('POST', `/v1/invoices/${invoices[2]?.id}/void`, { reason: 'written again with all that is known' })
  const { finalised } = (await billing.api('POST', `/v1/close/${name(2)}`)).body as CloseReport
  invoices[2] = (await billing.api('GET', `/v1/invoices/${finalised[0]}`)).body as Invoice

  for (const [month, hours] of used.entries()) {
    let billed = 0n
    for (const invoice of invoices)
      for (const line of invoice.lines) {
        const isOwn = invoice.period.from.startsWith(name(month)) && ['usage', 'flat', 'minimum'].includes(line.kind)
        if (isOwn || line.adjustsPeriod?.from.startsWith(name(month))) billed += BigInt(line.amountNano)
      }
    assert.equal(billed, byHand(hours), `seed ${seed}: ${name(month)} with ${hours} core-hours`)
  }
  const corrected = new Set<string | null>()
  for (const invoice of invoices) {
    const taxable = invoice.lines.filter(line => ['usage', 'flat', 'minimum', 'adjustment'].includes(line.kind))
    const net = taxable.reduce((sum, line) => sum + BigInt(line.amountNano), 0n)
    const tax = invoice.lines.find(line => line.kind === 'tax')
    const floor = (net * 19n - ((((net * 19n) % 100n) + 100n) % 100n)) / 100n
    assert.equal(BigInt(tax?.amountNano ?? '0'), floor)
    for (const line of invoice.lines.filter(({ kind }) => kind === 'adjustment')) {
      assert.equal(line.cause, 'late_data')
      // What was not used or needed then has no line to name: the id is the one it would have had, and nothing is off.
      const isThere = invoices.some(({ lines }) => lines.some(({ id }) => id === line.adjusts))
      const billedBefore = line.billedNano !== '0'
      assert.ok(isThere || !billedBefore || corrected.has(line.adjusts), `seed ${seed}: ${line.adjusts}`)
      corrected.add(line.adjusts)
    }
  }
  for (const [id, before] of seen) {
    const now = (await billing.api('GET', `/v1/invoices/${id}.json`)).body
    assert.deepEqual(now, before)
  }
  const after = (await billing.api('POST', '/v1/verify')).body as Verification
  assert.deepEqual([after.problems, after.pending], [[], []], `seed ${seed}`)
  const list = (await billing.api('GET', '/v1/invoices')).body as { invoices: InvoiceSummary[] }
  assert.equal(list.invoices.length, 4)
})
