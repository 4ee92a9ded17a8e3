// Starts budgetguard the way main.ts does, on a database of its own, and talks to it as its users would.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { loadConfig } from '#platform/config'
import type { Running } from '#platform/lifecycle'
import type { Sql } from '#platform/postgres'
import { testBase } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { Budget, BudgetState, CreatedApiKey, Holds, LedgerPage, LedgerRow, OpenAiError, Tenant } from '../api.ts'
import { spec } from '../config.ts'
import { start } from '../service.ts'

export const adminKey = 'test-admin-key-0123456789'
export const secret = 'test-secret-test-secret-test-secret'

export interface TestService {
  url: string
  sql: Sql
  dataDir: string
  /** Everything logged, as JSON lines. */
  lines: string[]
  admin: <T>(method: string, path: string, body?: unknown) => Promise<T>
  chat: (key: string, body?: object, headers?: Record<string, string>) => Promise<Answer>
  metrics(): Promise<string>
  close(): Promise<void>
  restart(env?: Record<string, string>): Promise<void>
}

export interface Answer {
  status: number
  headers: Headers
  text: string
  json: Record<string, unknown>
}

export async function startService(
  t: TestContext,
  o: { env?: Record<string, string>; database?: { url: string; sql: Sql }; dataDir?: string } = {},
): Promise<TestService> {
  const { url: databaseUrl, sql } = o.database ?? (await testDatabase(t))
  const dataDir = o.dataDir ?? tempDir(t)
  const lines: string[] = []
  let running: Running | undefined
  const open = async (env: Record<string, string>) => {
    const loaded = loadConfig(spec, {
      env: {
        BUDGETGUARD_PORT: '0',
        BUDGETGUARD_HOST: '127.0.0.1',
        BUDGETGUARD_DRAIN_TIMEOUT: '1s',
        BUDGETGUARD_JOURNAL_BYTES: '64MiB',
        DATABASE_URL: databaseUrl,
        PURSER_DATA_DIR: dataDir,
        PURSER_SECRET: secret,
        ADMIN_API_KEY: adminKey,
        ...env,
      },
    })
    assert.ok(loaded.ok, loaded.ok ? '' : JSON.stringify(loaded.problems))
    return start(loaded.config, testBase(t, { lines }))
  }
  running = await open(o.env ?? {})
  const service: TestService = {
    url: running.url,
    sql,
    dataDir,
    lines,
    admin: (method, path, body) => admin(service.url, method, path, body),
    chat: (key, body, headers) => chat(service.url, key, body, headers),
    metrics: async () => (await fetch(`${service.url}/metrics`)).text(),
    async close() {
      const closing = running
      running = undefined
      await closing?.close()
    },
    async restart(env) {
      await service.close()
      running = await open({ ...o.env, ...env })
      service.url = running.url
    },
  }
  t.after(() => service.close())
  return service
}

export function tempDir(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'budgetguard-'))
  t.after(() => rmSync(dir, { recursive: true, force: true, maxRetries: 3 }))
  return dir
}

export async function admin<T>(url: string, method: string, path: string, body?: unknown): Promise<T> {
  const response = await fetch(url + path, {
    method,
    headers: { 'x-admin-key': adminKey, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  const text = await response.text()
  assert.equal(response.status, 200, `${method} ${path}: ${text}`)
  return JSON.parse(text) as T
}

export async function chat(
  url: string,
  key: string,
  body: object = {},
  headers: Record<string, string> = {},
): Promise<Answer> {
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', ...headers },
    body: JSON.stringify({
      model: 'echo-priced',
      max_tokens: 16,
      messages: [{ role: 'user', content: 'hello' }],
      ...body,
    }),
  })
  const text = await response.text()
  let json: Record<string, unknown> = {}
  try {
    json = JSON.parse(text)
  } catch {
    // An event stream, or nothing.
  }
  return { status: response.status, headers: response.headers, text, json }
}

export interface TestTenant {
  id: number
  name: string
  slug: string
  key: string
}

let tenants = 0

/** A tenant with one monthly budget and no rate limit; its name is made unique. */
export async function makeTenant(
  service: { admin: TestService['admin'] },
  name: string,
  budgetUsd: string,
): Promise<TestTenant> {
  tenants += 1
  const tenant = await service.admin<Tenant>('POST', '/admin/tenant', {
    name: `${name} ${tenants}`,
    rateLimitPerMin: 0,
    budgets: [{ period: 'monthly', amountUsd: budgetUsd }],
  })
  const { key } = await service.admin<CreatedApiKey>('POST', `/admin/tenant/${tenant.id}/apikeys`)
  return { id: tenant.id, slug: tenant.slug, name: tenant.name, key }
}

export async function setBudget(service: TestService, tenant: TestTenant, amountUsd: string): Promise<void> {
  await service.admin<Budget[]>('POST', `/admin/tenant/${tenant.id}/budgets`, { period: 'monthly', amountUsd })
}

export async function monthly(service: { admin: TestService['admin'] }, tenant: TestTenant): Promise<BudgetState> {
  const states = await service.admin<BudgetState[]>('GET', `/admin/tenant/${tenant.id}/budgets`)
  const state = states.find(candidate => candidate.period === 'monthly')
  assert.ok(state)
  return state
}

/** The tenant's rows, once `calls` calls have arrived in the ledger. */
export async function rowsOf(
  service: { admin: TestService['admin'] },
  tenant: TestTenant,
  calls: number,
): Promise<LedgerRow[]> {
  return pollUntil(
    async () => {
      const page = await service.admin<LedgerPage>('GET', `/admin/tenant/${tenant.id}/usage/ledger?limit=1000`)
      const seen = page.data.reduce((total, row) => total + row.count, 0)
      assert.ok(seen <= calls, `${seen} calls in the ledger, ${calls} were made`)
      return seen === calls && page.data
    },
    { what: `${calls} calls in the ledger` },
  )
}

/**
 * The audit from outside: every account is the sum of its ledger rows, nothing is held, nothing is granted beyond a
 * limit (which may have been lowered below what is spent), nothing was overspent, and no row is out of balance.
 */
export async function auditBooks(service: TestService): Promise<void> {
  await pollUntil(
    async () => {
      const holds = await service.admin<Holds>('GET', '/admin/holds')
      return holds.open === 0 && /^budgetguard_journal_bytes 0$/m.test(await service.metrics())
    },
    { what: 'all holds ended and the journal folded' },
  )
  assert.match(await service.metrics(), /^budgetguard_overspend_nanousd_total 0$/m)
  await auditDatabase(service.sql)
}

export async function auditDatabase(sql: Sql): Promise<void> {
  const crooked = await sql`
    select a.id, a.settled_nano, a.limit_nano, s.nano from budgetguard.accounts a
    cross join lateral (
      select coalesce(sum(l.settled_nano), 0)::int8 as nano from budgetguard.ledger l
      where l.tenant_id = a.tenant_id and l.ts >= a.window_start and l.ts < a.window_end
    ) s
    where a.settled_nano <> s.nano or (a.granted_nano > 0 and a.settled_nano + a.granted_nano > a.limit_nano)`
  assert.deepEqual([...crooked], [])
  const unbalanced = await sql`
    select id from budgetguard.ledger where hold_nano + overrun_nano <> settled_nano + released_nano`
  assert.deepEqual([...unbalanced], [])
}

export function errorOf(answer: Answer): OpenAiError['error'] {
  const { error } = JSON.parse(answer.text) as OpenAiError
  return error
}
