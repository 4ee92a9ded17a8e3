import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { callers, testEnv } from './kit.ts'

/** billaged as a process of its own, for tests that kill it. Resolves when it listens. */
export async function startChild(
  t: TestContext,
  o: { databaseUrl: string; dataDir: string; env?: Record<string, string> },
) {
  const main = fileURLToPath(new URL('../main.ts', import.meta.url))
  const env = {
    PATH: process.env.PATH,
    NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
    ...testEnv(o),
    LOG_FORMAT: 'json',
    ...o.env,
  }
  const child = spawn(process.execPath, [main], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => kill(child))
  const url = await listeningUrl(child)
  const key = readFileSync(join(o.dataDir, 'billaged', 'admin.key'), 'utf8').trim()
  return {
    ...callers(url, key),
    key,
    /** As a power switch would: no handler runs. */
    kill: () => kill(child),
    async stop(signal: NodeJS.Signals) {
      child.kill(signal)
      const [code] = await once(child, 'exit')
      return code as number | null
    },
  }
}

async function listeningUrl(child: ChildProcess): Promise<string> {
  if (child.stdout === null) throw new Error('BUG: stdout is piped')
  const tail: string[] = []
  for await (const line of createInterface({ input: child.stdout })) {
    tail.push(line)
    const entry: { msg?: string; url?: string } = line.startsWith('{') ? JSON.parse(line) : {}
    if (entry.msg !== 'listening' || entry.url === undefined) continue
    child.stdout.resume()
    return entry.url
  }
  throw new Error(`billaged did not start:\n${tail.slice(-5).join('\n')}`)
}

async function kill(child: ChildProcess) {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGKILL')
  await exited
}
