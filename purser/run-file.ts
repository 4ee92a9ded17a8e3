// `run.json` in the data folder: what a running supervisor started, for `purser status`, `doctor` and `demo`.

import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ServiceName } from './plan.ts'

export interface RunFile {
  pid: number
  startedAt: string
  version: string
  services: { name: ServiceName; url: string; ports: number[] }[]
}

const pathOf = (dataDir: string) => join(dataDir, 'run.json')

export function writeRunFile(dataDir: string, run: RunFile): void {
  const temporary = `${pathOf(dataDir)}.new`
  writeFileSync(temporary, `${JSON.stringify(run, null, 2)}\n`, { mode: 0o600 })
  renameSync(temporary, pathOf(dataDir))
}

/** Undefined when nothing was started from this folder, or what was started is gone. */
export function readRunFile(dataDir: string): RunFile | undefined {
  try {
    const run = JSON.parse(readFileSync(pathOf(dataDir), 'utf8')) as RunFile
    process.kill(run.pid, 0)
    return run
  } catch {
    return undefined
  }
}

export function removeRunFile(dataDir: string): void {
  rmSync(pathOf(dataDir), { force: true })
}
