// What the platform says of itself, as it arrives in the Logs screen of whoever has just started it.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { loadSecret } from '#platform/tenancy/secret'
import { mintToken } from '#platform/tenancy/token'
import { systemClock } from '#platform/time'
import { pollUntil } from '../kit/poll.ts'
import { startPurser } from '../kit/purser.ts'

test('G48: the five services’ lines are there under their names; log-ingestion’s own, at most a hundred a second, none per request, in no loop', async t => {
  const purser = await startPurser(t)
  const secret = await loadSecret({ dataDir: purser.dataDir })
  const search = async (q: string) => {
    const token = mintToken(secret, {
      audience: 'log-ingestion',
      role: 'owner',
      subject: 'test',
      clock: systemClock,
    })
    const path = `/api/v1/logs/search?q=${encodeURIComponent(q)}&from=-15m&order=asc&limit=1000`
    const answer = await fetch(purser.url('log-ingestion') + path, { headers: { authorization: `Bearer ${token}` } })
    assert.ok(answer.ok, await answer.clone().text())
    return ((await answer.json()) as { logs: { message: string; timestamp: string }[] }).logs
  }
  for (const service of ['billaged', 'budgetguard', 'builderd', 'metrics-collector', 'log-ingestion'])
    await pollUntil(async () => (await search(`service:${service}`)).length > 0, {
      what: `lines of ${service}`,
    })
  const before = (await search('service:log-ingestion')).length
  for (let n = 0; n < 30; n++) await search('service:nobody')
  const logs = await search('service:log-ingestion')
  assert.ok(logs.length < 1_000 && logs.length - before < 10, 'neither requests nor stored lines make lines')
  const times = logs.map(log => Date.parse(log.timestamp))
  for (let i = 100; i < times.length; i++) assert.ok((times[i] ?? 0) - (times[i - 100] ?? 0) >= 998)
})
