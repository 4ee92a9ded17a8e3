// One supervised process.
//
//   starting → ready → (exited) → waiting → starting …       until stop(), then stopped
//
// It is restarted with a back-off that doubles from 0.5 s to 30 s and is forgotten after a minute of health. Its
// standard input is a pipe that only we hold: when we die, however we die, the pipe ends and the child stops itself.

import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { sleep } from '#platform/time'
import type { PlannedService } from './plan.ts'

export type ChildState = 'starting' | 'ready' | 'waiting' | 'stopped'

export interface Child {
  readonly name: string
  readonly state: ChildState
  readonly pid: number | undefined
  readonly restarts: number
  /** Resolves at the first time it is ready, with the milliseconds that took. */
  readonly firstReady: Promise<number>
  /** TERM, then KILL after `timeoutMs`. */
  stop(timeoutMs: number): Promise<void>
}

export interface ChildOptions {
  service: PlannedService
  command: string
  args: readonly string[]
  onLine(line: string): void
  onState(state: ChildState, detail: string): void
}

const backoffMinMs = 500
const backoffMaxMs = 30_000
const stableAfterMs = 60_000

export function superviseChild(o: ChildOptions): Child {
  const stopping = new AbortController()
  const firstReady = Promise.withResolvers<number>()
  let state: ChildState = 'starting'
  let process_: ChildProcess | undefined
  let restarts = 0
  let backoffMs = backoffMinMs

  const enter = (next: ChildState, detail: string) => {
    state = next
    o.onState(next, detail)
  }

  const runOnce = async (): Promise<{ detail: string; livedMs: number }> => {
    const startedMs = performance.now()
    const child = spawn(o.command, [...o.args], {
      env: o.service.env,
      stdio: ['pipe', 'pipe', 'pipe'],
      // A group of its own, so that Ctrl-C reaches only the supervisor, which then stops everything in order.
      detached: true,
    })
    process_ = child
    child.stdin.on('error', () => {})
    createInterface({ input: child.stdout }).on('line', o.onLine)
    createInterface({ input: child.stderr }).on('line', o.onLine)
    const gone = new AbortController()
    const exit = new Promise<string>(resolve => {
      child.once('error', error => resolve(error.message))
      child.once('close', (code, signal) => resolve(signal ? `ended by ${signal}` : `exit code ${code}`))
    })
    const ready = becomeReady(o.service, AbortSignal.any([gone.signal, stopping.signal])).then(isReady => {
      if (!isReady) return
      const tookMs = performance.now() - startedMs
      enter('ready', `${Math.round(tookMs)} ms`)
      firstReady.resolve(tookMs)
    })
    const detail = await exit
    gone.abort()
    await ready
    process_ = undefined
    return { detail, livedMs: performance.now() - startedMs }
  }

  const loop = async () => {
    while (!stopping.signal.aborted) {
      enter('starting', restarts === 0 ? '' : `restart ${restarts}`)
      const { detail, livedMs } = await runOnce()
      if (stopping.signal.aborted) break
      if (livedMs > stableAfterMs) backoffMs = backoffMinMs
      enter('waiting', `${detail}; again in ${backoffMs / 1000} s`)
      await sleep(backoffMs, stopping.signal).catch(() => {})
      if (stopping.signal.aborted) break
      backoffMs = Math.min(backoffMs * 2, backoffMaxMs)
      restarts += 1
    }
    enter('stopped', '')
  }
  const finished = loop()

  return {
    name: o.service.name,
    get state() {
      return state
    },
    get pid() {
      return process_?.pid
    },
    get restarts() {
      return restarts
    },
    firstReady: firstReady.promise,
    async stop(timeoutMs) {
      stopping.abort()
      const child = process_
      child?.kill('SIGTERM')
      const kill = setTimeout(() => child?.kill('SIGKILL'), timeoutMs)
      await finished
      clearTimeout(kill)
    },
  }
}

/** Asks until the service says it is ready; false when told to give up. */
async function becomeReady({ url, readyPath }: PlannedService, signal: AbortSignal): Promise<boolean> {
  while (!signal.aborted) {
    const isReady = await fetch(url + readyPath, { signal: AbortSignal.any([signal, AbortSignal.timeout(2_000)]) })
      .then(async answer => {
        await answer.arrayBuffer()
        return answer.ok
      })
      .catch(() => false)
    if (isReady) return true
    await sleep(100, signal).catch(() => {})
  }
  return false
}
