// The service under load: a process of its own, started as its command starts it, beside a database server of its own.

import { type ChildProcess, spawn } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { openSql, type Sql, startEmbedded } from '#platform/postgres'
import { createLog } from '#platform/telemetry'

export const adminKey = 'bench-admin'
export const writeKey = 'bench-write'
/** Of another sender. */
export const quietKey = 'bench-quiet'

export interface Subject {
  url: string
  sql: Sql
  /** CPU seconds since they began. */
  cpu(): Promise<{ service: number; database: number }>
  rssBytes(): Promise<number>
  close(): Promise<void>
}

export async function startSubject(dir: string, env: Record<string, string>): Promise<Subject> {
  const log = createLog({ service: 'bench', level: 'error', format: 'json' })
  const server = await startEmbedded({ dir: join(dir, 'postgres'), log })
  const sql = openSql({ url: server.url, max: 2, applicationName: 'bench', statementTimeoutMs: 600_000, log })
  const { url, child, exited } = await startService({
    LOG_INGESTION_DATA_DIR: join(dir, 'service'),
    LOG_INGESTION_DATABASE_URL: server.url,
    ...env,
  })
  const pid = child.pid ?? 0
  return {
    url,
    sql,
    async cpu() {
      return { service: (await cpuOf(pid)).own, database: await cpuOfTree(server.pid) }
    },
    async rssBytes() {
      const status = await readFile(`/proc/${pid}/status`, 'utf8')
      return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) * 1_024
    },
    async close() {
      child.kill('SIGTERM')
      await exited
      await sql.end({ timeout: 1 })
      await server.close()
    },
  }
}

/** The process alone, on a port the caller knows; it may still be starting. */
export function spawnService(env: Record<string, string>): ChildProcess {
  return spawn(fileURLToPath(new URL('../../bin/log-ingestion', import.meta.url)), [], {
    env: {
      PATH: process.env.PATH,
      LOG_FORMAT: 'json',
      LOG_INGESTION_SERVER_HOST: '127.0.0.1',
      LOG_INGESTION_SERVER_PORT: '0',
      LOG_INGESTION_API_KEYS: `${writeKey},${quietKey}`,
      LOG_INGESTION_ADMIN_API_KEYS: adminKey,
      LOG_INGESTION_RATELIMIT_ENABLED: 'false',
      LOG_INGESTION_SELF_LOGS: 'false',
      LOG_INGESTION_DEDUPE_WINDOW: '0s',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
}

export async function startService(
  env: Record<string, string>,
): Promise<{ url: string; child: ChildProcess; exited: Promise<void> }> {
  const child = spawnService(env)
  const exited = new Promise<void>(resolve => child.once('exit', () => resolve()))
  const url = await new Promise<string>((resolve, reject) => {
    let text = ''
    child.stdout?.setEncoding('utf8').on('data', chunk => {
      text = (text + chunk).slice(-100_000)
      const found = /"url":"(http:[^"]+)"[^\n]*"msg":"ready"/.exec(text)?.[1]
      if (found !== undefined) resolve(found)
    })
    child.once('exit', () => reject(new Error(`the service did not start:\n${text}`)))
  })
  return { url, child, exited }
}

/** Linux counts in hundredths of a second. */
const ticksPerSecond = 100

async function cpuOf(pid: number): Promise<{ own: number; reaped: number; parent: number }> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  // Behind the name, which may hold anything.
  const fields = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number)
  const [, parent = 0] = fields
  const at = (i: number) => fields[i] ?? 0
  return { own: (at(11) + at(12)) / ticksPerSecond, reaped: (at(13) + at(14)) / ticksPerSecond, parent }
}

async function cpuOfTree(pid: number): Promise<number> {
  const all = (await readdir('/proc')).filter(name => /^\d+$/.test(name))
  const stats = await Promise.all(all.map(name => cpuOf(Number(name))))
  const { own, reaped } = await cpuOf(pid)
  return stats.filter(({ parent }) => parent === pid).reduce((sum, child) => sum + child.own, own + reaped)
}
