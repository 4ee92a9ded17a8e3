import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import test, { type TestContext } from 'node:test'
import { openSql, type Sql } from '#platform/postgres'
import { testBase } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { CloseReport, InvoiceSummary } from '../api.ts'
import type { Verification } from '../close/verify.ts'
import { invoiceId } from '../invoices/ids.ts'
import { startChild } from './child.ts'
import { type Billing, metric, minuteNs, startBilling, temporaryFolder } from './kit.ts'

const month = Temporal.Instant.fromEpochMilliseconds(Date.now())
  .toZonedDateTimeISO('UTC')
  .with({ day: 1 })
  .startOfDay()
  .subtract({ months: 1 })
const name = month.toPlainDate().toString().slice(0, 7)
const startNs = month.toInstant().epochNanoseconds
const period = {
  from: month.epochMilliseconds / 3_600_000,
  to: month.add({ months: 1 }).epochMilliseconds / 3_600_000,
}
const idOf = (customerId: string) => invoiceId(customerId, period, 0)

type Caller = Pick<Billing, 'api' | 'rpc' | 'usage' | 'url'>

async function prepare(billing: Caller, key: string, customers: readonly string[]) {
  for (const customerId of customers) {
    const metrics = Array.from({ length: 121 }, (_, i) =>
      metric(startNs + BigInt(i) * minuteNs, BigInt(i) * 700_000_000n + 1n, { memoryUsageBytes: '1073741824' }),
    )
    await billing.rpc('SendMetricsBatch', { vmId: 'vm-1', customerId, metrics })
  }
  for (const customerId of customers) await billing.usage(customerId)
  await billing.api('POST', '/v1/plans', { id: 'std', name: 'Standard' })
  await billing.api('POST', '/v1/plans/std/versions', {
    effectiveFrom: '2020-01-01T00:00:00Z',
    prices: [
      { id: 'base', model: 'flat', amountNano: '5000000001' },
      { id: 'cpu', model: 'per_unit', meter: 'vm_cpu', per: '3600000000000', amountNano: '100000003' },
      { id: 'memory', model: 'per_unit', meter: 'vm_memory', per: '3865470566400000000000', amountNano: '50000000' },
    ],
  })
  for (const customerId of customers) {
    await billing.api('PUT', `/v1/customers/${customerId}`, { name: `${customerId} GmbH`, taxPpm: 190_000 })
    await billing.api('POST', '/v1/subscriptions', { customerId, planId: 'std', from: month.toInstant().toString() })
    // With a key of its own: a grant's id is made of it.
    await fetch(`${billing.url}/v1/credits`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${key}`,
        'content-type': 'application/json',
        'idempotency-key': 'first',
      },
      body: JSON.stringify({
        customerId,
        kind: 'prepaid',
        amountNano: '1000000000',
        from: month.toInstant().toString(),
      }),
    })
  }
}

const tryClose = (billing: Caller, ...customers: string[]) => billing.api('POST', `/v1/close/${name}`, { customers })

/** Again while the answer is that the database cannot be asked: a connection that was cut is made anew by the next question. */
const close = (billing: Caller, ...customers: string[]) =>
  pollUntil(
    async () => {
      const { status, body } = await tryClose(billing, ...customers)
      const report = body as CloseReport
      const isCut =
        status === 503 || report.blocked.some(({ reasons }) => reasons.some(({ code }) => code === 'failed'))
      return isCut ? undefined : report
    },
    { what: 'an answer to a close' },
  )

/** Digests of an invoice's documents and receipt. */
async function documents(billing: Caller, key: string, customerId: string): Promise<string[]> {
  const digests: string[] = []
  for (const end of ['.json', '.csv', '.html', '.pdf', '/receipt']) {
    const response = await fetch(`${billing.url}/v1/invoices/${idOf(customerId)}${end}`, {
      headers: { authorization: `Bearer ${key}` },
    })
    assert.equal(response.status, 200, end)
    digests.push(
      createHash('sha256')
        .update(Buffer.from(await response.arrayBuffer()))
        .digest('hex'),
    )
  }
  return digests
}

const lock = 39

/** A place where a close stands still: whoever comes there waits for a lock that the test holds. */
async function barrier(sql: Sql) {
  await sql.unsafe(`create function billaged.stand() returns trigger language plpgsql as $$ begin
    perform pg_advisory_xact_lock(${lock}); return new; end $$`)
  return {
    async set(table: string, condition: string, isAtCommit = false) {
      await sql`select pg_advisory_lock(${lock})`
      const when = `when (${condition}) execute function billaged.stand()`
      await sql.unsafe(
        isAtCommit
          ? `create constraint trigger stand after insert on ${table} deferrable initially deferred for each row ${when}`
          : `create trigger stand before insert on ${table} for each row ${when}`,
      )
    },
    waiting: () =>
      pollUntil(
        async () => {
          const [row] = await sql<{ pid: number }[]>`
            select pid::int4 from pg_locks where locktype = 'advisory' and not granted and objid = ${lock}
              and database = (select oid from pg_database where datname = current_database())`
          return row?.pid
        },
        { what: 'a close at the barrier' },
      ),
    async clear(table: string) {
      await sql`select pg_advisory_unlock(${lock})`
      await sql.unsafe(`drop trigger stand on ${table}`)
    },
  }
}

async function connect(t: TestContext, databaseUrl: string): Promise<Sql> {
  const sql = openSql({ url: databaseUrl, max: 1, applicationName: 'test', log: testBase(t).log })
  t.after(() => sql.end({ timeout: 1 }))
  return sql
}

const steps = [
  ['billaged.invoice', "new.state = 'draft'"],
  ['billaged.invoice_evidence', 'true'],
  ['billaged.invoice', "new.state = 'finalised'"],
  ['billaged.invoice_line', "new.kind = 'tax'"],
  ['billaged.credit_entry', "new.kind = 'burn'"],
  ['billaged.receipt', 'true'],
  ['billaged.invoice_document', "new.format = 'pdf'"],
  ['tenancy.audit', 'true'],
] as const

test('G39, G40: a crash at any step of a close, two replicas at once and closing again give the same ids, one number each without gaps, and the same bytes in every format', async t => {
  const one = await startBilling(t)
  const crashed = steps.map((_, i) => `c${i}`)
  const others = ['a', 'b', 'd', 'e']
  await prepare(one, one.key, [...crashed, ...others])
  const sql = await connect(t, one.databaseUrl)
  const { set, waiting, clear } = await barrier(sql)

  const seen = new Map<string, string[]>()
  for (const [i, [table, condition]] of steps.entries()) {
    const customer = crashed[i] ?? ''
    await set(table, condition)
    const falling = tryClose(one, customer)
    // The process is gone for the database the moment its connection is.
    await sql`select pg_terminate_backend(${await waiting()})`
    await clear(table)
    const { body } = await falling
    const why = (body as CloseReport).blocked?.[0]?.reasons[0]?.code ?? Object(body).reason
    assert.ok(['failed', 'DATABASE_AWAY'].includes(why), `${table}: ${why}`)
    assert.deepEqual((await close(one, customer)).finalised, [idOf(customer)], table)
    seen.set(customer, await documents(one, one.key, customer))
    assert.deepEqual((await close(one, customer)).finalised, [idOf(customer)], table)
  }
  const two = await startBilling(t, { databaseUrl: one.databaseUrl, dataDir: temporaryFolder(t) })
  // All that is left at once, by both, several times.
  const runs = await Promise.all([one, two, one, two, one].map(billing => close(billing, ...others)))
  for (const run of runs) assert.deepEqual(run.finalised, others.map(idOf))
  for (const customer of others) seen.set(customer, await documents(one, one.key, customer))
  await Promise.all([close(two, ...crashed, ...others), close(one, ...others, ...crashed)])
  for (const [customer, before] of seen) assert.deepEqual(await documents(two, two.key, customer), before)

  const { invoices } = (await one.api('GET', '/v1/invoices?limit=1000')).body as { invoices: InvoiceSummary[] }
  assert.deepEqual(
    invoices.map(({ number }) => Number(number?.slice(-6))).sort((a, b) => a - b),
    Array.from({ length: crashed.length + others.length }, (_, i) => i + 1),
  )
  assert.deepEqual(((await one.api('POST', '/v1/verify')).body as Verification).problems, [])
  // Credits were burned once each, whatever was tried.
  const [burned] = await sql<{ n: bigint; most: bigint }[]>`
    select count(*) as n, (select max(c) from (select count(*) as c from billaged.credit_entry where kind = 'burn' group by grant_id) x) as most
    from billaged.credit_entry where kind = 'burn'`
  assert.deepEqual({ ...burned }, { n: BigInt(crashed.length + others.length), most: 1n })
})

test('G39: kill -9 before the commit leaves nothing, kill -9 after it leaves everything; the next close says the same either way', async t => {
  const { url: databaseUrl } = await testDatabase(t)
  const dataDir = temporaryFolder(t)
  let child = await startChild(t, { databaseUrl, dataDir })
  await prepare(child, child.key, ['acme', 'globex'])
  const sql = await connect(t, databaseUrl)
  const { set, waiting, clear } = await barrier(sql)
  const count = async () => {
    const [row] = await sql<{ n: bigint }[]>`select count(*) as n from billaged.invoice where state = 'finalised'`
    return row?.n
  }

  await set('billaged.receipt', 'true')
  const lost = tryClose(child, 'acme').catch(() => 'no answer')
  await waiting()
  await child.kill()
  assert.equal(await lost, 'no answer')
  await clear('billaged.receipt')
  assert.equal(await count(), 0n)

  child = await startChild(t, { databaseUrl, dataDir })
  await set('billaged.receipt', "new.customer_id = 'globex'", true)
  const unheard = tryClose(child, 'globex').catch(() => 'no answer')
  await waiting()
  await child.kill()
  assert.equal(await unheard, 'no answer')
  await clear('billaged.receipt')
  await pollUntil(async () => (await count()) === 1n, { what: 'the commit that nobody heard of' })

  child = await startChild(t, { databaseUrl, dataDir })
  const again = await close(child, 'acme', 'globex')
  assert.deepEqual([again.blocked, again.finalised], [[], ['acme', 'globex'].map(idOf)])
  const { invoices } = (await child.api('GET', '/v1/invoices')).body as { invoices: InvoiceSummary[] }
  const numbers = Object.fromEntries(invoices.map(({ customerId, number }) => [customerId, number?.slice(-1)]))
  assert.deepEqual(numbers, { globex: '1', acme: '2' })
  assert.deepEqual(((await child.api('POST', '/v1/verify')).body as Verification).problems, [])
})

test('G39: the same facts in another installation, sent in another order at the same time, make the same documents byte by byte', async t => {
  const nowMs = Date.now()
  const clock = { now: () => nowMs, monotonicMs: () => performance.now() }
  const made: string[][] = []
  for (const customers of [
    ['acme', 'globex'],
    ['globex', 'acme'],
  ]) {
    const billing = await startBilling(t, { clock })
    await prepare(billing, billing.key, customers)
    assert.deepEqual((await close(billing, 'acme', 'globex')).blocked, [])
    made.push([
      ...(await documents(billing, billing.key, 'acme')),
      ...(await documents(billing, billing.key, 'globex')),
    ])
  }
  assert.deepEqual(made[0], made[1])
})
