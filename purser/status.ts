// `purser status`: what the supervisor of this data folder started, and what each service says of itself.

import type { Config } from './config.ts'
import { type RunFile, readRunFile } from './run-file.ts'
import { openTerminal, table } from './terminal.ts'

export interface ServiceStatus {
  name: string
  url: string
  /** What /health says; `unreachable` when nobody answers. */
  status: string
  detail: string
}

/** Exit code 0 when all is well, 1 when something is not, also when nothing runs. */
export async function status(config: Config, isJson: boolean): Promise<number> {
  const run = readRunFile(config.dataDir)
  if (!run) {
    process.stderr.write(`Nothing runs from ${config.dataDir}. Start with: npm start\n`)
    return 1
  }
  const services = await askAll(run)
  const isWell = services.every(service => service.status === 'ok')
  if (isJson) {
    process.stdout.write(
      `${JSON.stringify({ pid: run.pid, startedAt: run.startedAt, version: run.version, services }, null, 2)}\n`,
    )
    return isWell ? 0 : 1
  }
  const t = openTerminal()
  const paint = (text: string) => (text === 'ok' ? t.green(text) : text === 'degraded' ? t.yellow(text) : t.red(text))
  t.print(`Purser ${run.version}, pid ${run.pid}, since ${run.startedAt}\n`)
  t.print(
    table(
      ['SERVICE', 'URL', 'HEALTH', 'DETAIL'],
      services.map(s => [s.name, s.url, paint(s.status), s.detail]),
    ),
  )
  return isWell ? 0 : 1
}

export function askAll(run: RunFile): Promise<ServiceStatus[]> {
  return Promise.all(run.services.map(async ({ name, url }) => ({ name, url, ...(await askHealth(url)) })))
}

async function askHealth(url: string): Promise<{ status: string; detail: string }> {
  try {
    const answer = await fetch(`${url}/health`, {
      headers: { accept: 'application/json' },
      signal: AbortSignal.timeout(3_000),
    })
    const body = (await answer.json()) as Record<string, unknown>
    const status = body.status === 'healthy' || body.ok === true ? 'ok' : String(body.status ?? answer.status)
    return { status, detail: status === 'ok' ? '' : describe(body) }
  } catch (error) {
    return { status: 'unreachable', detail: error instanceof Error ? error.message : String(error) }
  }
}

/** The parts of a health answer that are not well, whatever shape the service's guide gave it. */
function describe(body: Record<string, unknown>): string {
  const parts = body.checks ?? body.dependencies ?? body.components
  if (typeof parts !== 'object' || parts === null) return ''
  return Object.entries(parts)
    .filter(([, part]) => !isWell(part))
    .map(([name, part]) => `${name}: ${typeof part === 'object' ? JSON.stringify(part) : String(part)}`.slice(0, 160))
    .join('; ')
}

function isWell(part: unknown): boolean {
  if (typeof part === 'object' && part !== null && 'status' in part)
    return part.status === 'ok' || part.status === 'healthy'
  return part === 'ok' || part === true
}
