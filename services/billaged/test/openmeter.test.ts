import assert from 'node:assert/strict'
import test from 'node:test'
import { HTTPError, OpenMeter } from '@openmeter/sdk'
import { OpenMeter as OpenMeterPortal } from '@openmeter/sdk/portal'
import { type Billing, startBilling } from './kit.ts'

// The official client of OpenMeter, unmodified: only the base URL and the key are ours.

const from = new Date(Math.floor(Date.now() / 3_600_000) * 3_600_000 - 3 * 3_600_000)
const at = (minutes: number) => new Date(from.getTime() + minutes * 60_000)

/** The SDK says that any answer may be undefined. */
async function some<T>(promise: Promise<T>): Promise<NonNullable<T>> {
  const value = await promise
  assert.ok(value !== undefined && value !== null)
  return value
}

async function refusal(promise: Promise<unknown>): Promise<HTTPError> {
  try {
    await promise
  } catch (error) {
    assert.ok(error instanceof HTTPError, String(error))
    return error
  }
  assert.fail('nothing was refused')
}

test('the OpenMeter SDK makes meters, ingests, queries, and reads our refusals', async t => {
  const billing = await startBilling(t)
  const client = new OpenMeter({ baseUrl: billing.url, apiKey: billing.key })

  const meter = await some(
    client.meters.create({
      slug: 'tokens_total',
      name: 'Tokens',
      description: 'AI tokens',
      aggregation: 'SUM',
      eventType: 'prompt',
      valueProperty: '$.tokens',
      groupBy: { model: '$.model', kind: '$.kind' },
      metadata: { team: 'ai' },
    }),
  )
  assert.ok(meter.id !== undefined && meter.createdAt instanceof Date)
  assert.deepEqual([meter.slug, meter.groupBy], ['tokens_total', { model: '$.model', kind: '$.kind' }])
  assert.equal((await some(client.meters.get('tokens_total'))).id, meter.id)
  assert.equal((await some(client.meters.get(meter.id))).slug, 'tokens_total')
  assert.ok((await client.meters.list())?.some(({ slug }) => slug === 'tokens_total'))
  const updated = await some(
    client.meters.update('tokens_total', { name: 'All tokens', groupBy: { model: '$.model' } }),
  )
  assert.deepEqual(
    [updated.name, updated.groupBy, updated.description],
    ['All tokens', { model: '$.model' }, 'AI tokens'],
  )

  // One event, and several; id, source, specversion and time are the SDK's.
  await client.events.ingest({ type: 'prompt', subject: 'customer-1', data: { tokens: 100, model: 'm1' } })
  const prompt = (minutes: number, subject: string, tokens: string | number, model: string) => ({
    type: 'prompt',
    subject,
    time: at(minutes),
    data: { tokens, model },
  })
  await client.events.ingest([
    prompt(5, 'customer-1', '12.5', 'm1'),
    prompt(65, 'customer-1', 7, 'm2'),
    prompt(70, 'customer-2', 1, 'm1'),
  ])
  await client.events.ingest({ type: 'prompt', subject: 'customer-2', data: { model: 'm1' } })
  await billing.usage('customer-2')

  const total = await client.meters.query('tokens_total', { from, to: at(120) })
  assert.deepEqual(
    total?.data.map(row => [row.value, row.windowStart instanceof Date]),
    [[20.5, true]],
  )
  const hourly = await client.meters.query('tokens_total', {
    from,
    to: at(120),
    windowSize: 'HOUR',
    windowTimeZone: 'UTC',
    subject: ['customer-1', 'customer-2'],
    groupBy: ['subject', 'model'],
  })
  assert.deepEqual(
    hourly?.data.map(row => [row.windowStart.getTime() - from.getTime(), row.subject, row.groupBy?.model, row.value]),
    [
      [0, 'customer-1', 'm1', 12.5],
      [3_600_000, 'customer-1', 'm2', 7],
      [3_600_000, 'customer-2', 'm1', 1],
    ],
  )
  const filtered = await client.meters.query('tokens_total', { from, to: at(120), filterGroupBy: { model: 'm2' } })
  assert.deepEqual(
    filtered?.data.map(row => row.value),
    [7],
  )
  const posted = await some(client.meters.queryPost('tokens_total', { from, to: at(120), subject: ['customer-2'] }))
  assert.ok(typeof posted !== 'string')
  assert.deepEqual(
    posted.data.map(row => row.value),
    [1],
  )
  assert.deepEqual(await client.meters.listGroupByValues('tokens_total', 'model'), ['m1', 'm2'])

  const events = await client.events.list({ subject: 'customer-2' })
  assert.equal(events?.length, 2)
  assert.equal(events?.filter(one => one.validationError !== undefined).length, 1)
  assert.ok(events?.every(one => one.event.source === '@openmeter/sdk' && one.storedAt instanceof Date))
  const subjects = await client.subjects.list()
  assert.deepEqual(
    subjects?.map(({ key }) => key),
    ['customer-1', 'customer-2'],
  )
  const [renamed] = await some(client.subjects.upsert({ key: 'customer-1', displayName: 'Customer One' }))
  assert.equal(renamed?.displayName, 'Customer One')
  assert.equal((await some(client.subjects.get('customer-1'))).displayName, 'Customer One')
  const metrics = await client.client.GET('/api/v1/debug/metrics', { parseAs: 'text' })
  assert.match(String(metrics.data), /openmeter_events_total\{subject="customer-1",error="false"\} 3/)

  await t.test('refusals are problem details that the SDK reads', async () => {
    const unknown = await refusal(client.meters.get('nothing'))
    assert.deepEqual([unknown.status, unknown.title, unknown.getField('reason')], [404, 'Not found', 'NOT_FOUND'])
    assert.match(unknown.message, /There is no meter nothing/)
    const taken = { slug: 'tokens_total', aggregation: 'COUNT', eventType: 'x' } as const
    assert.equal((await refusal(client.meters.create(taken))).status, 409)
    const bad = await refusal(client.meters.create({ ...taken, slug: 'Not a slug' }))
    assert.deepEqual([bad.status, bad.getField('reason')], [400, 'INVALID_FIELD'])
    const nobody = new OpenMeter({ baseUrl: billing.url, apiKey: 'wrong' })
    assert.equal((await refusal(nobody.meters.list())).status, 401)
    const event = await refusal(client.events.ingest({ type: '', subject: 's', data: {} }))
    assert.match(event.message, /\[0\]\.type is not a text/)
  })

  await t.test('areas that we do not have say so', async () => {
    for (const call of [
      () => client.features.list(),
      () => client.customers.list(),
      () => client.plans.list(),
      () => client.notifications.channels.list(),
      () => client.entitlements.list(),
      () => client.events.listV2(),
    ]) {
      const { status, title } = await refusal(call())
      assert.deepEqual([status, title], [501, 'Not implemented'])
    }
  })

  await t.test('a portal token reads its subject and its meters only, until it is invalidated', () =>
    portal(billing, client),
  )

  await client.meters.delete('tokens_total')
  assert.equal((await refusal(client.meters.get('tokens_total'))).status, 404)
})

async function portal(billing: Billing, client: OpenMeter) {
  const made = await some(client.portal.create({ subject: 'customer-1', allowedMeterSlugs: ['tokens_total'] }))
  assert.ok(made.token !== undefined && made.expiresAt instanceof Date && !made.expired)
  assert.equal(made.expiresAt.getTime() - (made.createdAt?.getTime() ?? 0), 24 * 3_600_000)
  const reader = new OpenMeterPortal({ baseUrl: billing.url, portalToken: made.token })
  const read = await reader.query('tokens_total', { from, to: at(120), windowSize: 'HOUR' })
  assert.deepEqual(
    read?.data.map(row => row.value),
    [12.5, 7],
  )
  assert.equal((await refusal(reader.query('ai_tokens'))).status, 404)
  const [listed] = (await client.portal.list()) ?? []
  assert.deepEqual([listed?.id, listed?.token], [made.id, undefined])
  // It is no key: nothing but the portal takes it.
  const asKey = new OpenMeter({ baseUrl: billing.url, apiKey: made.token })
  assert.equal((await refusal(asKey.meters.list())).status, 401)
  assert.equal((await refusal(asKey.events.ingest({ type: 'prompt', subject: 'customer-1', data: {} }))).status, 401)
  await client.portal.invalidate({ subject: 'customer-1' })
  assert.equal((await refusal(reader.query('tokens_total'))).status, 401)
  assert.equal((await client.portal.list())?.[0]?.expired, true)
}
