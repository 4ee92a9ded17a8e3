// What the console's Intake screen reads: counts as they are, to operators only, once and as a stream.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { loadSecret } from '#platform/tenancy/secret'
import { mintToken } from '#platform/tenancy/token'
import { systemClock } from '#platform/time'
import type { IntakeStatus } from '../api.ts'
import { batch, entry, startService, type TestService } from './start.ts'

async function operator(s: TestService): Promise<Record<string, string>> {
  const token = mintToken(await loadSecret({ dataDir: s.dir }), {
    audience: 'log-ingestion',
    role: 'operator',
    subject: 'console',
    clock: systemClock,
  })
  return { authorization: `Bearer ${token}` }
}

test('the state of intake is what was sent, stored and refused, for operators only', async t => {
  const s = await startService(t)
  await s.post('/api/v1/logs/batch', batch(entry(), entry(), entry({ service: '' })))
  await s.settled()
  assert.equal((await s.get('/api/v1/intake')).status, 403, 'an admin of one tenant does not see all of them')
  const headers = await operator(s)
  const status = (await (await fetch(`${s.url}/api/v1/intake`, { headers })).json()) as IntakeStatus
  const count = (outcome: string) =>
    status.rows.filter(row => row.outcome === outcome).reduce((sum, row) => sum + row.count, 0)
  assert.deepEqual([count('accepted'), count('stored'), count('rejected')], [2, 2, 1])
  assert.deepEqual([status.pending_rows, status.imbalance_rows, status.is_store_reachable], [0, 0, true])
  assert.equal(status.append.count, 1)
  assert.ok(status.append.buckets.some(bucket => bucket.count === 1))
  assert.ok(status.journal.capacity_bytes > 0)
})

test('the stream tells each second, and a closed reader costs nothing', async t => {
  const s = await startService(t)
  const headers = { ...(await operator(s)), accept: 'text/event-stream' }
  const abort = new AbortController()
  const response = await fetch(`${s.url}/api/v1/intake`, { headers, signal: abort.signal })
  assert.match(response.headers.get('content-type') ?? '', /^text\/event-stream/)
  let text = ''
  const decoder = new TextDecoder()
  for await (const chunk of response.body ?? []) {
    text += decoder.decode(chunk, { stream: true })
    if (text.split('event: intake').length > 2) break
  }
  const [first = ''] = /(?<=data: ).+/.exec(text) ?? []
  assert.equal((JSON.parse(first) as IntakeStatus).pending_rows, 0)
  abort.abort()
  // Stopping would wait for a stream that is still registered.
  await s.stop()
})
