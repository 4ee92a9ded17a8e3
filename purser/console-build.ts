// Builds the web console when its sources are newer than what was built; a release ships it built, without sources.

import { spawn } from 'node:child_process'
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const consoleDir = join(root, 'console')

/** Resolves to the milliseconds it took, or undefined when nothing had to be done. */
export async function buildConsoleIfStale(): Promise<number | undefined> {
  const builtMs = statSync(join(consoleDir, 'dist', 'index.html'), { throwIfNoEntry: false })?.mtimeMs ?? 0
  const sourceMs = newest([join(consoleDir, 'src'), join(consoleDir, 'index.html'), join(consoleDir, 'vite.config.ts')])
  if (sourceMs === undefined || sourceMs <= builtMs) return undefined
  const startedMs = performance.now()
  const output: string[] = []
  const vite = spawn(
    process.execPath,
    [join(root, 'node_modules', 'vite', 'bin', 'vite.js'), 'build', consoleDir, '--logLevel', 'warn'],
    {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  )
  vite.stdout.on('data', chunk => output.push(String(chunk)))
  vite.stderr.on('data', chunk => output.push(String(chunk)))
  const code = await new Promise<number | null>((resolve, reject) => vite.once('error', reject).once('close', resolve))
  if (code !== 0)
    throw new Error(`the console could not be built (vite exit code ${code}): ${output.join('').slice(-2_000)}`)
  return performance.now() - startedMs
}

function newest(paths: readonly string[]): number | undefined {
  let newestMs: number | undefined
  for (const path of paths) {
    const stat = statSync(path, { throwIfNoEntry: false })
    if (!stat) continue
    const ms = stat.isDirectory() ? newest(readdirSync(path).map(name => join(path, name))) : stat.mtimeMs
    if (ms !== undefined && (newestMs === undefined || ms > newestMs)) newestMs = ms
  }
  return newestMs
}
