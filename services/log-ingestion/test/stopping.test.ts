// TERM, once and twice, with the database there, busy, or away. What was acknowledged is stored by this process or the next.

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { type Child, startProcess } from './process.ts'
import { entry, startService, writeKey } from './start.ts'

async function folder(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'purser-stopping-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  return dir
}

function startOn(t: TestContext, dir: string, databaseUrl: string, env: Record<string, string> = {}): Child {
  return startProcess(t, {
    env: {
      LOG_INGESTION_SERVER_HOST: '127.0.0.1',
      LOG_INGESTION_SERVER_PORT: '0',
      LOG_INGESTION_DATA_DIR: dir,
      LOG_INGESTION_DATABASE_URL: databaseUrl,
      LOG_INGESTION_API_KEYS: writeKey,
      LOG_INGESTION_SELF_LOGS: 'false',
      // Nothing is stored by itself while a test runs.
      LOG_INGESTION_BATCH_FLUSH_INTERVAL: '10m',
      ...env,
    },
  })
}

function head(method: string, path: string, length = 0): string {
  return `${method} ${path} HTTP/1.1\r\nHost: x\r\nX-API-Key: ${writeKey}\r\nContent-Length: ${length}\r\n\r\n`
}

/** A connection with a request in work: its headers are there, and the first bytes of its body. */
async function inWork(url: string, message: string) {
  const body = JSON.stringify({ log: entry({ message }) })
  let answers = ''
  const socket: Socket = connect(Number(new URL(url).port), '127.0.0.1')
  socket.on('data', chunk => (answers += chunk)).on('error', () => {})
  const closed = new Promise<void>(resolve => socket.once('close', () => resolve()))
  // An answer on the same connection: the service has it, and what follows too.
  socket.write(head('GET', '/health/live'))
  await pollUntil(() => answers.includes('alive'), { what: 'the connection to be known', everyMs: 5 })
  answers = ''
  await new Promise<void>(resolve =>
    socket.write(head('POST', '/api/v1/logs', body.length) + body.slice(0, 10), () => resolve()),
  )
  return {
    /** Sends the rest and another request behind it; resolves to all that came back. */
    async finish(then: string): Promise<string> {
      socket.write(body.slice(10) + then)
      await closed
      return answers
    },
  }
}

async function send(url: string, message: string): Promise<void> {
  const body = JSON.stringify({ log: entry({ message }) })
  const response = await fetch(`${url}/api/v1/logs`, { method: 'POST', headers: { 'x-api-key': writeKey }, body })
  assert.equal(response.status, 202)
}

test('G31: TERM finishes what is in work, refuses what comes late with 429 and close, stores what it can within SHUTDOWN_TIMEOUT, leaves the rest to the journal, and exits 0; a second one skips the storing, not the sync', async t => {
  await t.test('the database is there: all is stored', async t => {
    const { url: databaseUrl, sql } = await testDatabase(t)
    const child = startOn(t, await folder(t), databaseUrl)
    const url = await child.url
    for (const message of ['a', 'b', 'c']) await send(url, message)
    const [late, ready] = [await inWork(url, 'in work 1'), await inWork(url, 'in work 2')]
    // The service has seen the headers before it hears of the end.
    await send(url, 'd')
    child.process.kill('SIGTERM')
    await child.said(/^stopping$/)
    const lateBody = JSON.stringify({ log: entry({ message: 'late' }) })
    const answers = await late.finish(head('POST', '/api/v1/logs', lateBody.length) + lateBody)
    assert.match(answers, /^HTTP\/1.1 202 /, answers)
    assert.match(answers, /HTTP\/1.1 429 [\s\S]*DRAINING/, answers)
    const refusal = answers.slice(answers.indexOf('HTTP/1.1 429'))
    assert.match(refusal, /\r\nRetry-After: 1\r\n/i)
    assert.match(refusal, /\r\nConnection: close\r\n/i)
    const readiness = await ready.finish(head('GET', '/health/ready'))
    assert.match(readiness, /^HTTP\/1.1 202 /, readiness)
    assert.match(readiness, /HTTP\/1.1 503 /, readiness)
    assert.equal(await child.exited, 0)
    const stored = await sql<{ message: string }[]>`SELECT message FROM logs ORDER BY message`
    assert.deepEqual(
      stored.map(({ message }) => message),
      ['a', 'b', 'c', 'd', 'in work 1', 'in work 2'],
    )
  })

  for (const [name, terms] of [
    ['SHUTDOWN_TIMEOUT ends the storing', 1],
    ['a second TERM ends the storing', 2],
  ] as const)
    await t.test(`${name}; the rest waits in the journal for the next start`, async t => {
      const { url: databaseUrl, sql } = await testDatabase(t)
      const dir = await folder(t)
      const shutdown = { LOG_INGESTION_SHUTDOWN_TIMEOUT: terms === 1 ? '1s' : '10m' }
      const child = startOn(t, dir, databaseUrl, shutdown)
      const url = await child.url
      const messages = Array.from({ length: 20 }, (_, i) => `waits ${i}`)
      const locked = Promise.withResolvers<void>()
      const unlock = Promise.withResolvers<void>()
      // Nobody can store anything meanwhile.
      const locking = sql.begin(async tx => {
        await tx`LOCK TABLE logs IN ACCESS EXCLUSIVE MODE`
        locked.resolve()
        await unlock.promise
      })
      await locked.promise
      for (const message of messages) await send(url, message)
      child.process.kill('SIGTERM')
      await child.said(/^stopping$/)
      if (terms === 2) {
        // What comes right after the first is taken for the same.
        await pollUntil(
          () => {
            const isHeard = child.lines.some(({ msg }) => /asked to stop twice/.test(msg))
            if (!isHeard) child.process.kill('SIGTERM')
            return isHeard
          },
          { what: 'the second TERM to be heard', everyMs: 2_000 },
        )
      }
      assert.equal(await child.exited, 0, JSON.stringify(child.lines.slice(-3)))
      unlock.resolve()
      await locking
      const next = startOn(t, dir, databaseUrl, { LOG_INGESTION_BATCH_FLUSH_INTERVAL: '20ms' })
      await next.url
      const count = async () =>
        Number((await sql<{ count: bigint }[]>`SELECT count(*) FROM logs WHERE message LIKE 'waits %'`)[0]?.count)
      await pollUntil(async () => (await count()) >= messages.length, { what: 'the next start to store them' })
      assert.equal(await count(), messages.length, 'once')
    })
})

test('a stop while the database is being opened ends that too: nothing of it goes on in this process', async t => {
  const { sql, url } = await testDatabase(t)
  const held = Promise.withResolvers<void>()
  t.after(() => held.resolve())
  const locked = Promise.withResolvers<void>()
  const holding = sql.begin(async tx => {
    await tx`select pg_advisory_xact_lock(hashtextextended('purser.migrate:purser_logs', 0))`
    locked.resolve()
    await held.promise
  })
  await locked.promise
  const s = await startService(t, { databaseUrl: url })
  const connections = async () => {
    const [row] = await sql<{ count: number }[]>`
      select count(*)::int as count from pg_stat_activity
      where datname = current_database() and application_name like 'log-ingestion%'`
    return row?.count ?? 0
  }
  assert.ok((await connections()) > 0, 'it waits for its turn')
  await s.stop()
  held.resolve()
  await holding
  // A server notices that its client is gone when it has something to say.
  await pollUntil(async () => (await connections()) === 0, { what: 'its connections to go' })
  const [found] = await sql<{ table: string | null }[]>`select to_regclass('purser_logs.commits')::text as table`
  assert.equal(found?.table, null)
})
