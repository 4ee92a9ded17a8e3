import assert from 'node:assert/strict'
import { test } from 'node:test'
import { drivenClock, testBase } from '../../../test/kit/base.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { adminKey, batch, entry, startService } from './start.ts'

test('G21: rows and bytes a second per key, and a tenant’s daily quota, are 429 with a true Retry-After', async t => {
  const clock = drivenClock(Math.floor(Date.now() / 86_400_000) * 86_400_000 + 43_200_000)
  const s = await startService(t, {
    base: testBase(t, { clock }),
    env: { LOG_INGESTION_RATELIMIT_ENABLED: 'true', LOG_INGESTION_RATELIMIT_ROWS_PER_SECOND: '10' },
  })
  const rows = (count: number, key: string) =>
    s.post(
      '/api/v1/logs/batch',
      batch(
        ...Array.from({ length: count }, (_, i) =>
          entry({ timestamp: new Date(clock.now()).toISOString(), message: `${key} ${clock.now()} ${i}` }),
        ),
      ),
      { 'x-api-key': key },
    )
  const status = async (response: Promise<Response>) => {
    const { status: code, headers } = await response
    return [code, headers.get('retry-after')]
  }
  assert.deepEqual(await status(rows(60, adminKey)), [202, null], 'one large batch passes whole')
  assert.deepEqual(await status(rows(1, adminKey)), [429, '6'], 'and is waited off')
  assert.deepEqual(await status(rows(1, 'acme-write-key')), [202, null], 'others are not concerned')
  clock.advance(5_000)
  assert.deepEqual(await status(rows(1, adminKey)), [429, '1'])
  clock.advance(1_000)
  assert.deepEqual(await status(rows(1, adminKey)), [202, null])

  const made = await s.post('/api/v1/limits', JSON.stringify({ bytes_per_day: 200 }), {
    'x-api-key': 'acme-admin-key',
    'content-type': 'application/json',
  })
  assert.ok(made.ok, await made.text())
  clock.advance(60_000)
  // The rule reaches this replica; from then on the day's bytes, those from before it included, are held against it.
  const refused = await pollUntil(
    async () => {
      const response = await rows(5, 'acme-write-key')
      clock.advance(1_000)
      return response.status === 429 && response
    },
    { what: 'the quota to be used up' },
  )
  const midnightS = 43_200 - Math.floor((clock.now() % 86_400_000) / 1_000) + 43_200
  assert.ok(Math.abs(Number(refused.headers.get('retry-after')) - midnightS) <= 2)
  clock.advance(midnightS * 1_000)
  assert.deepEqual(await status(rows(1, 'acme-write-key')), [202, null], 'a new day')
  const metrics = await (await fetch(`${s.url}/metrics`)).text()
  assert.match(metrics, /ratelimit_hits_total\{key="[^"]+",limit="quota"\}/)
})
