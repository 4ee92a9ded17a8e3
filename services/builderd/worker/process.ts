// Starting, feeding and ending build processes.
//
// Each build gets a process of its own, in a process group of its own: what a stranger's bytes can reach is this one
// build, and ending it is one signal. Started as root it runs as the build user, when that user can read the program;
// `probeIsolation` finds out once, at start, and what was reached is shown, not what was wished for.
//
// The build user gets its two folders, cache and scratch, as open descriptors and names them /proc/self/fd/N: so the
// folders above them can stay closed to it, and nothing else of the service can be named at all.

import { fork, spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { constants } from 'node:os'
import { fileURLToPath } from 'node:url'
import type { Job } from '../build/job.ts'
import type { FromWorker, ToWorker } from './messages.ts'

export interface WorkerOptions {
  /** Undefined: the daemon's own user. */
  user: BuildUser | undefined
  /** The build's own folder. */
  scratchDir: string
  cacheDir: string
  memoryBytesMax: number
  onMessage: (message: FromWorker) => void
  /** Once, when the process is gone. */
  onGone: (how: Gone) => void
  onStderr: (text: string) => void
}

export interface BuildUser {
  uid: number
  gid: number
}

export type Gone = { why: 'memory'; bytes: number } | { why: 'ended'; how: string }

export interface Worker {
  pid: number
  run(job: Job): void
  send(message: ToWorker): void
  /** With everything it started; does nothing when it is gone. */
  kill(): void
}

const program = fileURLToPath(new URL('./main.ts', import.meta.url))
const stderrBytesMax = 64 * 1024
const rssPollMs = 500
const probeTimeoutMs = 20_000

export function startWorker(o: WorkerOptions): Worker {
  const heapMiB = Math.max(64, Math.floor((o.memoryBytesMax / 1024 ** 2) * 0.75))
  const folderFds = o.user ? [openSync(o.cacheDir, 'r'), openSync(o.scratchDir, 'r')] : []
  const child = fork(program, [], {
    detached: true,
    // Nothing of the daemon's environment: it may hold credentials.
    env: {},
    execArgv: ['--disable-warning=ExperimentalWarning', `--max-old-space-size=${heapMiB}`],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc', ...folderFds],
    ...(o.user ?? {}),
  })
  for (const fd of folderFds) closeSync(fd)
  const pid = child.pid ?? 0
  let stderrBytes = 0
  child.stderr?.on('data', (chunk: Buffer) => {
    stderrBytes += chunk.length
    if (stderrBytes <= stderrBytesMax) o.onStderr(chunk.toString('utf8'))
  })
  let isGone = false
  let memory: Gone | undefined
  const gone = (how: string) => {
    if (isGone) return
    isGone = true
    clearInterval(watching)
    o.onGone(memory ?? { why: 'ended', how })
  }
  const kill = () => {
    if (!isGone && pid > 0) killGroup(pid)
  }
  const watching = setInterval(() => {
    const rss = residentBytes(pid)
    if (rss > o.memoryBytesMax) {
      memory = { why: 'memory', bytes: rss }
      kill()
    }
  }, rssPollMs)
  child.on('message', message => {
    if (!isGone) o.onMessage(message as FromWorker)
  })
  child.once('error', error => gone(error.message))
  // `close` comes when the channel is drained too: the last message is heard before the end.
  child.once('close', (code, signal) => gone(signal === null ? `exit code ${code}` : `signal ${signal}`))
  const send = (message: ToWorker) => {
    if (child.connected) child.send(message, () => {})
  }
  // The descriptors' numbers follow from their places in `stdio`.
  const folders = o.user ? { cacheDir: '/proc/self/fd/4', scratchDir: '/proc/self/fd/5' } : {}
  return { pid, run: job => send({ type: 'run', job: { ...job, ...folders } }), send, kill }
}

function killGroup(pid: number) {
  try {
    process.kill(-pid, constants.signals.SIGKILL)
  } catch {
    // Gone already.
  }
}

function residentBytes(pid: number): number {
  try {
    return Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]) * 4_096
  } catch {
    return 0
  }
}

/** Why a process of this user could not do its work; undefined when it can. */
export async function probeIsolation(user: BuildUser, folder: string): Promise<string | undefined> {
  const script = `
    const { rmSync, writeFileSync } = require('node:fs')
    writeFileSync('/proc/self/fd/3/probe', '')
    rmSync('/proc/self/fd/3/probe')
    import(process.argv[1]).then(() => process.exit(0))`
  const fd = openSync(folder, 'r')
  try {
    return await new Promise(resolve => {
      const args = ['--disable-warning=ExperimentalWarning', '-e', script, program]
      const child = spawn(process.execPath, args, { env: {}, stdio: ['ignore', 'ignore', 'pipe', fd], ...user })
      const timer = setTimeout(() => child.kill('SIGKILL'), probeTimeoutMs)
      let text = ''
      child.stderr?.on('data', chunk => {
        text = (text + chunk).slice(0, 4_000)
      })
      child.once('error', error => resolve(error.message))
      child.once('close', (code, signal) => {
        clearTimeout(timer)
        resolve(code === 0 ? undefined : (/Error: .*/.exec(text)?.[0] ?? `ended with ${code ?? signal}`))
      })
    })
  } finally {
    closeSync(fd)
  }
}
