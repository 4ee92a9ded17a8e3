// builderd as a process of its own, for tests that kill it.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'

export const program = fileURLToPath(new URL('../../../bin/builderd', import.meta.url))
export const cliProgram = fileURLToPath(new URL('../../../bin/builderd-cli', import.meta.url))

export interface Process {
  url: string
  pid: number
  lines: string[]
  /** Resolves when it is gone. */
  signal(name: NodeJS.Signals): Promise<void>
}

/** Resolves when it listens. The launcher execs, so the pid is the service's own. */
export async function spawnBuilderd(t: TestContext, env: Record<string, string>): Promise<Process> {
  const child: ChildProcess = spawn(program, [], {
    env: {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
      HOME: process.env.HOME,
      UNKEY_BUILDERD_PORT: '0',
      UNKEY_BUILDERD_METRICS_ENABLED: 'false',
      LOG_FORMAT: 'json',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const lines: string[] = []
  const exited = once(child, 'exit')
  const listening = new Promise<string>((resolve, reject) => {
    if (child.stdout)
      createInterface({ input: child.stdout }).on('line', line => {
        lines.push(line)
        const { msg, url }: { msg?: string; url?: string } = JSON.parse(line)
        if (msg === 'ready' && url !== undefined) resolve(url)
      })
    child.stderr?.on('data', chunk => lines.push(String(chunk)))
    void exited.then(() => reject(new Error(`builderd ended:\n${lines.join('\n')}`)))
  })
  const signal = async (name: NodeJS.Signals) => {
    if (child.exitCode === null && child.signalCode === null) child.kill(name)
    await exited
  }
  t.after(() => signal('SIGKILL'))
  return { url: await listening, pid: child.pid ?? 0, lines, signal }
}

/** Living build processes that `parent` started. */
export function workersOf(parent: number): number[] {
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .map(Number)
    .filter(pid => {
      const stat = readSafely(`/proc/${pid}/stat`)
      const [state, parentPid] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      const isWorker = readSafely(`/proc/${pid}/cmdline`).includes('builderd/worker/main.ts')
      return parentPid === String(parent) && state !== 'Z' && isWorker
    })
}

export function isAlive(pid: number): boolean {
  return /\) [^ZX] /.test(readSafely(`/proc/${pid}/stat`))
}

function readSafely(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}
