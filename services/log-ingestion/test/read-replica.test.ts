// Queries from a streaming replica: never behind what they say, never without an answer.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { openSql } from '#platform/postgres'
import { testBase } from '../../../test/kit/base.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { openReadReplica } from '../pipeline/read-replica.ts'
import { startDebianPostgres, startStandby, whyNoPostgres } from './debian-postgres.ts'
import { adminKey, batch, entry, startService, type TestService } from './start.ts'
import { tcpProxy } from './tcp-proxy.ts'

interface Found {
  logs: { id: string; message: string }[]
  watermark: string
}

const search = async (s: TestService, q: string): Promise<Found> =>
  (await (await s.get(`/api/v1/logs/search?q=${encodeURIComponent(q)}`)).json()) as Found

const send = async (s: TestService, ...messages: string[]) => {
  const answer = await s.post('/api/v1/logs/batch', batch(...messages.map(message => entry({ message }))))
  assert.equal(answer.status, 202)
  await s.settled()
}

test('queries are answered by the read replica, say how far it is, and go to the database while it is away', {
  skip: whyNoPostgres,
}, async t => {
  const primary = await startDebianPostgres(t)
  const standby = await startStandby(t, primary)
  const sql = openSql({ url: standby.url('postgres'), max: 1, applicationName: 'test', log: testBase(t).log })
  t.after(() => sql.end({ timeout: 1 }))
  const proxy = await tcpProxy(t, standby.url('postgres'))
  const s = await startService(t, {
    databaseUrl: primary.url('postgres'),
    env: { LOG_INGESTION_READ_URL: proxy.url },
  })
  const replicaState = async () => {
    const { dependencies, checks } = (await (
      await s.get('/health/detailed', { 'x-api-key': adminKey })
    ).json()) as Record<string, Record<string, { status: string }>>
    return (dependencies ?? checks)?.['read replica']?.status
  }
  await pollUntil(async () => (await replicaState()) === 'ok', { what: 'the replica to be asked' })

  await send(s, 'seen by both')
  await pollUntil(async () => (await search(s, 'seen')).logs.length === 1, { what: 'the entry on the replica' })

  // It stands still: what is stored after that is not in its answers, and their watermark does not claim it.
  await sql`select pg_wal_replay_pause()`
  await pollUntil(
    async () =>
      (await sql<{ state: string }[]>`select pg_get_wal_replay_pause_state() as state`)[0]?.state === 'paused',
    { what: 'the replay to pause' },
  )
  const acceptedAt = new Date().toISOString()
  await send(s, 'later entry', 'another later entry')
  const behind = await search(s, 'later')
  assert.equal(behind.logs.length, 0, 'the answer came from the database itself')
  assert.ok(behind.watermark < acceptedAt, `${behind.watermark} claims what was accepted at ${acceptedAt}`)

  // What is done on the database is told to readers when the copy has it too: a deletion that is over, for instance.
  const { log, clock } = s.base
  const own = openSql({ url: primary.url('postgres'), max: 1, applicationName: 'test', log })
  const replica = await openReadReplica({
    ...{ url: standby.url('postgres'), primary: own, poolMax: 2, statementTimeoutMs: 5_000, clock, log },
    replica: (await readFile(join(s.dir, 'replica'), 'utf8')).trim(),
  })
  t.after(() => Promise.all([replica.close(), own.end({ timeout: 1 })]))
  await pollUntil(() => replica.watermarkUs !== undefined, { what: 'the replica to be asked' })
  let isReplayed = false
  replica.afterReplay(() => {
    isReplayed = true
  })
  for (let i = 0; i < 3; i++) await sql`select pg_sleep(0.1)`
  assert.equal(isReplayed, false)
  await sql`select pg_wal_replay_resume()`
  await pollUntil(async () => (await search(s, 'later')).logs.length === 2, { what: 'the replica to catch up' })
  await pollUntil(async () => (await search(s, 'later')).watermark > acceptedAt, { what: 'the watermark to move' })
  await pollUntil(() => isReplayed, { what: 'the replay to be noticed' })

  // Silent, which no connection tells by itself, and then away: the database answers.
  for (const [i, lose] of [() => proxy.silence(), () => proxy.down()].entries()) {
    lose()
    await pollUntil(async () => (await replicaState()) === 'degraded', {
      what: 'the loss to be seen',
    })
    await send(s, `later still ${i}`)
    assert.equal((await search(s, 'later')).logs.length, 3 + i)
  }
  assert.equal((await s.get('/health')).status, 200)

  proxy.up()
  await pollUntil(async () => (await replicaState()) === 'ok', {
    what: 'the replica to be asked again',
  })
  await pollUntil(async () => (await search(s, 'later')).logs.length === 4, { what: 'the replica to answer' })
})
