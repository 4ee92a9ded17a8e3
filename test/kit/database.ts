// A fresh database for each test, on one server per run. The server is real; only its fsync is off.
//
// test/run.ts starts the server once and passes its address on as PURSER_TEST_DATABASE_URL (a superuser's; any server of
// version 15 or later will do). A test file that runs alone starts a server of its own, in a temporary folder.

import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { openSql, type Sql, startEmbedded, withDatabase } from '#platform/postgres'
import { createLog } from '#platform/telemetry'

export interface TestDatabase {
  url: string
  /** A pool of 4, closed by t.after. */
  sql: Sql
}

/** An empty database, dropped at the very end of the test, after its other `t.after` hooks, connections or not. */
export async function testDatabase(t: TestContext): Promise<TestDatabase> {
  const adminUrl = process.env.PURSER_TEST_DATABASE_URL ?? (await ownServer())
  const name = `test_${process.pid}_${randomBytes(6).toString('hex')}`
  await asAdmin(adminUrl, sql => sql.unsafe(`create database ${name} template template0`))
  const url = withDatabase(adminUrl, name)
  const sql = openSql({ url, max: 4, applicationName: `test ${t.name}`.slice(0, 60), log: testLog() })
  // Hooks run in the order of registration: this one steps behind those of the services that use the database.
  t.after(() => {
    t.after(async () => {
      await sql.end({ timeout: 1 })
      await asAdmin(adminUrl, admin => admin.unsafe(`drop database if exists ${name} with (force)`))
    })
  })
  return { url, sql }
}

export interface TestServer {
  /** For PURSER_TEST_DATABASE_URL. */
  url: string
  close(): Promise<void>
}

/** A throw-away server; its folder goes with it, at the latest when this process ends. */
export async function startTestServer(): Promise<TestServer> {
  const folder = await mkdtemp(join(tmpdir(), 'purser-test-'))
  const server = await startEmbedded({ dir: join(folder, 'postgres'), log: testLog(), fsync: false })
  const remove = () => rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
  const onExit = () => {
    try {
      // Nothing in it is worth a clean stop.
      process.kill(server.pid, 'SIGKILL')
    } catch {
      // Already gone.
    }
    remove()
  }
  process.once('exit', onExit)
  return {
    url: withDatabase(server.url, 'postgres'),
    async close() {
      process.off('exit', onExit)
      await server.close()
      remove()
    },
  }
}

let own: Promise<TestServer> | undefined

async function ownServer(): Promise<string> {
  own ??= startTestServer()
  return (await own).url
}

/** A connection for the one statement: a kept one would keep the process alive. */
async function asAdmin<T>(url: string, run: (sql: Sql) => Promise<T>): Promise<T> {
  const sql = openSql({ url, max: 1, applicationName: 'test-kit', log: testLog() })
  try {
    return await run(sql)
  } finally {
    await sql.end({ timeout: 1 })
  }
}

function testLog() {
  return createLog({ service: 'test', level: process.env.PURSER_TEST_LOG === '1' ? 'debug' : 'silent', format: 'json' })
}
