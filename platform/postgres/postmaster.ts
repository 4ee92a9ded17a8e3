// One life of the server process: start, know when it is ready, stop, and make sure that it does not outlive us.

import { type ChildProcess, spawn } from 'node:child_process'
import { readFile, rm } from 'node:fs/promises'
import { Socket } from 'node:net'
import { basename, join } from 'node:path'
import type { Logger } from '#platform/telemetry'
import { sleep } from '#platform/time'
import { explainSpawn, type RunAs, runCommand, serverEnv } from './run-as.ts'

export interface Postmaster {
  pid: number
  /** Resolves, never rejects, when the process has ended. */
  ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
  stop(): Promise<void>
}

export interface PostmasterOptions {
  program: string
  /** Real path: it is compared with the command line of a running server. */
  dataDir: string
  configFile: string
  runAs: RunAs | null
  log: Logger
  signal: AbortSignal
}

/** Clean stop (checkpoint included), then immediate (recovery at the next start), then the end. Sums to < 30 s. */
const fastStopMs = 20_000
const immediateStopMs = 5_000
const pollMs = 20
/** Crash recovery replays at most max_wal_size, seconds in practice; a slow disk may need minutes. */
const readyWithinMs = 300_000

/** @throws {Error} with the server's own last words when it does not come up */
export async function startPostmaster(o: PostmasterOptions): Promise<Postmaster> {
  await clearTheWay(o.dataDir, o.log)
  const child = spawn(o.program, ['-D', o.dataDir, '-c', `config_file=${o.configFile}`], {
    ...(o.runAs ?? {}),
    cwd: '/',
    env: serverEnv,
    // A session of its own: Ctrl-C and `kill -- -GROUP` reach our services first, which still need the database.
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const failed = Promise.withResolvers<Error>()
  child.once('error', error => failed.resolve(explainSpawn(error, o.runAs)))
  if (child.pid === undefined) throw await failed.promise
  const { pid } = child

  const lastWords: string[] = []
  readLog(child, line => {
    lastWords.push(line)
    if (lastWords.length > 20) lastWords.shift()
    logLine(o.log, line)
  })
  const guardian = startGuardian(pid, o)
  let hasEnded = false
  const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>(resolve => {
    child.once('exit', (code, signal) => {
      hasEnded = true
      guardian.kill('SIGKILL')
      resolve({ code, signal })
    })
  })
  // The server must not keep our process alive; the guardian stops it when we are gone.
  child.unref()
  if (child.stderr instanceof Socket) child.stderr.unref()

  const postmaster = { pid, ended, stop: () => stopChild(child, ended, o.log) }
  const deadline = performance.now() + readyWithinMs
  while (!(await isReady(o.dataDir, pid))) {
    if (hasEnded) {
      // The pipe may still hold the reason.
      await new Promise(resolve => setImmediate(resolve))
      throw new Error(`PostgreSQL did not start: ${lastWords.join(' | ') || 'it said nothing'}`)
    }
    if (o.signal.aborted || performance.now() > deadline) {
      await postmaster.stop()
      throw new Error(o.signal.aborted ? 'stopped while starting' : `PostgreSQL is not ready after ${readyWithinMs} ms`)
    }
    await sleep(pollMs)
  }
  return postmaster
}

async function stopChild(child: ChildProcess, ended: Postmaster['ended'], log: Logger): Promise<void> {
  const steps = [
    ['SIGINT', fastStopMs],
    ['SIGQUIT', immediateStopMs],
    ['SIGKILL', immediateStopMs],
  ] as const
  for (const [signal, waitMs] of steps) {
    child.kill(signal)
    const cancel = new AbortController()
    const isGone = await Promise.race([
      ended.then(() => true),
      sleep(waitMs, cancel.signal).then(
        () => false,
        () => false,
      ),
    ])
    cancel.abort()
    if (isGone) return
    log.warn({ signal, waitMs }, 'PostgreSQL did not stop in time')
  }
}

/**
 * A shell that waits for the end of our pipe, which comes however we end (kill -9 too), and then stops the server.
 * It checks the pid file first, so that a pid used again by another program is left alone. PR_SET_PDEATHSIG would be
 * Linux only and ends with the spawning thread; a wrapper around the server would hide its exit from us.
 */
const guardianScript = `
read -r _
read -r running _ < "$2/postmaster.pid" 2>/dev/null
[ "$running" = "$1" ] || exit 0
kill -INT "$1"
n=0
while [ $n -lt ${fastStopMs / 1000} ] && kill -0 "$1" 2>/dev/null; do sleep 1; n=$((n + 1)); done
kill -QUIT "$1" 2>/dev/null
`

function startGuardian(pid: number, { dataDir, runAs }: PostmasterOptions): ChildProcess {
  const guardian = spawn('/bin/sh', ['-c', guardianScript, 'purser-postgres-guardian', String(pid), dataDir], {
    ...(runAs ?? {}),
    cwd: '/',
    env: serverEnv,
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  guardian.once('error', () => {})
  guardian.stdin?.once('error', () => {})
  guardian.unref()
  if (guardian.stdin instanceof Socket) guardian.stdin.unref()
  return guardian
}

interface PidFile {
  pid: number
  status: string
}

async function readPidFile(dataDir: string): Promise<PidFile | null> {
  const text = await readFile(join(dataDir, 'postmaster.pid'), 'utf8').catch(() => null)
  if (text === null) return null
  const lines = text.split('\n')
  return { pid: Math.abs(Number.parseInt(lines[0] ?? '', 10)), status: (lines[7] ?? '').trim() }
}

/** The last line of the pid file is how pg_ctl knows, too. */
async function isReady(dataDir: string, pid: number): Promise<boolean> {
  const file = await readPidFile(dataDir)
  return file?.pid === pid && file.status === 'ready'
}

/** A server left by an earlier life of ours is stopped. The caller holds the folder's lock, so nobody is using it. */
async function clearTheWay(dataDir: string, log: Logger): Promise<void> {
  const file = await readPidFile(dataDir)
  if (!file || !Number.isInteger(file.pid) || file.pid <= 1) return
  if (!(await isServerOf(dataDir, file.pid))) {
    // PostgreSQL would refuse to start if another program of this user now has that pid, as happens in containers,
    // where pids are small and come again. If backends of the dead server still run, shared memory tells it so.
    await rm(join(dataDir, 'postmaster.pid'), { force: true })
    return
  }
  log.warn({ pid: file.pid }, 'stopping a PostgreSQL server that an earlier run left behind')
  const steps = [
    ['SIGINT', fastStopMs],
    ['SIGQUIT', immediateStopMs],
    ['SIGKILL', immediateStopMs],
  ] as const
  for (const [signal, waitMs] of steps) {
    try {
      process.kill(file.pid, signal)
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? error.code : undefined
      if (code === 'ESRCH') return
      throw new Error(`PostgreSQL (pid ${file.pid}) runs on ${dataDir} and cannot be stopped: ${code}. Stop it first.`)
    }
    const deadline = performance.now() + waitMs
    while (performance.now() < deadline) {
      if (!(await isServerOf(dataDir, file.pid))) return
      await sleep(pollMs)
    }
  }
  throw new Error(`PostgreSQL (pid ${file.pid}) runs on ${dataDir} and does not stop; end it by hand`)
}

/** By its command line, which root may read without CAP_SYS_PTRACE and which a zombie no longer has. */
async function isServerOf(dataDir: string, pid: number): Promise<boolean> {
  if (process.platform === 'linux') {
    const argv = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0')
    const at = argv.indexOf('-D')
    return basename(argv[0] ?? '') === 'postgres' && at > 0 && argv[at + 1] === dataDir
  }
  const { output } = await runCommand('/bin/ps', ['-ww', '-o', 'command=', '-p', String(pid)], null)
  return /^\S*postgres /.test(output) && output.includes(` -D ${dataDir} `)
}

function readLog(child: ChildProcess, onLine: (line: string) => void): void {
  let rest = ''
  child.stderr?.setEncoding('utf8')
  child.stderr?.on('data', (text: string) => {
    const lines = (rest + text).split('\n')
    rest = (lines.pop() ?? '').slice(-8_000)
    for (const line of lines) onLine(line.slice(0, 8_000))
  })
}

function logLine(log: Logger, line: string): void {
  if (/^(PANIC|FATAL|WARNING):/.test(line)) log.warn(`PostgreSQL: ${line}`)
  else log.debug(`PostgreSQL: ${line}`)
}
