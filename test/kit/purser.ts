// The whole platform as a user starts it: `purser up` in a folder of its own, on ports of its own.

import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { planServices, type ServiceName, serviceNames } from '../../purser/plan.ts'
import { findTakenPorts } from '../../purser/ports.ts'
import { readRunFile } from '../../purser/run-file.ts'
import { askAll } from '../../purser/status.ts'
import { pollUntil } from './poll.ts'
import { claimOffset } from './ports.ts'

/** Something with an end: a test, or a file with an `after` of its own. */
export interface Scope {
  after(fn: () => Promise<void>): void
}

export interface Purser {
  dataDir: string
  url(name: ServiceName): string
  adminKey(): string
  writeKey(): string
  /** Everything the supervisor printed so far. */
  output(): string
  process: ChildProcess
  /** Like Ctrl-C; resolves to the exit code. */
  stop(): Promise<number | string>
  kill9(): Promise<void>
  /** Starts again on the same folder and ports; resolves when all are ready, with the milliseconds that took. */
  restart(): Promise<number>
  /** Milliseconds from spawn to "is up". */
  startMs: number
}

const main = fileURLToPath(new URL('../../purser/main.ts', import.meta.url))

export async function startPurser(
  t: Scope,
  o: { only?: readonly ServiceName[]; env?: Record<string, string> } = {},
): Promise<Purser> {
  const only = o.only ?? serviceNames
  const dataDir = mkdtempSync(join(tmpdir(), 'purser-'))
  const portOffset = await claimOffset(async offset => {
    const all = planServices({ only: serviceNames, portOffset: offset, dataDir, databaseUrl: '', env: {} })
    return (await findTakenPorts(all)).length === 0
  })
  const plan = planServices({ only, portOffset, dataDir, databaseUrl: 'postgres://unused/unused', env: {} })
  let current: { child: ChildProcess; output: string[]; exited: Promise<number | string> } | undefined

  const start = async (): Promise<number> => {
    const startedMs = performance.now()
    const output: string[] = []
    const child = spawn(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', main, 'up', '--only', only.join(',')],
      {
        env: {
          PATH: process.env.PATH,
          NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
          HOME: process.env.HOME,
          LOG_FORMAT: 'json',
          PURSER_DATA_DIR: dataDir,
          PURSER_PORT_OFFSET: String(portOffset),
          ...o.env,
        },
        stdio: ['ignore', 'pipe', 'pipe'],
        // A group of its own: signals to the test runner are not signals to it.
        detached: true,
      },
    )
    child.stdout?.on('data', chunk => output.push(String(chunk)))
    child.stderr?.on('data', chunk => output.push(String(chunk)))
    const exited = new Promise<number | string>(resolve =>
      child.once('close', (code, signal) => resolve(code ?? signal ?? 'gone')),
    )
    current = { child, output, exited }
    const isUp = pollUntil(() => /Purser [^\s"]+ is up"/.test(output.join('')), {
      timeoutMs: 90_000,
      what: 'purser up',
    })
    const early = exited.then(code => {
      throw new Error(`purser up ended with ${code}: ${output.join('').slice(-3_000)}`)
    })
    early.catch(() => {})
    await Promise.race([isUp, early]).catch(error => {
      throw new Error(`purser did not come up; it said:\n${output.join('').slice(-8_000)}`, { cause: error })
    })
    return performance.now() - startedMs
  }
  const running = () => {
    if (!current) throw new Error('BUG: not started')
    return current
  }
  const stop = async () => {
    running().child.kill('SIGINT')
    return running().exited
  }

  t.after(async () => {
    if (current && current.child.exitCode === null && current.child.signalCode === null) await stop()
    // After a kill -9 the children stop by themselves; give them the time before the folder goes.
    await pollUntil(async () => (await findTakenPorts(plan)).length === 0, {
      what: 'all ports free again',
    })
    rmSync(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })
  })
  const startMs = await start()

  return {
    dataDir,
    startMs,
    url(name) {
      const service = plan.find(p => p.name === name)
      if (!service) throw new Error(`BUG: ${name} was not started`)
      return service.url
    },
    adminKey: () => readFileSync(join(dataDir, 'budgetguard', 'admin-key'), 'utf8').trim(),
    writeKey: () => readFileSync(join(dataDir, 'log-ingestion', 'write-key'), 'utf8').trim(),
    output: () => running().output.join(''),
    get process() {
      return running().child
    },
    stop,
    async kill9() {
      running().child.kill('SIGKILL')
      await running().exited
    },
    restart: start,
  }
}

/** Health of every service as `purser status` sees it. */
export async function healthOf(dataDir: string): Promise<Record<string, string>> {
  const run = readRunFile(dataDir)
  if (!run) return {}
  return Object.fromEntries((await askAll(run)).map(({ name, status }) => [name, status]))
}
