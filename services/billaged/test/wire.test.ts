import assert from 'node:assert/strict'
import test from 'node:test'
import { Code, ConnectError, createClient } from '@connectrpc/connect'
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node'
import * as grpc from '@grpc/grpc-js'
import { BillingService as BillagedV1 } from '#proto/billaged/v1/billaged_pb'
import { BillingService as BillingV1 } from '#proto/billing/v1/billing_pb'
import { BillingService as DeployBillagedV1 } from '#proto/deploy/billaged/v1/billaged_pb'
import { type Billing, metric, minutesAgo, quantityOf, type Reply, startBilling } from './kit.ts'

const batch = (more: object = {}) => ({
  vmId: 'vm-1',
  customerId: 'acme',
  metrics: [metric(minutesAgo(1), 5n)],
  ...more,
})

test('one replica, one day of traffic', async t => {
  const billing = await startBilling(t)
  await t.test('the bytes of the wire are those that other senders write and read', () => bytesOfTheWire(billing))
  await t.test('replies have exactly the documented words, and their details ride in headers', () =>
    exactWords(billing),
  )
  await t.test('times in s, ms, µs and ns mean the same instant', () => unitsOfTime(billing))
  await t.test('official clients reach all packages over all protocols; what they sent is measured once', () =>
    officialClients(billing),
  )
  await t.test('the guide’s endpoints answer as its probes and dashboards read them', () => guideEndpoints(billing))
})

async function bytesOfTheWire(billing: Billing) {
  const post = async (method: string, hex: string) => {
    const response = await fetch(`${billing.url}/billing.v1.BillingService/${method}`, {
      method: 'POST',
      headers: { 'content-type': 'application/proto' },
      body: Buffer.from(hex, 'hex'),
    })
    assert.equal(response.status, 200)
    return Buffer.from(await response.arrayBuffer()).toString('hex')
  }
  const processedOne = Buffer.concat([Buffer.from('08011213', 'hex'), Buffer.from('processed 1 metrics')]).toString(
    'hex',
  )
  // vm_id "vm-1", customer_id "c", one reading at Unix second 1 with 1 ns of CPU.
  assert.equal(await post('SendMetricsBatch', '0A04766D2D311201631A060A0208011001'), processedOne)
  // Unknown fields, a field given twice, nanos, a 64-bit maximum in every counter.
  const all = 'ffffffffffffffff7f'
  const fields = ['10', '18', '20', '28', '30', '38'].map(tag => tag + all).join('')
  const reading = `0a080886e5e5d6061001${fields}`
  const readingLength = (reading.length / 2).toString(16).padStart(2, '0')
  assert.equal(
    await post('SendMetricsBatch', `0a01780a04766d2d31120163${'7a0161'}1a${readingLength}${reading}`),
    processedOne,
  )
  assert.equal(
    await post('SendMetricsBatch', '0A04766D2D31120163'),
    Buffer.concat([Buffer.from('1213', 'hex'), Buffer.from('no metrics provided')])
      .toString('hex')
      .replace('1213', '1213'),
  )
  assert.equal(await post('SendHeartbeat', '0a01681203766d31'), '0801')
  assert.equal(await post('NotifyVmStarted', '0a0176120163188094ebdc03'), '0801')
  assert.equal(await post('NotifyVmStopped', '0a0176108094ebdc03'), '0801')
  assert.equal(await post('NotifyPossibleGap', '0a0176108094ebdc03188194ebdc03'), '0801')
}

async function exactWords(billing: Billing) {
  const one = await billing.rpc('SendMetricsBatch', batch())
  assert.deepEqual(one.body, { success: true, message: 'processed 1 metrics' })
  assert.equal(one.headers.get('billaged-accepted'), '1')
  assert.equal(one.headers.get('billaged-set-aside'), null)
  const empty = await billing.rpc('SendMetricsBatch', batch({ metrics: [] }))
  assert.deepEqual([empty.status, empty.body], [200, { message: 'no metrics provided' }])
  const old = metric(minutesAgo(60 * 2401), 1n)
  const ahead = metric(minutesAgo(-6), 1n)
  const doubtful = await billing.rpc(
    'SendMetricsBatch',
    batch({ metrics: [old, old, ahead, { cpuTimeNanos: '3' }, metric(minutesAgo(2), 1n)] }),
  )
  assert.deepEqual(doubtful.body, { success: true, message: 'processed 5 metrics' })
  assert.equal(doubtful.headers.get('billaged-accepted'), '1')
  assert.equal(
    doubtful.headers.get('billaged-set-aside'),
    '2; reason=too_old, 1; reason=too_far_ahead, 1; reason=no_timestamp',
  )
}

const at = minutesAgo(3)
const refusals: [string, string, unknown, number, string, string][] = [
  ['no vm', 'SendMetricsBatch', batch({ vmId: '' }), 400, 'invalid_argument', 'vm_id is required'],
  ['no customer', 'SendMetricsBatch', batch({ customerId: '' }), 400, 'invalid_argument', 'customer_id is required'],
  [
    'a negative counter',
    'SendMetricsBatch',
    batch({ metrics: [metric(at, 1n), { ...metric(at, -5n) }] }),
    400,
    'invalid_argument',
    'metrics[1].cpu_time_nanos is -5; counters are 0 or more',
  ],
  [
    'bad nanos',
    'SendMetricsBatch',
    batch({ metrics: [{ timestamp: { seconds: '1' }, cpuTimeNanos: '1' }] }),
    400,
    'invalid_argument',
    '',
  ],
  ['not JSON', 'SendMetricsBatch', '{"vmId":', 400, 'invalid_argument', ''],
  [
    'an id too long',
    'SendMetricsBatch',
    batch({ vmId: 'é'.repeat(128) }),
    400,
    'invalid_argument',
    'vm_id has 256 bytes; at most 255',
  ],
  [
    'a control character',
    'SendMetricsBatch',
    batch({ vmId: 'a\u0000b' }),
    400,
    'invalid_argument',
    'vm_id holds a control character or half a surrogate pair',
  ],
  [
    'no start time',
    'NotifyVmStarted',
    { vmId: 'v', customerId: 'c' },
    400,
    'invalid_argument',
    'start_time is required, in Unix nanoseconds',
  ],
  [
    'no stop time',
    'NotifyVmStopped',
    { vmId: 'v' },
    400,
    'invalid_argument',
    'stop_time is required, in Unix nanoseconds',
  ],
  [
    'a negative time',
    'NotifyVmStopped',
    { vmId: 'v', stopTime: '-1' },
    400,
    'invalid_argument',
    'stop_time is -1; times are Unix nanoseconds above 0',
  ],
  ['no instance', 'SendHeartbeat', { activeVms: ['a'] }, 400, 'invalid_argument', 'instance_id is required'],
  [
    'an empty VM in a heartbeat',
    'SendHeartbeat',
    { instanceId: 'i', activeVms: ['a', ''] },
    400,
    'invalid_argument',
    'active_vms[1] is required',
  ],
]

test('every refusal names the field, the value and the bound, stores nothing, and is the same on both ways in', async t => {
  const billing = await startBilling(t)
  // The fast way in takes plain calls; a charset, say, leaves the call to the generated routes. Both answer alike.
  const generated = { headers: { 'content-type': 'application/json; charset=utf-8' } }
  for (const [what, method, message, status, code, text] of refusals) {
    const reply = await billing.rpc(method, message)
    assert.equal(reply.status, status, what)
    const body = reply.body as { code: string; message: string }
    assert.equal(body.code, code, what)
    if (text !== '') assert.equal(body.message, text, what)
    assert.deepEqual(await answerOf(billing.rpc(method, message, generated)), await answerOf(reply), what)
  }
  assert.deepEqual((await billing.api('GET', '/v1/customers')).body, { customers: [], nextCursor: null })
  const tenant = { 'x-tenant-id': 'globex' }
  for (const [method, message, headers] of [
    ['SendMetricsBatch', batch(), {}],
    ['SendMetricsBatch', batch(), tenant],
    ['SendMetricsBatch', batch({ customerId: '' }), tenant],
    ['SendMetricsBatch', batch({ metrics: [] }), {}],
    ['SendMetricsBatch', batch({ metrics: [metric(at, 1n), metric(at, 2n), { cpuTimeNanos: 3 }] }), {}],
    ['SendMetricsBatch', batch(), { 'connect-timeout-ms': 'soon' }],
    ['SendMetricsBatch', batch(), { 'connect-timeout-ms': '60000' }],
    ['SendHeartbeat', { instanceId: 'h1', activeVms: ['vm-1'] }, {}],
    ['NotifyVmStarted', { vmId: 'vm-1', customerId: 'acme', startTime: 1_790_000_000 }, tenant],
    ['NotifyVmStopped', { vm_id: 'vm-1', stop_time: '1790000000' }, {}],
    ['NotifyPossibleGap', { vmId: 'vm-1', resumeTime: '1790000000' }, {}],
  ] as const)
    assert.deepEqual(
      await answerOf(billing.rpc(method, message, { headers: { ...headers } })),
      await answerOf(billing.rpc(method, message, { headers: { ...headers, ...generated.headers } })),
      `${method} ${JSON.stringify(headers)}`,
    )
  const huge = { ...batch(), metrics: Array.from({ length: 100_001 }, () => ({})) }
  const tooMany = await billing.rpc('SendMetricsBatch', huge)
  assert.equal(tooMany.status, 429)
  assert.equal(
    (tooMany.body as { message: string }).message,
    'batch has 100001 samples; at most 100000 are taken at once',
  )
})

/** What a sender sees of a reply. */
async function answerOf(call: Reply | Promise<Reply>) {
  const { status, headers, body } = await call
  const details = ['content-type', 'billaged-accepted', 'billaged-set-aside', 'retry-after'].map(name =>
    headers.get(name),
  )
  return { status, details, body }
}

test('INGEST_AUTH decides who must prove what, per package', async t => {
  const acme = { 'x-tenant-id': 'acme' }
  const globex = { 'x-tenant-id': 'globex' }
  const packages = ['billing.v1', 'billaged.v1', 'deploy.billaged.v1']
  const mismatch = 'X-Tenant-ID globex does not match customer_id acme'
  for (const mode of ['guide', 'tenant'] as const) {
    const billing = await startBilling(t, { env: { BILLAGED_INGEST_AUTH: mode } })
    for (const name of packages) {
      const call = (headers: Record<string, string>) =>
        billing.rpc('SendMetricsBatch', batch(), { package: name, headers })
      const mustName = mode === 'tenant' || name === 'deploy.billaged.v1'
      const bare = await call({})
      assert.equal(bare.status, mustName ? 401 : 200, `${mode} ${name}`)
      if (mustName) assert.equal((bare.body as { message: string }).message, 'tenant ID is required')
      assert.equal((await call(acme)).status, 200)
      const wrong = await call(globex)
      assert.equal(wrong.status, 403)
      assert.equal((wrong.body as { message: string }).message, mismatch)
      const heartbeat = await billing.rpc('SendHeartbeat', { instanceId: 'i', activeVms: [] }, { package: name })
      assert.equal(heartbeat.status, 200)
    }
    await billing.close()
  }
})

async function officialClients(billing: Billing) {
  const baseUrl = billing.url
  const headers = { 'x-tenant-id': 'clients' }
  const timestamp = (minutes: number) => ({ seconds: minutesAgo(minutes) / 1_000_000_000n, nanos: 0 })
  let minute = 60
  for (const service of [BillingV1, DeployBillagedV1, BillagedV1]) {
    for (const transport of [
      createConnectTransport({ baseUrl, httpVersion: '1.1' }),
      createConnectTransport({ baseUrl, httpVersion: '2', useBinaryFormat: true }),
      createGrpcTransport({ baseUrl }),
      createGrpcTransport({ baseUrl, useBinaryFormat: false }),
      createGrpcWebTransport({ baseUrl, httpVersion: '1.1' }),
    ]) {
      const client = createClient(service, transport)
      minute--
      const metrics = [
        { timestamp: timestamp(minute), cpuTimeNanos: BigInt(60 - minute) * 1000n, memoryUsageBytes: 1n },
      ]
      const seen: string[] = []
      const reply = await client.sendMetricsBatch(
        { vmId: 'vm-1', customerId: 'clients', metrics },
        { headers, onHeader: h => seen.push(h.get('billaged-accepted') ?? '') },
      )
      assert.equal(reply.message, 'processed 1 metrics')
      assert.deepEqual(seen, ['1'])
      assert.equal((await client.notifyVmStopped({ vmId: 'nobody', stopTime: 5n }, { headers })).success, true)
      const error = await client
        .sendMetricsBatch({ vmId: '', metrics }, { headers })
        .then(() => null, ConnectError.from)
      assert.equal(error?.code, Code.InvalidArgument)
      assert.equal(error?.rawMessage, 'vm_id is required')
    }
  }
  const js = new grpc.Client(new URL(baseUrl).host, grpc.credentials.createInsecure())
  const bytes = Buffer.from('0A04766D2D311201631A060A0208011001', 'hex')
  const pass = (value: Buffer) => value
  const answer = await new Promise<Buffer>((resolve, reject) => {
    const done: grpc.requestCallback<Buffer> = (error, value) => (value === undefined ? reject(error) : resolve(value))
    js.makeUnaryRequest('/billaged.v1.BillingService/SendMetricsBatch', pass, pass, bytes, done)
  })
  js.close()
  assert.match(answer.toString(), /processed 1 metrics/)
  const usage = await billing.usage('clients', '&by=vm')
  assert.equal(quantityOf(usage, 'vm_cpu'), 14_000n)
}

async function unitsOfTime(billing: Billing) {
  const startNs = minutesAgo(10)
  for (const unit of [1n, 1_000n, 1_000_000n, 1_000_000_000n]) {
    const startTime = `${startNs / unit}`
    assert.equal((await billing.rpc('NotifyVmStarted', { vmId: 'vm-1', customerId: 'units', startTime })).status, 200)
  }
  await billing.rpc(
    'SendMetricsBatch',
    batch({ customerId: 'units', metrics: [metric(minutesAgo(8), 60_000_000_000n)] }),
  )
  assert.equal(quantityOf(await billing.usage('units'), 'vm_cpu'), 60_000_000_000n)
}

async function guideEndpoints(billing: Billing) {
  const get = async (path: string) => {
    const response = await fetch(billing.url + path)
    return { status: response.status, text: await response.text() }
  }
  const health = JSON.parse((await get('/health')).text)
  assert.equal(health.status, 'ok')
  assert.equal(health.service, 'billaged')
  assert.equal(typeof health.uptime_seconds, 'number')
  assert.match(health.checks.intake.detail, /intake is open/)
  for (const path of ['/health/live', '/health/ready', '/ready']) assert.equal((await get(path)).status, 200, path)
  const stats = JSON.parse((await get('/stats')).text)
  assert.deepEqual([typeof stats.active_vms, stats.aggregation_interval], ['number', '1m0s'])
  await billing.rpc('SendMetricsBatch', batch())
  await billing.rpc('SendMetricsBatch', batch({ vmId: '' }))
  const metrics = (await get('/metrics')).text
  for (const line of [
    /^billaged_metrics_processed_total \d\d$/m,
    /^billaged_usage_records_processed_total \d\d$/m,
    /^billaged_processing_duration_seconds_count \d\d$/m,
    /^billaged_batch_size_histogram_count \d\d$/m,
    /^billaged_active_vms [1-9]$/m,
    /^billaged_samples_set_aside_total\{reason="too_old"\} 5$/m,
    /^billaged_queue_depth \d+$/m,
    /^billaged_journal_bytes \d+$/m,
    /rpc_server_requests_total\{rpc_method="\/billing\.v1\.BillingService\/SendMetricsBatch",rpc_status="ok"\} \d+/,
    /rpc_status="invalid_argument"\} \d+/,
    /^process_resident_memory_bytes /m,
  ])
    assert.match(metrics, line)
}
