import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { unusedPort } from '../../../test/kit/ports.ts'
import { entry, startService } from './start.ts'
import { tcpProxy } from './tcp-proxy.ts'

const one = () => JSON.stringify({ log: entry() })

describe('G25: while the database is away known keys keep working, and unknown ones are told to try again', () => {
  test('from memory, and after a start from the snapshot, which holds no key', async t => {
    const database = await testDatabase(t)
    const proxy = await tcpProxy(t, database.url)
    const port = String(await unusedPort())
    const s = await startService(t, { databaseUrl: proxy.url, env: { LOG_INGESTION_SERVER_PORT: port } })
    const made = await s.post('/admin/api/keys', JSON.stringify({ name: 'shop' }), {
      'x-api-key': 'test-admin-key',
      'content-type': 'application/json',
    })
    const { key } = (await made.json()) as { key: string }
    assert.equal((await s.post('/api/v1/logs', one(), { 'x-api-key': key })).status, 202)
    const snapshot = await pollUntil(
      async () => {
        const text = await readFile(join(s.dir, 'keys.json'), 'utf8')
        return text.includes('"shop"') && text
      },
      { what: 'the snapshot to be written' },
    )
    assert.ok(!snapshot.includes(key))
    proxy.down()
    assert.equal((await s.post('/api/v1/logs', one(), { 'x-api-key': key })).status, 202, 'from memory')
    await s.stop()
    const restarting = s.restart()
    await pollUntil(async () => (await s.post('/api/v1/logs', one(), { 'x-api-key': key })).status === 202, {
      what: 'the key to be known from the snapshot',
    })
    const unknown = await s.post('/api/v1/logs', one(), { 'x-api-key': 'somebody else' })
    assert.deepEqual(
      [unknown.status, await unknown.json()],
      [429, { error: 'Service overloaded', reason: 'DIRECTORY_UNAVAILABLE' }],
    )
    proxy.up()
    await restarting
    await s.settled()
  })

  test('G24: environment keys have a name by their hash; keys made or revoked on one replica act on the other in time', async t => {
    const database = await testDatabase(t)
    const shared = { PURSER_SECRET: 'one secret for all replicas of a test' }
    const a = await startService(t, { databaseUrl: database.url, env: shared })
    const b = await startService(t, { databaseUrl: database.url, env: shared })
    const admin = { 'x-api-key': 'test-admin-key', 'content-type': 'application/json' }
    const made = await a.post('/admin/api/keys', JSON.stringify({ name: 'shop' }), admin)
    const { key, id } = (await made.json()) as { key: string; id: number }
    const send = async () => (await b.post('/api/v1/logs', one(), { 'x-api-key': key })).status
    await pollUntil(async () => (await send()) === 202, { what: 'the key to be known elsewhere' })
    await fetch(`${a.url}/admin/api/keys/${id}`, { method: 'DELETE', headers: { 'x-api-key': 'test-admin-key' } })
    await pollUntil(async () => (await send()) === 401, { what: 'the key to be revoked elsewhere' })
    assert.equal((await b.post('/api/v1/logs', one())).status, 202)
    await a.settled()
    await b.settled()
    const keys = await database.sql<{ key: string; tenant: string }[]>`
      select distinct key_id as key, tenant from purser_logs.ledger where key_id like 'env-%'`
    assert.equal(keys.length, 1)
    assert.match(keys[0]?.key ?? '', /^env-[0-9a-f]{6}$/)
    assert.equal(keys[0]?.tenant, 'public')
  })
})
