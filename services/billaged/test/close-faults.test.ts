import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'node:test'
import { openSql } from '#platform/postgres'
import { systemClock } from '#platform/time'
import type { CloseReport, Invoice } from '../api.ts'
import { foldingBlockers } from '../close/gate.ts'
import type { Verification } from '../close/verify.ts'
import { type Billing, metric, minuteNs, startBilling, temporaryFolder } from './kit.ts'

const month = Temporal.Instant.fromEpochMilliseconds(Date.now())
  .toZonedDateTimeISO('UTC')
  .with({ day: 1 })
  .startOfDay()
  .subtract({ months: 1 })
const name = month.toPlainDate().toString().slice(0, 7)
const startNs = month.toInstant().epochNanoseconds

async function sendHour(billing: Billing, customerId: string, vmId: string) {
  const metrics = Array.from({ length: 61 }, (_, i) =>
    metric(startNs + BigInt(i) * minuteNs, BigInt(i) * minuteNs + 1n),
  )
  assert.equal((await billing.rpc('SendMetricsBatch', { vmId, customerId, metrics })).status, 200)
}

async function givePlan(billing: Billing, ...customers: string[]) {
  await billing.api('POST', '/v1/plans', { id: 'std', name: 'Standard' })
  await billing.api('POST', '/v1/plans/std/versions', {
    effectiveFrom: '2020-01-01T00:00:00Z',
    prices: [{ id: 'cpu', model: 'per_unit', meter: 'vm_cpu', per: '3600', amountNano: '7' }],
  })
  for (const customerId of customers) {
    const reply = await billing.api('POST', '/v1/subscriptions', {
      customerId,
      planId: 'std',
      from: month.toInstant().toString(),
    })
    assert.equal(reply.status, 201)
  }
}

const close = async (billing: Billing) => (await billing.api('POST', `/v1/close/${name}`)).body as CloseReport
const verify = async (billing: Billing) => (await billing.api('POST', '/v1/verify')).body as Verification

test('G40: numbers are gapless whatever write of a close fails: nothing of it stays, the others close, the next try takes the free one; a void one keeps its own', async t => {
  const billing = await startBilling(t)
  for (const id of ['acme', 'globex']) await sendHour(billing, id, 'vm-1')
  await billing.usage('globex')
  await givePlan(billing, 'acme', 'globex')
  await billing.api('POST', '/v1/credits', {
    customerId: 'acme',
    kind: 'promotional',
    amountNano: '5',
    from: month.toInstant().toString(),
  })
  const sql = openSql({ url: billing.databaseUrl, max: 1, applicationName: 'test', log: billing.base.log })
  t.after(() => sql.end({ timeout: 1 }))
  await sql`create function billaged.fail() returns trigger language plpgsql as $$ begin raise exception 'no room'; end $$`
  const steps = [
    ['billaged.invoice', "new.customer_id = 'acme' and new.state = 'finalised'"],
    ['billaged.invoice_line', 'true'],
    ['billaged.invoice_document', "new.format = 'html'"],
    ['billaged.invoice_evidence', "new.vm_id = 'vm-1'"],
    ['billaged.credit_entry', 'true'],
    ['billaged.receipt', "new.customer_id = 'acme'"],
    ['tenancy.audit', 'true'],
  ] as const
  for (const [table, condition] of steps) {
    await sql.unsafe(
      `create trigger fail before insert on ${table} for each row when (${condition}) execute function billaged.fail()`,
    )
    const report = await close(billing)
    await sql.unsafe(`drop trigger fail on ${table}`)
    const failed = report.blocked.find(({ customerId }) => customerId === 'acme')
    assert.deepEqual(
      failed?.reasons.map(({ code }) => code),
      ['failed'],
      table,
    )
    const [left] = await sql<{ lines: bigint; documents: bigint; evidence: bigint; burns: bigint; receipts: bigint }[]>`
      select (select count(*) from billaged.invoice_line l join billaged.invoice i on i.id = l.invoice_id where customer_id = 'acme') as lines,
        (select count(*) from billaged.invoice_document d join billaged.invoice i on i.id = d.invoice_id where customer_id = 'acme') as documents,
        (select count(*) from billaged.invoice_evidence e join billaged.invoice i on i.id = e.invoice_id where customer_id = 'acme') as evidence,
        (select count(*) from billaged.credit_entry where kind = 'burn') as burns,
        (select count(*) from billaged.receipt where customer_id = 'acme') as receipts`
    assert.deepEqual({ ...left }, { lines: 0n, documents: 0n, evidence: 0n, burns: 0n, receipts: 0n }, table)
    assert.deepEqual((await verify(billing)).problems, [], table)
  }
  const report = await close(billing)
  assert.equal(report.finalised.length, 2)
  const list = (await billing.api('GET', '/v1/invoices?state=finalised')).body as { invoices: { number: string }[] }
  assert.deepEqual(list.invoices.map(({ number }) => number.slice(-1)).sort(), ['1', '2'])

  const [first = ''] = report.finalised
  await billing.api('POST', `/v1/invoices/${first}/void`, { reason: 'a mistake' })
  const again = await close(billing)
  const numbers = (await billing.api('GET', '/v1/invoices')).body as {
    invoices: { number: string; state: string; id: string }[]
  }
  assert.deepEqual(numbers.invoices.map(({ number, state }) => `${number.slice(-1)} ${state}`).sort(), [
    '1 finalised',
    '2 void',
    '3 finalised',
  ])
  assert.equal(numbers.invoices.find(({ id }) => id === first)?.state, 'void')
  assert.ok(!again.finalised.includes(first) && again.finalised.length === 2)
  assert.deepEqual((await verify(billing)).problems, [])
})

test('two replicas that close at once give one number each invoice, and neither closes over what the other has not folded', async t => {
  const one = await startBilling(t)
  const two = await startBilling(t, { databaseUrl: one.databaseUrl, dataDir: temporaryFolder(t) })
  // Half of the month's readings at each.
  await sendHour(one, 'acme', 'vm-1')
  await sendHour(two, 'acme', 'vm-2')
  await one.usage('acme')
  await two.usage('acme')
  await givePlan(one, 'acme')
  const reports = await Promise.all([close(one), close(two), close(one), close(two)])
  for (const report of reports) assert.deepEqual(report.finalised, reports[0]?.finalised)
  assert.deepEqual(
    reports.map(({ blocked }) => blocked),
    [[], [], [], []],
  )
  const [id = ''] = reports[0]?.finalised ?? []
  const [a, b] = await Promise.all([one, two].map(billing => billing.api('GET', `/v1/invoices/${id}`)))
  assert.deepEqual(a?.body, b?.body)
  const invoice = a?.body as Invoice
  assert.match(invoice.number ?? '', /-000001$/)
  assert.equal(invoice.lines[0]?.quantity, '7200000000000')
  assert.deepEqual((await verify(two)).problems, [])

  // A replica that stopped with nothing left to fold is waited for no more; one that is lost is, until it is retired.
  const sql = openSql({ url: one.databaseUrl, max: 1, applicationName: 'test', log: one.base.log })
  t.after(() => sql.end({ timeout: 1 }))
  await two.close()
  const lost = '00000000-0000-4000-8000-000000000000'
  await sql`insert into billaged.replica (id) values (${lost})`
  let monotonicMs = 0
  const gate = () =>
    foldingBlockers({
      sql,
      replica: replicaOf(one),
      clock: { ...systemClock, monotonicMs: () => (monotonicMs += 10_000) },
      acknowledgedEnd: () => ({ segment: '', offset: 0 }),
      waitUntilFolded: async () => true,
    })
  const [blocker, ...rest] = await gate()
  assert.deepEqual([blocker?.code, rest], ['replica_behind', []])
  assert.ok(blocker?.fix.endsWith(`billaged replica retire ${lost}`))
  assert.equal((await one.api('POST', `/v1/replicas/${lost}/retire`)).status, 200)
  assert.deepEqual(await gate(), [])
})

const replicaOf = (billing: Billing) => readFileSync(join(billing.dataDir, 'billaged', 'replica-id'), 'utf8').trim()
