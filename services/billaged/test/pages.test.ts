import assert from 'node:assert/strict'
import test from 'node:test'
import { testDatabase } from '../../../test/kit/database.ts'
import { metric, minutesAgo, startBilling } from './kit.ts'

test('every list is read a page at a time: pages of any size, one behind the other, are the list', async t => {
  const { url: databaseUrl, sql } = await testDatabase(t)
  const billing = await startBilling(t, { databaseUrl })
  const post = async (path: string, body: object) => {
    const reply = await billing.api('POST', path, body)
    assert.ok(reply.status < 300, `${path} ${JSON.stringify(reply.body)}`)
  }
  const customers = ['acme', 'globex', 'initech']
  for (const customerId of customers) {
    const metrics = [metric(minutesAgo(4), 1n), metric(minutesAgo(4), 2n)]
    await billing.rpc('SendMetricsBatch', { vmId: 'vm', customerId, metrics })
    await billing.rpc('SendMetricsBatch', { vmId: 'vm', customerId, metrics: [metric(minutesAgo(-60), 1n)] })
  }
  const time = new Date(Date.now() - 60_000).toISOString()
  const event = (id: string, v: number) => ({
    specversion: '1.0',
    source: '/t',
    id,
    type: 'x',
    subject: 'acme',
    time,
    data: { v },
  })
  // Several at one instant, and one identity with two contents.
  await post('/api/v1/events', [
    event('a', 1),
    event('b', 1),
    event('c', 1),
    event('c', 2),
    { ...event('d', 1), time: undefined },
  ])
  for (const customerId of customers) await billing.usage(customerId)
  // Usage by VM has pages of VMs; the ledger beside them is of all.
  for (const vmId of ['vm-2', 'Vm-3', 'vm-4'])
    await billing.rpc('SendMetricsBatch', {
      vmId,
      customerId: 'acme',
      metrics: [metric(minutesAgo(4), 1n), metric(minutesAgo(3), 2n)],
    })
  for (let n = 0; n < 101; n++)
    await billing.rpc('SendMetricsBatch', {
      vmId: `many-${n}`,
      customerId: 'globex',
      metrics: [metric(minutesAgo(4), 1n), metric(minutesAgo(3), 2n)],
    })
  const unasked = await billing.usage('globex', '&by=vm')
  assert.equal(new Set(unasked.rows.map(({ vmId }) => vmId)).size, 102, 'without a limit all of them')
  const whole = await billing.usage('acme', '&by=vm')
  assert.equal(whole.nextCursor, null)
  const rows: unknown[] = []
  for (let cursor: string | null = ''; cursor !== null; ) {
    const page = await billing.usage('acme', `&by=vm&limit=2&cursor=${encodeURIComponent(cursor)}`)
    assert.ok(new Set(page.rows.map(({ vmId }) => vmId)).size <= 2)
    assert.deepEqual(page.ledger, whole.ledger)
    rows.push(...page.rows)
    cursor = page.nextCursor ?? null
  }
  assert.deepEqual(rows, whole.rows)
  assert.equal(new Set(whole.rows.map(({ vmId }) => vmId)).size, 4)

  for (const slug of ['z_first', 'a_second', 'm_third'])
    await post('/api/v1/meters', { slug, eventType: 'x', aggregation: 'SUM', valueProperty: '$.v' })
  for (const id of ['one', 'two', 'three']) await post('/v1/plans', { id, name: id })
  for (const year of [2020, 2021, 2022])
    await post('/v1/plans/one/versions', { effectiveFrom: `${year}-01-01T00:00:00Z`, prices: [] })
  for (const customerId of customers) {
    await post('/v1/subscriptions', { customerId, planId: 'one', from: '2022-01-01T00:00:00Z' })
    await post('/v1/credits', {
      customerId,
      kind: 'promotional',
      amountNano: '1',
      priority: 1,
      from: '2022-01-01T00:00:00Z',
    })
    await post('/v1/budgets', { customerId, budgetNano: '1' })
    await post('/v1/webhooks', { url: 'http://example.org', types: ['invoice.finalised'] })
    await post('/v1/portal/tokens', { customerId })
    await sql`
      insert into billaged.stripe_push (customer_id, period_from, object, kind, next_at) values
      (${customerId}, '2026-01-01', 'vm_cpu', 'meter', 'infinity'), (${customerId}, '2026-02-01', 'vm_cpu', 'meter', 'infinity')`
    await sql`insert into billaged.replica (id, first_seen, last_seen) values (gen_random_uuid(), '2026-01-01', now())`
  }
  await sql`update billaged.stripe_push set updated_at = '2026-03-01T00:00:00.000123Z'`

  const lists: [path: string, least: number, field: string | null][] = [
    ['/v1/customers', 3, 'customers'],
    ['/v1/plans', 4, 'plans'],
    ['/v1/plans/one/versions', 3, 'versions'],
    ['/v1/subscriptions', 3, 'subscriptions'],
    ['/v1/credits', 3, 'credits'],
    ['/v1/budgets', 3, 'budgets'],
    ['/v1/webhooks', 3, 'webhooks'],
    ['/v1/portal/tokens', 3, 'tokens'],
    ['/v1/quarantine', 3, 'items'],
    ['/v1/replicas', 4, 'replicas'],
    ['/v1/stripe/pushes', 6, 'pushes'],
    ['/api/v1/events', 5, null],
    ['/api/v1/meters', 12, null],
    ['/api/v1/subjects', 3, null],
    ['/api/v1/portal/tokens', 3, null],
  ]
  const get = async (path: string) => {
    const reply = await billing.api('GET', path)
    assert.equal(reply.status, 200, `${path} ${JSON.stringify(reply.body)}`)
    return reply
  }
  for (const [path, least, field] of lists) {
    const rowsOf = (body: unknown) => (field === null ? body : Object(body)[field]) as unknown[]
    const whole = rowsOf((await get(`${path}?limit=1000`)).body)
    assert.ok(whole.length >= least, `${path} has ${whole.length}`)
    for (const limit of [1, 2, whole.length]) {
      const rows: unknown[] = []
      for (let next: string | null = `${path}?limit=${limit}`; next !== null; ) {
        const { body, headers } = await get(next)
        const page = rowsOf(body)
        assert.ok(page.length > 0 && page.length <= limit, `${next} has ${page.length}`)
        rows.push(...page)
        const cursor: unknown = Object(body).nextCursor
        next =
          field === null
            ? (/^<(.+)>; rel="next"$/.exec(headers.get('link') ?? '')?.[1] ?? null)
            : typeof cursor === 'string'
              ? `${path}?limit=${limit}&cursor=${encodeURIComponent(cursor)}`
              : null
      }
      assert.deepEqual(rows.map(volatile), whole.map(volatile), `${path}, ${limit} a page`)
    }
    assert.equal((await billing.api('GET', `${path}?limit=1001`)).status, 400, path)
  }
  for (const path of [
    '/v1/replicas',
    '/v1/plans/one/versions',
    '/v1/stripe/pushes',
    '/api/v1/events',
    '/api/v1/meters',
  ])
    assert.equal((await billing.api('GET', `${path}?cursor=e30x`)).status, 400, path)
})

/** Without what goes on between two reads. */
function volatile(row: unknown) {
  const { lastSeen, foldedUntil, backlogBytes, ...rest } = Object(row)
  return rest
}
