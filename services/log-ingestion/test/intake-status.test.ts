// What the console's Intake screen reads: counts as they are, of everybody to operators and of one's own tenant to its
// administrators, once and as a stream.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { loadSecret } from '#platform/tenancy/secret'
import { mintToken } from '#platform/tenancy/token'
import { systemClock } from '#platform/time'
import type { IntakeStatus } from '../api.ts'
import { adminKey, batch, entry, startService, type TestService } from './start.ts'

async function operator(s: TestService): Promise<Record<string, string>> {
  const token = mintToken(await loadSecret({ dataDir: s.dir }), {
    audience: 'log-ingestion',
    role: 'operator',
    subject: 'console',
    clock: systemClock,
  })
  return { authorization: `Bearer ${token}` }
}

test('the state of intake is what was sent, stored and refused, of all tenants to operators', async t => {
  const s = await startService(t)
  await s.post('/api/v1/logs/batch', batch(entry(), entry(), entry({ service: '' })))
  await s.settled()
  const headers = await operator(s)
  const status = (await (await fetch(`${s.url}/api/v1/intake`, { headers })).json()) as IntakeStatus
  const count = (outcome: string) =>
    status.rows.filter(row => row.outcome === outcome).reduce((sum, row) => sum + row.count, 0)
  assert.deepEqual([count('accepted'), count('stored'), count('rejected')], [2, 2, 1])
  assert.deepEqual([status.pending_rows, status.imbalance_rows, status.is_store_reachable], [0, 0, true])
  assert.equal(status.tenant, null)
  assert.equal(status.append.count, 1)
  assert.ok(status.append.buckets.some(bucket => bucket.count === 1))
  assert.ok(status.journal.capacity_bytes > 0)
})

test('an administrator of one tenant sees what that one sent, had stored and refused, and how the journal does', async t => {
  const s = await startService(t, {
    env: {
      LOG_INGESTION_RATELIMIT_ENABLED: 'true',
      LOG_INGESTION_RATELIMIT_BURST: '10000',
      LOG_INGESTION_RATELIMIT_ROWS_PER_SECOND: '1',
    },
  })
  const acme = { 'x-api-key': 'acme-write-key' }
  await s.post('/api/v1/logs/batch', batch(entry(), entry(), entry({ service: '' })))
  await s.post('/api/v1/logs/batch', batch(entry({ message: 'of acme' })), acme)
  for (let i = 0; i < 4; i++) await s.post('/api/v1/logs', JSON.stringify({ log: entry() }), acme)
  await s.settled()
  const statusFor = async (headers: Record<string, string>, query = '') => {
    const answer = await fetch(`${s.url}/api/v1/intake${query}`, { headers })
    assert.equal(answer.status, 200)
    return (await answer.json()) as IntakeStatus
  }
  const told = (status: IntakeStatus) =>
    Object.fromEntries(status.rows.map(({ outcome, protocol, count }) => [`${outcome} ${protocol}`, count]))
  const own = await statusFor({ 'x-api-key': adminKey })
  assert.equal(own.tenant, 'public')
  assert.deepEqual(told(own), { 'accepted native': 2, 'rejected native': 1, 'stored all': 2 })
  assert.deepEqual(own.rejected, [{ protocol: 'native', reason: 'validation', count: 1 }])
  assert.deepEqual(own.limited, [])
  assert.deepEqual([own.pending_rows, own.append.count > 0, own.journal.capacity_bytes > 0], [0, true, true])
  const theirs = await statusFor({ 'x-api-key': 'acme-admin-key' }, '?tenant=public')
  assert.equal(theirs.tenant, 'acme', 'no parameter widens it')
  const { 'accepted native': accepted = 0, 'stored all': stored } = told(theirs)
  assert.equal(stored, accepted)
  const [refused, ...others] = theirs.limited
  assert.deepEqual([refused?.limit, others, (refused?.count ?? 0) + accepted], ['rows', [], 5])
  assert.deepEqual(told(await statusFor(await operator(s), '?tenant=acme')), told(theirs))
  assert.equal((await s.get('/api/v1/intake', acme)).status, 403)
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
