// What a newcomer does in the first minute, against the platform as `npm start` runs it: one instance for the file.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import OpenAI from 'openai'
import { parseUsd } from '#platform/money'
import { loadSecret } from '#platform/tenancy/secret'
import { mintToken } from '#platform/tenancy/token'
import { systemClock } from '#platform/time'
import { writeSampleLayout } from '../../purser/demo/sample-layout.ts'
import { fetchExpositions, metricsPage } from '../../purser/metrics-page.ts'
import { localSourcesDir, type ServiceName } from '../../purser/plan.ts'
import { readRunFile } from '../../purser/run-file.ts'
import { pollUntil } from '../kit/poll.ts'
import { healthOf, type Purser, startPurser } from '../kit/purser.ts'

let purser: Purser
let secret: Buffer
const ends: (() => Promise<void>)[] = []

before(async () => {
  purser = await startPurser({ after: fn => void ends.push(fn) })
  secret = await loadSecret({ dataDir: purser.dataDir })
})
after(async () => {
  for (const end of ends) await end()
})

function operator(name: ServiceName): Record<string, string> {
  return {
    authorization: `Bearer ${mintToken(secret, { audience: name, role: 'owner', subject: 'test', clock: systemClock })}`,
  }
}

async function call<T>(
  name: ServiceName,
  path: string,
  o: { body?: unknown; headers?: Record<string, string>; method?: string } = {},
): Promise<T> {
  const response = await fetch(purser.url(name) + path, {
    method: o.method ?? (o.body === undefined ? 'GET' : 'POST'),
    headers: { 'content-type': 'application/json', ...o.headers },
    ...(o.body === undefined ? {} : { body: JSON.stringify(o.body) }),
    signal: AbortSignal.timeout(60_000),
  })
  const text = await response.text()
  assert.ok(response.ok, `${name} ${path} answered ${response.status}: ${text}`)
  return JSON.parse(text || 'null') as T
}

const admin = () => ({ 'x-admin-key': purser.adminKey() })

async function newTenant(name: string, budgetUsd: string): Promise<{ id: number; client: OpenAI }> {
  const { id } = await call<{ id: number }>('budgetguard', '/admin/tenant', { body: { name }, headers: admin() })
  await call('budgetguard', `/admin/tenant/${id}/budgets`, {
    body: { budgets: [{ period: 'monthly', amountUsd: budgetUsd }] },
    headers: admin(),
  })
  const { key } = await call<{ key: string }>('budgetguard', `/admin/tenant/${id}/apikeys`, {
    body: {},
    headers: admin(),
  })
  return { id, client: new OpenAI({ apiKey: key, baseURL: `${purser.url('budgetguard')}/v1`, maxRetries: 0 }) }
}

test('every service is well', async () => {
  const health = await pollUntil(
    async () => {
      const answers = await healthOf(purser.dataDir)
      return Object.values(answers).every(status => status === 'ok') && answers
    },
    { what: 'all services ok' },
  )
  assert.deepEqual(Object.keys(health).sort(), [
    'billaged',
    'budgetguard',
    'builderd',
    'log-ingestion',
    'metrics-collector',
  ])
})

test('the official OpenAI client streams from the built-in echo model', async () => {
  const { client } = await newTenant('streamer', '1')
  const stream = await client.chat.completions.create({
    model: 'echo',
    stream: true,
    messages: [{ role: 'user', content: 'every budget holds' }],
  })
  let said = ''
  for await (const chunk of stream) said += chunk.choices[0]?.delta.content ?? ''
  assert.equal(said, 'every budget holds')
})

test('100 parallel calls reach a budget exactly: what fits is answered, the rest is 402, and the books agree to the nano-dollar', async () => {
  const { id, client } = await newTenant('racer', '0.0021')
  const answers = await Promise.all(
    Array.from({ length: 100 }, () =>
      client.chat.completions
        .create(
          { model: 'echo-priced', max_tokens: 64, messages: [{ role: 'user', content: 'x'.repeat(200) }] },
          { headers: { 'x-echo-delay-ms': '200' } },
        )
        .withResponse()
        .then(({ response }) => ({ status: 200, costUsd: response.headers.get('x-budgetguard-cost-usd') }))
        .catch((error: unknown) => {
          assert.ok(error instanceof OpenAI.APIError)
          assert.equal(error.status, 402)
          return { status: 402, costUsd: null }
        }),
    ),
  )
  const answered = answers.filter(a => a.status === 200)
  assert.ok(answered.length >= 1 && answered.length < 100, `${answered.length} answered`)
  const paidNano = answered.reduce((sum, a) => sum + parseUsd(a.costUsd ?? ''), 0n)
  assert.ok(paidNano <= 2_100_000n)
  const books = await pollUntil(
    async () => {
      const [budget] = await call<{ currentUsageNano: string; heldUsd: string }[]>(
        'budgetguard',
        `/admin/tenant/${id}/budgets`,
        { headers: admin() },
      )
      const { data } = await call<{ data: { usdNano: string; status: string }[] }>(
        'budgetguard',
        `/admin/tenant/${id}/usage/ledger?limit=1000`,
        { headers: admin() },
      )
      const bookedNano = data.reduce((sum, row) => sum + BigInt(row.usdNano), 0n)
      return (
        budget?.heldUsd === '0' &&
        bookedNano === BigInt(budget.currentUsageNano) &&
        data.filter(row => row.status === 'success').length === answered.length &&
        bookedNano
      )
    },
    { what: 'ledger and account to agree' },
  )
  assert.equal(books, paidNano)
  assert.match(
    await (await fetch(`${purser.url('budgetguard')}/metrics`)).text(),
    /^budgetguard_overspend_nanousd_total 0$/m,
  )
})

test('a replayed VM batch changes nothing', async () => {
  const start = Math.floor(Date.now() / 3_600_000) * 3_600_000 - 3_600_000
  const metrics = Array.from({ length: 11 }, (_, i) => ({
    timestamp: new Date(start + i * 60_000).toISOString(),
    cpuTimeNanos: String(5_000_000_000n * BigInt(i)),
    memoryUsageBytes: '1073741824',
    diskReadBytes: String(1_000 * i),
    diskWriteBytes: '0',
    networkRxBytes: '0',
    networkTxBytes: String(9_007_199_254_740_993n + BigInt(i)),
  }))
  const send = (part: unknown[]) =>
    call<{ success: boolean; message: string }>('billaged', '/billing.v1.BillingService/SendMetricsBatch', {
      body: { vmId: 'vm-1', customerId: 'replayed', metrics: part },
      headers: { 'x-tenant-id': 'replayed' },
    })
  assert.deepEqual(await send(metrics), { success: true, message: 'processed 11 metrics' })
  const usage = () =>
    call<{ rows: { meter: string; quantity: string }[] }>(
      'billaged',
      `/v1/customers/replayed/usage?from=${new Date(start).toISOString()}&to=${new Date(start + 3_600_000).toISOString()}&by=meter&wait=30s`,
      { headers: operator('billaged') },
    )
  const once = Object.fromEntries((await usage()).rows.map(row => [row.meter, row.quantity]))
  assert.equal(once.vm_cpu, '50000000000')
  assert.equal(once.vm_net_tx, '10')
  await Promise.all([send(metrics), send(metrics.slice(3, 7)), send([...metrics].reverse())])
  const again = Object.fromEntries((await usage()).rows.map(row => [row.meter, row.quantity]))
  assert.deepEqual(again, once)
})

test('a log line is searchable after its 202, and the platform’s own lines are there too', async () => {
  const key = purser.writeKey()
  const log = {
    timestamp: new Date().toISOString(),
    service: 'shop',
    level: 'info',
    message: 'order 4711 paid',
    metadata: { amount: 12345678901234567890n.toString() },
  }
  const answer = await call<{ message: string }>('log-ingestion', '/api/v1/logs', {
    body: { log },
    headers: { 'x-api-key': key },
  })
  assert.deepEqual(answer, { message: 'Log accepted' })
  const search = (q: string) =>
    call<{ logs: { service: string; message: string }[] }>(
      'log-ingestion',
      `/api/v1/logs/search?q=${encodeURIComponent(q)}&from=-15m`,
      { headers: operator('log-ingestion') },
    )
  const found = await pollUntil(async () => (await search('"order 4711"')).logs[0], {
    what: 'the line',
  })
  assert.equal(found.service, 'shop')
  for (const service of ['billaged', 'budgetguard', 'builderd', 'metrics-collector', 'log-ingestion'])
    await pollUntil(async () => (await search(`service:${service}`)).logs.length > 0, {
      what: `lines of ${service}`,
    })
})

test('host metrics of this machine are there, live and over a range', async () => {
  const { data } = await call<{ data: { result: { value: [number, string] }[] } }>(
    'metrics-collector',
    '/api/v1/query?query=node_load1',
  )
  assert.match(data.result[0]?.value[1] ?? '', /^\d/)
  const live = await fetch(`${purser.url('metrics-collector')}/api/v1/live?match[]=node_load1`, {
    signal: AbortSignal.timeout(60_000),
  })
  const first = await live.body?.pipeThrough(new TextDecoderStream()).getReader().read()
  assert.ok(first?.value)
})

async function usageOf(customer: string): Promise<Map<string, bigint>> {
  const from = new Date(Date.now() - 3_600_000).toISOString()
  const to = new Date(Date.now() + 60_000).toISOString()
  const { rows } = await call<{ rows: { meter: string; quantity: string }[] }>(
    'billaged',
    `/v1/customers/${customer}/usage?from=${from}&to=${to}&by=meter`,
    {
      headers: operator('billaged'),
    },
  )
  return new Map(rows.map(row => [row.meter, BigInt(row.quantity.split('.')[0] ?? '0')]))
}

test('what an AI call cost is on the bill to the nano-dollar', async () => {
  const { id, client } = await newTenant('metered', '1')
  await client.chat.completions.create({
    model: 'echo-priced',
    max_tokens: 10,
    messages: [{ role: 'user', content: 'hello' }],
  })
  const meters = await pollUntil(
    async () => {
      const found = await usageOf('metered')
      return (found.get('ai_requests') ?? 0n) > 0n && found
    },
    { what: 'the AI call on the bill' },
  )
  const { data } = await call<{ data: { usdNano: string }[] }>('budgetguard', `/admin/tenant/${id}/usage/ledger`, {
    headers: admin(),
  })
  assert.equal(meters.get('ai_cost'), BigInt(data[0]?.usdNano ?? '-1'))
})

test('an image is built, its log streams to the end, its artifact matches its checksum, and the build is on the bill', async () => {
  await writeSampleLayout(join(localSourcesDir(purser.dataDir), 'hello'))
  const rpc = <T>(method: string, body: unknown) =>
    call<T>('builderd', `/builder.v1.BuilderService/${method}`, {
      body,
      headers: { ...operator('builderd'), 'x-tenant-id': 'builder' },
    })
  const { buildId } = await rpc<{ buildId: string }>('CreateBuild', {
    config: {
      tenant: { tenantId: 'builder' },
      source: { dockerImage: { imageUri: 'oci:hello:latest' } },
      target: { microvmRootfs: { initStrategy: 'INIT_STRATEGY_DIRECT' } },
      strategy: { dockerExtract: {} },
    },
  })
  const log = await (
    await fetch(`${purser.url('builderd')}/builder.v1.BuilderService/GetBuildLogs/${buildId}?follow=true`, {
      headers: { ...operator('builderd'), 'x-tenant-id': 'builder' },
      signal: AbortSignal.timeout(60_000),
    })
  ).text()
  const { build } = await rpc<{
    build: { state: string; errorMessage?: string; rootfsPath: string; rootfsChecksum: string }
  }>('GetBuild', { buildId, tenantId: 'builder' })
  assert.equal(build.state, 'BUILD_STATE_COMPLETED', `${build.errorMessage}\n${log}`)
  assert.match(log, /published/)
  assert.equal(createHash('sha256').update(readFileSync(build.rootfsPath)).digest('hex'), build.rootfsChecksum)
  await pollUntil(async () => (await usageOf('builder')).get('build_count') === 1n, {
    what: 'the build on the bill',
  })
})

test('docs/metrics.md lists exactly the families that the services expose', async () => {
  const run = readRunFile(purser.dataDir)
  assert.ok(run)
  const page = metricsPage(await fetchExpositions(run.services))
  assert.equal(
    readFileSync(new URL('../../docs/metrics.md', import.meta.url), 'utf8'),
    page,
    'stale: npm start, then npm run generate:metrics',
  )
})
