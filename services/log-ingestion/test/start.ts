// The service as main.ts starts it, on a free port, with a database of its own; spoken to over HTTP as anybody would.

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { loadConfig } from '#platform/config'
import type { Base } from '#platform/lifecycle'
import type { Sql } from '#platform/postgres'
import { testBase } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { spec } from '../config.ts'
import { type Service, start } from '../service.ts'

export const writeKey = 'test-write-key'
export const adminKey = 'test-admin-key'

export interface TestService {
  url: string
  dir: string
  databaseUrl: string
  sql: Sql
  base: Base
  /** Where syslog listens, when it does. */
  syslog: Service['syslog']
  post(path: string, body: string | Uint8Array<ArrayBuffer>, headers?: Record<string, string>): Promise<Response>
  get(path: string, headers?: Record<string, string>): Promise<Response>
  /** Resolves when nothing accepted is still on its way to the database. */
  settled(): Promise<void>
  stop(): Promise<void>
  /** Stops and starts again on the same folder and database, with these settings on top; its log goes to `lines`. */
  restart(env?: Record<string, string>, lines?: string[]): Promise<void>
}

export async function startService(
  t: TestContext,
  o: { env?: Record<string, string>; base?: Base; databaseUrl?: string } = {},
): Promise<TestService> {
  const database = await testDatabase(t)
  const dir = await mkdtemp(join(tmpdir(), 'purser-logs-'))
  const env = {
    LOG_INGESTION_SERVER_HOST: '127.0.0.1',
    LOG_INGESTION_SERVER_PORT: '0',
    LOG_INGESTION_DATA_DIR: dir,
    LOG_INGESTION_DATABASE_URL: o.databaseUrl ?? database.url,
    LOG_INGESTION_API_KEYS: `${writeKey},acme=acme-write-key`,
    LOG_INGESTION_ADMIN_API_KEYS: `${adminKey},acme=acme-admin-key`,
    LOG_INGESTION_BATCH_FLUSH_INTERVAL: '20ms',
    LOG_INGESTION_RATELIMIT_ENABLED: 'false',
    LOG_INGESTION_SELF_LOGS: 'false',
    // Tests that stop without a database must not wait for one.
    LOG_INGESTION_SHUTDOWN_TIMEOUT: '1s',
    ...o.env,
  }
  let running: Service | undefined
  let lastUrl = ''
  let base = o.base ?? testBase(t)
  const run = async (more: Record<string, string> = {}) => {
    const loaded = loadConfig(spec, { env: { ...env, ...more } })
    assert.ok(loaded.ok, loaded.ok ? '' : JSON.stringify(loaded.problems))
    running = await start(loaded.config, base)
    lastUrl = running.url
  }
  await run()
  t.after(async () => {
    await running?.close()
    await rm(dir, { recursive: true, force: true })
  })
  const url = () => running?.url ?? lastUrl
  const service: TestService = {
    get url() {
      return url()
    },
    get syslog() {
      return running?.syslog ?? { tcp: undefined, udp: undefined }
    },
    dir,
    databaseUrl: o.databaseUrl ?? database.url,
    sql: database.sql,
    base,
    post: (path, body, headers) =>
      fetch(url() + path, { method: 'POST', body, headers: { 'x-api-key': writeKey, ...headers } }),
    get: (path, headers) => fetch(url() + path, { headers: { 'x-api-key': adminKey, ...headers } }),
    async settled() {
      await pollUntil(
        async () => {
          const health = (await (await service.get('/admin/health')).json()) as { batcher: { current_batch: number } }
          return health.batcher.current_batch === 0
        },
        { what: 'all entries to be stored', everyMs: 20 },
      )
    },
    async stop() {
      await running?.close()
      running = undefined
    },
    async restart(more, lines) {
      await running?.close()
      // Metrics of one life must not meet those of the next.
      base = testBase(t, { clock: base.clock, ...(lines ? { lines } : {}) })
      await run(more)
    },
  }
  return service
}

export interface SentEntry {
  timestamp: string
  service: string
  level: string
  message: string
  metadata?: unknown
}

export function entry(o: Partial<SentEntry> = {}): SentEntry {
  return { timestamp: new Date().toISOString(), service: 'shop', level: 'INFO', message: 'hello', ...o }
}

export const batch = (...entries: unknown[]) => JSON.stringify({ logs: entries })
