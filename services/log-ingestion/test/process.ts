// The service as a process of its own, started by the command the guide installs, spoken to by signals and HTTP.

import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Cleanup } from '../../../test/kit/cleanup.ts'
import { pollUntil } from '../../../test/kit/poll.ts'

const launcher = fileURLToPath(new URL('../../../bin/log-ingestion', import.meta.url))

export interface LogLine {
  level: string
  msg: string
  [field: string]: unknown
}

export interface Child {
  process: ChildProcess
  lines: LogLine[]
  /** Where it listens, once it said so. */
  url: Promise<string>
  exited: Promise<number | string>
  said(pattern: RegExp): Promise<LogLine>
}

/** Killed by t.after if it still runs. */
export function startProcess(
  t: Cleanup,
  o: { env: Record<string, string>; cwd?: string; command?: string; args?: string[]; uid?: number },
): Child {
  const child = spawn(o.command ?? launcher, o.args ?? [], {
    cwd: o.cwd,
    env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE, LOG_FORMAT: 'json', ...o.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(o.uid === undefined ? {} : { uid: o.uid, gid: o.uid }),
  })
  const lines: LogLine[] = []
  const stderr: string[] = []
  const exited = new Promise<number | string>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => resolve(code ?? signal ?? 'gone'))
  })
  t.after(async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
    await exited.catch(() => {})
  })
  child.stderr.setEncoding('utf8').on('data', text => stderr.push(text))
  createInterface({ input: child.stdout }).on('line', line => {
    lines.push(line.startsWith('{') ? (JSON.parse(line) as LogLine) : { level: '', msg: line })
  })
  const said = (pattern: RegExp) =>
    pollUntil(
      () => {
        if (child.exitCode !== null) return { level: 'GONE', msg: '' }
        return lines.find(line => pattern.test(line.msg))
      },
      { what: `the line ${pattern}`, everyMs: 20 },
    ).then(line => {
      if (line.level !== 'GONE' || pattern.test(line.msg)) return line
      throw new Error(
        `ended with ${child.exitCode} before ${pattern}: ${stderr.join('')}${JSON.stringify(lines.slice(-5))}`,
      )
    })
  const url = said(/^ready$/).then(line => String(line.url))
  url.catch(() => {})
  return { process: child, lines, url, exited, said }
}
