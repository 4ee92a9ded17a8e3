// Two replicas of the service, one Redis that dies and comes back, one database.

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { drivenClock, testBase } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { redisServer, whyNoRedis } from './redis-server.ts'
import { batch, entry, startService, type TestService, writeKey } from './start.ts'

const rps = 5
const burst = 40

async function twoReplicas(t: TestContext, env: Record<string, string> = {}) {
  const redis = await redisServer(t)
  const { url: databaseUrl } = await testDatabase(t)
  const clock = drivenClock(Date.now())
  const replica = (): Promise<TestService> =>
    startService(t, {
      base: testBase(t, { clock }),
      databaseUrl,
      env: {
        REDIS_URL: redis.url,
        PURSER_SECRET: 'one secret for both replicas of it',
        LOG_INGESTION_RATELIMIT_ENABLED: 'true',
        LOG_INGESTION_RATELIMIT_DEFAULT_RPS: String(rps),
        LOG_INGESTION_RATELIMIT_BURST: String(burst),
        LOG_INGESTION_DEDUPE_WINDOW: '0s',
        ...env,
      },
    })
  const [a, b] = [await replica(), await replica()] as const
  const everywhere = (line: string) =>
    pollUntil(
      async () => {
        const texts = await Promise.all([a, b].map(async ({ url }) => (await fetch(`${url}/metrics`)).text()))
        return texts.every(text => text.includes(`\nlog_ingestion_${line}\n`))
      },
      { what: `${line} on both`, everyMs: 100 },
    )
  await everywhere('ratelimit_shared 1')
  await everywhere('ratelimit_replicas 2')
  const send = (s: TestService, rows = 1, key = writeKey) => {
    const row = entry({ timestamp: new Date(clock.now()).toISOString() })
    return s.post('/api/v1/logs/batch', batch(...Array(rows).fill(row)), { 'x-api-key': key })
  }
  /** How many of so many get through, sent to both in turn. */
  const admitted = async (count: number, ask: (s: TestService) => Promise<Response> = send) => {
    let passed = 0
    for (let i = 0; i < count; i++) {
      const response = await ask(i % 2 === 0 ? a : b)
      assert.ok([200, 202, 429].includes(response.status), String(response.status))
      if (response.status === 429) assert.ok(Number(response.headers.get('retry-after')) >= 1)
      else passed++
      await response.arrayBuffer()
    }
    return passed
  }
  return { redis, clock, a, b, everywhere, send, admitted }
}

test('G23: replicas share one bucket through Redis; Redis away, each has its part and says so; without Redis the start says that limits are per replica', {
  skip: whyNoRedis,
}, async t => {
  const { redis, clock, a, b, everywhere, send, admitted } = await twoReplicas(t)
  // Redis keeps the time of the common bucket, so what it lets in is bounded by the time that has really passed.
  const begunMs = performance.now()
  const since = () => ((performance.now() - begunMs) / 1_000) * rps
  const first = await admitted(2 * burst)
  assert.ok(first >= burst && first <= burst + since(), `${first} of a burst of ${burst}`)
  assert.equal((await send(a)).headers.get('x-ratelimit-limit'), String(rps))
  const search = (s: TestService) => s.get('/api/v1/logs/search')
  const searches = await admitted(2 * burst, search)
  assert.ok(searches >= burst && searches <= burst + since(), `${searches} searches`)

  await redis.kill()
  await everywhere('ratelimit_shared 0')
  const health = (await (await fetch(`${a.url}/health`)).json()) as { status: string; checks: object }
  assert.deepEqual([health.status, Object.keys(health.checks)], ['degraded', ['redis']])
  // Four seconds of the rate, half of it each, on the replicas' own clock.
  clock.advance(4_000)
  const alone = async (s: TestService) => {
    let passed = 0
    while ((await send(s)).status === 202) passed++
    return passed
  }
  const spare = Math.ceil(since() / 2)
  for (const s of [a, b]) {
    const passed = await alone(s)
    assert.ok(passed >= (4 * rps) / 2 && passed <= (4 * rps) / 2 + spare, `${passed} alone`)
  }
  clock.advance(2_000)
  assert.deepEqual([await alone(a), await alone(b)], [rps, rps])

  await redis.start()
  await everywhere('ratelimit_shared 1')
  const backMs = performance.now()
  clock.advance(2_000)
  // Redis forgot everything; the burst is not there again for that.
  const again = await admitted(2 * burst)
  const sinceBack = ((performance.now() - backMs) / 1_000) * rps
  assert.ok(again >= 2 * rps && again <= 2 * rps + sinceBack + 1, `${again} after it came back`)

  const lines: string[] = []
  await startService(t, { base: testBase(t, { lines }) })
  assert.ok(lines.some(line => /limits are per replica: REDIS_URL is not set/.test(line)))
})

test('rows, bytes and the quota of a day are shared by replicas before anything is in the database', {
  skip: whyNoRedis,
}, async t => {
  const { clock, a, b, send } = await twoReplicas(t, {
    LOG_INGESTION_RATELIMIT_ROWS_PER_SECOND: '10',
    LOG_INGESTION_BATCH_FLUSH_INTERVAL: '1h',
    LOG_INGESTION_BATCH_SIZE: '50000',
    LOG_INGESTION_RATELIMIT_DEFAULT_RPS: '1000',
    LOG_INGESTION_RATELIMIT_BURST: '100000',
  })
  assert.equal((await send(a, 600)).status, 202, 'one large batch passes whole')
  const refused = await pollUntil(
    async () => {
      const response = await send(b)
      return response.status === 429 && response
    },
    { what: 'the other replica to know' },
  )
  assert.ok(Number(refused.headers.get('retry-after')) >= 10)

  const made = await a.post('/api/v1/limits', JSON.stringify({ bytes_per_day: 300 }), {
    'x-api-key': 'acme-admin-key',
    'content-type': 'application/json',
  })
  assert.ok(made.ok, await made.text())
  const isUsedUp = async (response: Promise<Response>) => {
    const { status, headers } = await response
    // Rows are waited off in seconds, a day is not.
    return status === 429 && Number(headers.get('retry-after')) > 60
  }
  await pollUntil(
    () => {
      clock.advance(1_000)
      return isUsedUp(send(a, 20, 'acme-write-key'))
    },
    { what: 'the quota to be used up on one', everyMs: 100 },
  )
  // Its entry is refused by a rule: the other replica takes nothing and knows all the same.
  const nothing = () => b.post('/api/v1/logs/batch', batch(entry({ service: '' })), { 'x-api-key': 'acme-write-key' })
  await pollUntil(() => isUsedUp(nothing()), { what: 'the other to know', everyMs: 100 })
})
