import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { loadConfig } from '#platform/config'
import type { Base } from '#platform/lifecycle'
import type { Clock } from '#platform/time'
import { testBase } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import type { Priced, Usage } from '../api.ts'
import { spec } from '../config.ts'
import { start } from '../service.ts'

export interface Billing {
  url: string
  key: string
  base: Base
  databaseUrl: string
  dataDir: string
  /** `POST` of a JSON RPC under `billing.v1`, or the package named. */
  rpc(method: string, message: unknown, o?: RpcCall): Promise<Reply>
  /** A call of the HTTP API with the operator key, or another credential. */
  api(method: string, path: string, body?: unknown, authorization?: string | null): Promise<Reply>
  usage(customer: string, query?: string): Promise<Usage>
  preview(body: object): Promise<Priced>
  close(): Promise<void>
}

export interface RpcCall {
  package?: string
  headers?: Record<string, string>
}

export interface Reply {
  status: number
  headers: Headers
  /** The decoded JSON, the text of anything else, null without a body. */
  body: unknown
}

export interface BillingOptions {
  env?: Record<string, string>
  clock?: Clock
  /** Takes the log. */
  lines?: string[]
  databaseUrl?: string
  dataDir?: string
}

/** billaged as main.ts starts it, on free ports, with a database and a folder of its own. */
export async function startBilling(t: TestContext, o: BillingOptions = {}): Promise<Billing> {
  const databaseUrl = o.databaseUrl ?? (await testDatabase(t)).url
  const dataDir = o.dataDir ?? temporaryFolder(t)
  const loaded = loadConfig(spec, { env: { ...testEnv({ databaseUrl, dataDir }), ...o.env } })
  if (!loaded.ok) assert.fail(JSON.stringify(loaded.problems))
  const base = testBase(t, {
    ...(o.clock === undefined ? {} : { clock: o.clock }),
    ...(o.lines === undefined ? {} : { lines: o.lines }),
  })
  const running = await start(loaded.config, base)
  let closing: Promise<void> | undefined
  const close = () => (closing ??= running.close())
  t.after(close)
  const key = readFileSync(join(dataDir, 'billaged', 'admin.key'), 'utf8').trim()
  return { ...callers(running.url, key), key, base, databaseUrl, dataDir, close }
}

export function testEnv(o: { databaseUrl: string; dataDir: string }): Record<string, string> {
  return {
    BILLAGED_PORT: '0',
    BILLAGED_ADDRESS: '127.0.0.1',
    BILLAGED_OTEL_PROMETHEUS_PORT: '0',
    BILLAGED_OTEL_PROMETHEUS_INTERFACE: '127.0.0.1',
    BILLAGED_DATABASE_URL: o.databaseUrl,
    BILLAGED_DATA_DIR: join(o.dataDir, 'billaged'),
    PURSER_DATA_DIR: o.dataDir,
    PURSER_SECRET: testSecret,
  }
}

export const testSecret = 'a secret of at least thirty-two bytes'

export function temporaryFolder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'purser-billaged-'))
  // Behind the hooks of what still uses it.
  t.after(() => {
    t.after(() => rmSync(dir, { recursive: true, force: true, maxRetries: 3 }))
  })
  return dir
}

export function callers(url: string, key: string) {
  const send = async (path: string, init: RequestInit): Promise<Reply> => {
    const response = await fetch(url + path, init)
    const text = await response.text()
    const isJson = /[/+]json\b/.test(response.headers.get('content-type') ?? '')
    return {
      status: response.status,
      headers: response.headers,
      body: text === '' ? null : isJson ? JSON.parse(text) : text,
    }
  }
  const api: Billing['api'] = (method, path, body, authorization = `Bearer ${key}`) =>
    send(path, {
      method,
      headers: {
        ...(authorization === null ? {} : { authorization }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
  const ok = async <T>(reply: Promise<Reply>): Promise<T> => {
    const { status, body } = await reply
    assert.equal(status, 200, JSON.stringify(body))
    return body as T
  }
  return {
    url,
    rpc: (method: string, message: unknown, o: RpcCall = {}) =>
      send(`/${o.package ?? 'billing.v1'}.BillingService/${method}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...o.headers },
        body: typeof message === 'string' ? message : JSON.stringify(message),
      }),
    api,
    usage: (customer: string, query = '') =>
      ok<Usage>(api('GET', `/v1/customers/${encodeURIComponent(customer)}/usage?wait=30s${recent(query)}`)),
    preview: (body: object) => ok<Priced>(api('POST', '/v1/preview', body)),
  }
}

/** Usage is of this month unless asked otherwise. What a test sent for the last hours is, on the first, of the last one. */
export function recent(query = ''): string {
  const today = Temporal.Now.zonedDateTimeISO('UTC').startOfDay()
  if (query.includes('from=') || today.day > 2) return query
  return `${query}&from=${today.subtract({ days: 2 }).toInstant()}`
}

/** A customer whose billing period began ten days ago or a little more, and runs for two weeks yet: what a test sends for
 *  the last minutes, or for the next days, is of one period on the first of a month, too. */
export async function midPeriod(billing: Billing, customerId: string): Promise<void> {
  const { day } = Temporal.Now.plainDateISO('UTC').subtract({ days: 10 })
  const reply = await billing.api('PUT', `/v1/customers/${customerId}`, { anchorDay: Math.min(day, 28) })
  assert.equal(reply.status, 200, JSON.stringify(reply.body))
}

/** Quantity of a meter, summed over the rows. */
export function quantityOf(usage: Usage, meter: string): bigint {
  return usage.rows.filter(row => row.meter === meter).reduce((sum, row) => sum + BigInt(row.quantity), 0n)
}

export const minuteNs = 60_000_000_000n

/** A reading in the JSON of the RPC. */
export function metric(atNs: bigint, cpuNs: bigint, more: Record<string, string> = {}) {
  return { timestamp: Temporal.Instant.fromEpochNanoseconds(atNs).toString(), cpuTimeNanos: `${cpuNs}`, ...more }
}

/** Some whole minutes ago: recent enough for every window, in order. */
export function minutesAgo(minutes: number): bigint {
  return (BigInt(Date.now()) / 60_000n) * minuteNs - BigInt(minutes) * minuteNs
}
