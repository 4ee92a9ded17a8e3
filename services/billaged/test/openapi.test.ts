import assert from 'node:assert/strict'
import test from 'node:test'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { routeScopes } from '../http/authorize.ts'
import { routeDocs } from '../http/route-docs.ts'
import { type Billing, metric, minuteNs, startBilling } from './kit.ts'
import { type JsonSchema, wireSchemas, writtenSchemas } from './wire-schemas.ts'

test('/openapi.json names every route, its scope and its parameters, and no other', async t => {
  const billing = await startBilling(t)
  const { status, body } = await billing.api('GET', '/openapi.json', undefined, null)
  assert.equal(status, 200)
  const { paths } = body as {
    paths: Record<
      string,
      Record<string, { summary: string; security: object[]; parameters?: { in: string; name: string }[] }>
    >
  }
  const routes = Object.keys(routeScopes).filter(route => !route.includes('*'))
  assert.deepEqual(Object.keys(routeDocs).toSorted(), routes.toSorted())
  const documented = Object.entries(paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, operation]) => {
      const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name)
      const given = (operation.parameters ?? []).filter(one => one.in === 'path').map(one => one.name)
      assert.deepEqual(given, names)
      return `${method.toUpperCase()} ${path.replace(/\{(\w+)\}/g, ':$1')}`
    }),
  )
  assert.deepEqual(documented.toSorted(), routes.toSorted())
  // What is open in the document is open at the door, and nothing else is.
  for (const [path, operations] of Object.entries(paths)) {
    if (path === '/health/detailed' || operations.get === undefined) continue
    const reply = await billing.api('GET', path.replace(/\{\w+\}/g, 'x'), undefined, null)
    assert.equal(reply.status === 401, operations.get.security.length > 0, path)
  }
})

interface Document {
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, JsonSchema> }
}
interface Operation {
  operationId: string
  requestBody?: { content: Record<string, { schema: JsonSchema }> }
  responses: Record<string, { content?: Record<string, { schema: JsonSchema }> }>
}

test('schemas of answers are those of the types that handlers return: node services/billaged/test/wire-schemas.ts writes them', () => {
  assert.deepEqual(writtenSchemas(), wireSchemas())
})

test('a client made from /openapi.json fits: every operation has a name of its own, every schema is one, and bodies and answers are what the document says, to the last field', async t => {
  const billing = await startBilling(t)
  const document = (await billing.api('GET', '/openapi.json', undefined, null)).body as Document
  const { check, ids } = checker(document)
  assert.equal(new Set(ids).size, ids.length)
  assert.ok(
    ids.every(id => /^[a-z][A-Za-z0-9]+$/.test(id)),
    ids.join(),
  )

  const call = async (route: string, o: { path?: string; body?: unknown } = {}) => {
    const [method = '', pattern = ''] = route.split(' ')
    const path = pattern.replace(/:(\w+)/g, '{$1}')
    if (o.body !== undefined) check(path, method, 'request', o.body)
    const reply = await billing.api(method, o.path ?? pattern, o.body)
    assert.ok(reply.status < 300, `${route} ${reply.status} ${JSON.stringify(reply.body)}`)
    check(path, method, String(reply.status), reply.body)
    return reply.body
  }
  await walk(billing, call)
})

/** Everything a customer's month is made of, each step checked against the document. */
async function walk(
  billing: Billing,
  call: (route: string, o?: { path?: string; body?: unknown }) => Promise<unknown>,
) {
  const month = Temporal.Now.zonedDateTimeISO('UTC').with({ day: 1 }).startOfDay().subtract({ months: 1 })
  const name = month.toPlainDate().toString().slice(0, 7)
  const from = month.toInstant().toString()
  // Nothing of it in the month before, whose period would have to be closed first.
  const startNs = month.toInstant().epochNanoseconds + 2n * minuteNs
  const metrics = Array.from({ length: 90 }, (_, i) =>
    metric(startNs + BigInt(i) * minuteNs, BigInt(i % 60) * minuteNs + 1n),
  )
  await billing.rpc('NotifyVmStarted', { vmId: 'vm-1', customerId: 'acme', startTime: `${startNs - minuteNs}` })
  await billing.rpc('SendMetricsBatch', {
    vmId: 'vm-1',
    customerId: 'acme',
    metrics: [...metrics, metric(startNs, 9n), metric(1n, 9n)],
  })
  await billing.usage('acme')
  const idOf = (body: unknown) => String((body as { id: unknown }).id)

  await call('POST /v1/plans', { body: { id: 'std', name: 'Standard' } })
  const price = {
    id: 'cpu',
    model: 'graduated',
    meter: 'vm_cpu',
    per: '1',
    tiers: [
      { upTo: '9', amountNano: '1' },
      { upTo: null, amountNano: '2' },
    ],
  }
  const version = {
    effectiveFrom: '2020-01-01T00:00:00Z',
    gapPolicy: 'floor',
    minimumNano: '5',
    unbilled: ['vm_memory'],
    prices: [price, { id: 'base', model: 'flat', amountNano: '7' }],
  }
  await call('POST /v1/plans/:id/versions', { path: '/v1/plans/std/versions', body: version })
  await call('GET /v1/plans', { path: '/v1/plans?limit=1' })
  await call('GET /v1/plans/:id/versions', { path: '/v1/plans/std/versions' })
  const subscription = idOf(await call('POST /v1/subscriptions', { body: { customerId: 'acme', planId: 'std', from } }))
  await call('GET /v1/subscriptions')
  await call('PUT /v1/customers/:id', {
    path: '/v1/customers/acme',
    body: { name: 'Acme', taxPpm: 190_000, taxName: 'VAT', address: ['Road 1'] },
  })
  await call('GET /v1/customers')
  await call('GET /v1/customers/:id', { path: '/v1/customers/acme' })
  for (const by of ['meter', 'vm', 'day'])
    await call('GET /v1/customers/:id/usage', { path: `/v1/customers/acme/usage?from=${from}&by=${by}` })
  await call('GET /v1/customers/:id/spend', { path: '/v1/customers/acme/spend?band=true' })
  await call('GET /v1/vms/:customer/:vm', { path: `/v1/vms/acme/vm-1?from=${from}` })
  await call('GET /v1/vms/:customer/:vm/timeline', { path: `/v1/vms/acme/vm-1/timeline?from=${from}` })
  await call('GET /v1/customers/:id/ledger', { path: `/v1/customers/acme/ledger?from=${from}` })
  await call('GET /v1/conflicts', { path: `/v1/conflicts?customer=acme&from=${from}` })
  await call('POST /v1/preview', {
    body: { customerId: 'acme', from, to: month.add({ days: 3 }).toInstant().toString() },
  })
  await call('POST /v1/preview', { body: { planId: 'example', customers: ['acme'] } })
  await call('POST /v1/preview/compare', { body: { planId: 'example', customers: ['acme'] } })
  await call('POST /v1/credits', { body: { customerId: 'acme', kind: 'promotional', amountNano: '3' } })
  await call('GET /v1/credits')
  await call('POST /v1/budgets', { body: { customerId: 'acme', budgetNano: '1000' } })
  await call('GET /v1/budgets')
  await call('GET /v1/alerts')
  const webhook = idOf(
    await call('POST /v1/webhooks', { body: { url: 'http://127.0.0.1:9/', types: ['invoice.finalised'] } }),
  )
  await call('GET /v1/webhooks')
  await call('GET /v1/webhooks/:id', { path: `/v1/webhooks/${webhook}` })
  await call('PUT /v1/webhooks/:id', { path: `/v1/webhooks/${webhook}`, body: { rotateSecret: true } })
  await call('POST /v1/webhooks/:id/test', { path: `/v1/webhooks/${webhook}/test` })
  const { items } = (await call('GET /v1/quarantine')) as { items: { id: string }[] }
  await call('POST /v1/quarantine/:id/discard', {
    path: `/v1/quarantine/${items[0]?.id}/discard`,
    body: { reason: 'old' },
  })

  await call('GET /v1/invoices/draft', { path: `/v1/invoices/draft?customer=acme&period=${name}` })
  await call('GET /v1/close/:period', { path: `/v1/close/${name}` })
  const { finalised } = (await call('POST /v1/close/:period', {
    path: `/v1/close/${name}`,
    body: { customers: ['acme'], force: { reason: 'test' } },
  })) as { finalised: string[] }
  const invoice = finalised[0] ?? ''
  const { lines } = (await call('GET /v1/invoices/:id', { path: `/v1/invoices/${invoice}` })) as {
    lines: { id: string }[]
  }
  for (const line of lines) {
    await call('GET /v1/lines/:line/explain', { path: `/v1/lines/${line.id}/explain?vm=vm-1` })
    await call('GET /v1/invoices/:id/lines/:line/explain', { path: `/v1/invoices/${invoice}/lines/${line.id}/explain` })
  }
  await call('GET /v1/invoices')
  await call('GET /v1/invoices/:id/receipt', { path: `/v1/invoices/${invoice}/receipt` })
  await call('GET /v1/receipts/key')
  await call('POST /v1/reconcile', { body: { rows: [{ customerId: 'acme', period: name, amount: '1' }] } })
  await call('GET /v1/unrated')
  const { deliveries } = (await call('GET /v1/webhooks/deliveries')) as { deliveries: { id: string }[] }
  await call('GET /v1/webhooks/deliveries/:id', { path: `/v1/webhooks/deliveries/${deliveries[0]?.id}` })
  await call('POST /v1/verify')
  await call('POST /v1/subscriptions/:id/end', {
    path: `/v1/subscriptions/${subscription}/end`,
    body: { at: '2090-01-01T00:00:00Z' },
  })
  await call('POST /v1/invoices/:id/void', { path: `/v1/invoices/${invoice}/void`, body: { reason: 'test' } })
  await call('GET /v1/replicas')
  await call('PUT /v1/customers/:id/stripe', { path: '/v1/customers/acme/stripe', body: { stripeCustomerId: 'cus_1' } })
  await call('GET /v1/stripe/pushes')

  await call('POST /v1/portal/tokens', { body: { customerId: 'acme', ttl: '1h' } })
  await call('GET /v1/portal/tokens')
  await call('POST /v1/portal/tokens/invalidate', { body: { subject: 'acme' } })
  await call('POST /api/v1/portal/tokens', { body: { subject: 'acme', allowedMeterSlugs: ['vm_cpu'] } })
  await call('GET /api/v1/portal/tokens')
  await call('POST /api/v1/meters', {
    body: {
      slug: 'seats',
      aggregation: 'WEIGHTED_SUM',
      eventType: 'seat',
      valueProperty: '$.n',
      groupBy: { team: '$.team' },
    },
  })
  await call('GET /api/v1/meters')
  await call('GET /api/v1/meters/:id', { path: '/api/v1/meters/seats' })
  await call('PUT /api/v1/meters/:id', { path: '/api/v1/meters/seats', body: { description: 'Seats' } })
  const event = {
    specversion: '1.0',
    id: '1',
    source: 'test',
    type: 'seat',
    subject: 'acme',
    data: { n: '3', team: 'a' },
  }
  await call('POST /api/v1/events', { body: [event, { ...event, id: '2', data: { n: 'many' } }] })
  await billing.usage('acme')
  await call('GET /api/v1/events')
  await call('POST /v1/events/void', { body: { source: 'test', id: '2', reason: 'wrong' } })
  await call('GET /api/v1/meters/:id/query', { path: '/api/v1/meters/seats/query?groupBy=team&groupBy=subject' })
  await call('POST /api/v1/meters/:id/query', {
    path: '/api/v1/meters/vm_cpu/query',
    body: { subject: ['acme'], from, windowSize: 'DAY' },
  })
  await call('GET /api/v1/meters/:id/subjects', { path: '/api/v1/meters/seats/subjects' })
  await call('GET /api/v1/meters/:id/group-by/:key/values', { path: '/api/v1/meters/seats/group-by/team/values' })
  await call('POST /api/v1/subjects', { body: [{ key: 'device', customerId: 'acme', displayName: 'A device' }] })
  await call('GET /api/v1/subjects')
  await call('GET /api/v1/subjects/:id', { path: '/api/v1/subjects/device' })
  for (const open of ['GET /health', 'GET /health/live', 'GET /health/ready', 'GET /ready', 'GET /stats'])
    await call(open)
}

/** Asserts that bodies and answers have the schema of the document, and no field that is not in it. */
function checker(document: Document) {
  const ajv = new Ajv2020({ strict: false, validateFormats: false })
  ajv.addSchema({ $id: 'doc', components: { schemas: closed(document.components.schemas) } })
  const whole = (schema: JsonSchema) => ajv.compile(JSON.parse(JSON.stringify(schema).replaceAll('"#/', '"doc#/')))
  const operations = Object.values(document.paths).flatMap(path => Object.values(path))
  for (const { requestBody, responses } of operations)
    for (const body of [requestBody, ...Object.values(responses)])
      for (const { schema } of Object.values(body?.content ?? {})) whole(schema)
  const check = (path: string, method: string, what: string, value: unknown) => {
    const operation = document.paths[path]?.[method.toLowerCase()]
    const content = what === 'request' ? operation?.requestBody?.content : operation?.responses[what]?.content
    assert.ok(what === '204' || content !== undefined, `${method} ${path} has no ${what}`)
    const schema = content?.['application/json']?.schema
    const validate = schema === undefined ? null : whole(schema)
    assert.ok(
      validate === null || validate(value),
      `${method} ${path} ${what}: ${JSON.stringify(validate?.errors)} ${JSON.stringify(value)}`,
    )
  }
  return { check, ids: operations.map(({ operationId }) => operationId) }
}

function closed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(closed)
  if (typeof value !== 'object' || value === null) return value
  const inner = Object.fromEntries(Object.entries(value).map(([key, one]) => [key, closed(one)]))
  return 'properties' in inner && inner.type === 'object' ? { additionalProperties: false, ...inner } : inner
}
