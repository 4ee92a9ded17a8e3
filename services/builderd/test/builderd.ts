// builderd as main.ts starts it, on ports of its own, with a real database, talked to by the official clients.

import type { TestContext } from 'node:test'
import { type Client, createClient } from '@connectrpc/connect'
import { createConnectTransport } from '@connectrpc/connect-node'
import { loadConfig } from '#platform/config'
import type { Sql } from '#platform/postgres'
import { BuilderService, type BuildJob, BuildState } from '#proto/builder/v1/builder_pb'
import { testBase } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { type Config, spec } from '../config.ts'
import { start } from '../service.ts'
import { temporaryDirectory } from './tools.ts'

export type Builder = Client<typeof BuilderService>

export interface Builderd {
  url: string
  dataDir: string
  sql: Sql
  databaseUrl: string
  lines: string[]
  /** A client that speaks for one tenant. */
  as(tenantId: string, headers?: Record<string, string>): Builder
  close(): Promise<void>
  restart(env?: Record<string, string>): Promise<void>
}

export async function startBuilderd(t: TestContext, env: Record<string, string> = {}): Promise<Builderd> {
  const dataDir = temporaryDirectory(t)
  const database = await testDatabase(t)
  const lines: string[] = []
  const launch = async (more: Record<string, string>) => {
    const config = configOf({ PURSER_DATA_DIR: dataDir, UNKEY_BUILDERD_DATABASE_URL: database.url, ...env, ...more })
    return start(config, testBase(t, { lines }))
  }
  let running = await launch({})
  let isClosed = false
  const close = async () => {
    if (isClosed) return
    isClosed = true
    await running.close()
  }
  t.after(close)
  return {
    get url() {
      return running.url
    },
    dataDir,
    sql: database.sql,
    databaseUrl: database.url,
    lines,
    as: (tenantId, headers = {}) => clientOf(running.url, { 'x-tenant-id': tenantId, ...headers }),
    close,
    async restart(more = {}) {
      await close()
      running = await launch(more)
      isClosed = false
    },
  }
}

export function configOf(env: Record<string, string>): Config {
  const loaded = loadConfig(spec, {
    env: {
      UNKEY_BUILDERD_PORT: '0',
      UNKEY_BUILDERD_METRICS_ENABLED: 'false',
      UNKEY_BUILDERD_DATABASE_MAX_CONNECTIONS: '6',
      UNKEY_BUILDERD_SHUTDOWN_TIMEOUT: '1ms',
      PURSER_SECRET: 'a secret of tests that is long enough',
      ...env,
    },
  })
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems))
  return loaded.config
}

export function clientOf(url: string, headers: Record<string, string>): Builder {
  const transport = createConnectTransport({
    baseUrl: url,
    httpVersion: '1.1',
    interceptors: [
      next => req => {
        for (const [name, value] of Object.entries(headers)) req.header.set(name, value)
        return next(req)
      },
    ],
  })
  return createClient(BuilderService, transport)
}

/** What CreateBuild wants at least. */
export function configFor(
  tenantId: string,
  imageUri: string,
  more: { auth?: { username: string; password: string }; labels?: Record<string, string> } = {},
) {
  return {
    tenant: { tenantId, customerId: `customer of ${tenantId}` },
    source: {
      sourceType: { case: 'dockerImage' as const, value: { imageUri, ...(more.auth && { auth: more.auth }) } },
    },
    target: { targetType: { case: 'microvmRootfs' as const, value: {} } },
    strategy: { strategyType: { case: 'dockerExtract' as const, value: {} } },
    ...(more.labels && { labels: more.labels }),
  }
}

const over = [BuildState.COMPLETED, BuildState.FAILED, BuildState.CANCELLED]

export async function untilOver(client: Builder, buildId: string, timeoutMs = 60_000): Promise<BuildJob> {
  return pollUntil(
    async () => {
      const { build } = await client.getBuild({ buildId })
      return build && over.some(state => state === build.state) ? build : undefined
    },
    { what: `the end of ${buildId}`, timeoutMs },
  )
}

export async function untilState(client: Builder, buildId: string, state: BuildState): Promise<void> {
  await pollUntil(async () => (await client.getBuild({ buildId })).build?.state === state, { what: `state ${state}` })
}
