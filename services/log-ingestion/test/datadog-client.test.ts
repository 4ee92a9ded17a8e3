// Datadog's own client, unmodified, with only its address changed: as JSON, gzip and deflate, in large batches, and with
// its own idea of what to do after a 429.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import datadog from '@datadog/datadog-api-client'
import { startService, type TestService, writeKey } from './start.ts'

const { client, v2 } = datadog

interface StoredRow {
  service: string
  level: string
  message: string
  metadata: Record<string, unknown> | null
}

async function storedRows(service: TestService): Promise<StoredRow[]> {
  await service.settled()
  const rows = await service.sql<StoredRow[]>`select service, level, message, metadata from logs order by id`
  return rows.map(row => ({ ...row }))
}

/** As an application makes it, but for the address. */
function logsApi(url: string, o: { key?: string; enableRetry?: boolean; fetch?: typeof fetch } = {}) {
  const { key = writeKey, ...options } = o
  const baseServer = new client.BaseServerConfiguration(url, {})
  return new v2.LogsApi(client.createConfiguration({ authMethods: { apiKeyAuth: key }, baseServer, ...options }))
}

/** Its exception, which carries what we answered, read into its own type. */
const refused = (code: number, title: string, detail: RegExp) => (error: unknown) => {
  assert.ok(error instanceof client.ApiException, String(error))
  assert.equal(error.code, code)
  assert.ok(error.body instanceof v2.HTTPLogErrors)
  const [first, ...others] = error.body.errors ?? []
  assert.deepEqual([first?.status, first?.title, others], [String(code), title, []])
  assert.match(first?.detail ?? '', detail)
  return true
}

test('submitLog, plain and in each of its encodings: fields, tags, and attributes of one’s own', async t => {
  const service = await startService(t)
  const encodings = [undefined, 'identity', 'gzip', 'deflate'] as const
  for (const contentEncoding of encodings)
    await logsApi(service.url).submitLog({
      body: [
        {
          ddsource: 'nginx',
          ddtags: 'env:staging,version:5.1',
          hostname: 'i-012345678',
          message: `as ${contentEncoding}: Übergröße`,
          service: 'payment',
          additionalProperties: { status: 'warn', order: { id: '7', total: 1.5 } },
        },
      ],
      ddtags: 'team:shop',
      ...(contentEncoding ? { contentEncoding } : {}),
    })
  assert.deepEqual(
    await storedRows(service),
    encodings.map(encoding => ({
      service: 'payment',
      level: 'WARN',
      message: `as ${encoding}: Übergröße`,
      metadata: {
        ddsource: 'nginx',
        hostname: 'i-012345678',
        order: { id: '7', total: 1.5 },
        tags: ['team:shop', 'env:staging', 'version:5.1'],
      },
    })),
  )
})

test('its largest batches: a thousand items of 5 kB, gzip and plain, each line once and in order', async t => {
  const service = await startService(t)
  const filler = 'x'.repeat(5_000)
  const items = (name: string) =>
    Array.from({ length: 1_000 }, (_, at) => ({ message: `${name} ${at} ${filler}`, service: 'big' }))
  const api = logsApi(service.url)
  await api.submitLog({ body: items('plain') })
  await api.submitLog({ body: items('gzip'), contentEncoding: 'gzip' })
  const rows = await storedRows(service)
  const heads = rows.map(({ message }) => message.split(' ', 2).join(' '))
  assert.deepEqual(
    heads,
    ['plain', 'gzip'].flatMap(name => Array.from({ length: 1_000 }, (_, at) => `${name} ${at}`)),
  )
  assert.ok(rows.every(({ message }) => message.endsWith(` ${filler}`)))
})

test('refusals arrive as its own exception: unknown key, body too large', async t => {
  const service = await startService(t, { env: { LOG_INGESTION_BODY_BYTES_MAX: '2KiB' } })
  await service.settled()
  await assert.rejects(
    logsApi(service.url, { key: 'wrong' }).submitLog({ body: [{ message: 'm' }] }),
    refused(403, 'Forbidden', /^Invalid API key$/),
  )
  for (const contentEncoding of ['identity', 'gzip'] as const)
    await assert.rejects(
      logsApi(service.url).submitLog({ body: [{ message: 'x'.repeat(3_000) }], contentEncoding }),
      refused(413, 'Payload Too Large', /2048 bytes/),
    )
  assert.deepEqual(await storedRows(service), [])
})

test('an item that cannot be an entry is in quarantine with the reason; the client hears 202, its neighbours are stored', async t => {
  const service = await startService(t, { env: { LOG_INGESTION_METADATA_BYTES_MAX: '1KiB' } })
  const large = { message: 'too much about it', additionalProperties: { dump: 'x'.repeat(2_000) } }
  await logsApi(service.url).submitLog({ body: [{ message: 'before' }, large, { message: 'after' }] })
  const rows = await storedRows(service)
  assert.deepEqual(
    rows.map(({ message }) => message),
    ['before', 'after'],
  )
  const quarantined = await service.sql<{ reason: string; detail: string; entry: Buffer }[]>`
    select reason, detail, entry from purser_logs.quarantine`
  assert.deepEqual(
    quarantined.map(({ reason, detail }) => [reason, detail]),
    [['unusable', 'metadata exceeds maximum size of 1024']],
  )
  assert.match(Buffer.from(quarantined[0]?.entry ?? '').toString(), /too much about it/)
})

test('after a 429 it waits as X-RateLimit-Reset says, which is no less than Retry-After, and then gets through', async t => {
  const service = await startService(t, {
    env: {
      LOG_INGESTION_RATELIMIT_ENABLED: 'true',
      LOG_INGESTION_RATELIMIT_BURST: '1',
      LOG_INGESTION_RATELIMIT_DEFAULT_RPS: '1',
    },
  })
  const heard: [status: number, resetS: number, retryAfterS: number][] = []
  const overheard: typeof fetch = async (...request) => {
    const answer = await fetch(...request)
    const header = (name: string) => Number(answer.headers.get(name) ?? 0)
    heard.push([answer.status, header('x-ratelimit-reset'), header('retry-after')])
    return answer
  }
  const api = logsApi(service.url, { enableRetry: true, fetch: overheard })
  for (const message of ['one', 'two', 'three']) await api.submitLog({ body: [{ message }] })
  assert.ok(
    heard.some(([status]) => status === 429),
    'nothing was refused',
  )
  for (const [status, resetS, retryAfterS] of heard)
    if (status === 429) assert.ok(resetS >= retryAfterS && retryAfterS >= 1, `${resetS} against ${retryAfterS}`)
  assert.equal(heard.filter(([status]) => status === 202).length, 3)
  assert.deepEqual(
    (await storedRows(service)).map(({ message }) => message),
    ['one', 'two', 'three'],
  )
})

test('what refuses longer than the bucket of requests says so in X-RateLimit-Reset as well', async t => {
  const service = await startService(t, {
    env: { LOG_INGESTION_RATELIMIT_ENABLED: 'true', LOG_INGESTION_RATELIMIT_ROWS_PER_SECOND: '1' },
  })
  const api = logsApi(service.url)
  await api.submitLog({ body: Array.from({ length: 100 }, () => ({ message: 'm' })) })
  await assert.rejects(api.submitLog({ body: [{ message: 'm' }] }), refused(429, 'Too Many Requests', /limit exceeded/))
  const answer = await service.post('/api/v2/logs', '[{"message":"m"}]')
  assert.ok(Number(answer.headers.get('retry-after')) > 30)
  assert.equal(answer.headers.get('x-ratelimit-reset'), answer.headers.get('retry-after'))
})
