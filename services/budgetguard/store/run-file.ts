// `run.json` in the service's folder: where the running process answers, and the embedded database's address, so that
// commands typed beside it reach both. Nothing secret: an address with a password is left out.

import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface RunFile {
  pid: number
  url: string
  databaseUrl: string | null
}

export function writeRunFile(folder: string, run: RunFile): () => void {
  const path = join(folder, 'run.json')
  const temporary = `${path}.${process.pid}`
  const hasPassword = run.databaseUrl !== null && /:\/\/[^/@]*:[^/@]+@|[?&]password=/.test(run.databaseUrl)
  writeFileSync(temporary, `${JSON.stringify({ ...run, databaseUrl: hasPassword ? null : run.databaseUrl })}\n`, {
    mode: 0o600,
  })
  renameSync(temporary, path)
  return () => {
    if (readRunFile(folder)?.pid === run.pid) rmSync(path, { force: true })
  }
}

/** Undefined when nothing runs from this folder. */
export function readRunFile(folder: string): RunFile | undefined {
  try {
    const run = JSON.parse(readFileSync(join(folder, 'run.json'), 'utf8')) as RunFile
    process.kill(run.pid, 0)
    return run
  } catch {
    return undefined
  }
}
