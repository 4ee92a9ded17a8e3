// `purser logs migrate` and `purser logs bench`: programs of their own, under the name of the tool.

import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type Command, CommandFailed } from './main.ts'

const root = new URL('../../', import.meta.url)

export const migrate = program('services/log-ingestion/main.ts', 'migrate')
export const bench = program('bench/log-ingestion/main.ts')

/** Runs it with our own streams; its exit code is ours. */
function program(path: string, ...first: string[]): Command {
  return async (args, { env }) => {
    const file = fileURLToPath(new URL(path, root))
    if (!existsSync(file)) throw new CommandFailed(`${path} is not part of this installation; run it from a checkout`)
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', file, ...first, ...args], {
      env,
      stdio: 'inherit',
    })
    return await new Promise((resolve, reject) => {
      child.once('error', reject)
      child.once('close', code => resolve(code ?? 1))
    })
  }
}
