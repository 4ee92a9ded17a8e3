// How many queries run at once: few in all, fewer per key, a short queue, then a clear no. Exports have a gate of their
// own: they last as long as their readers take, and searches must not wait for those.

import { queriesBusy } from '../errors.ts'

export const runningMax = 4
const runningPerKeyMax = 2
const queueTimeoutMs = 5_000
const queueMax = 100

export interface Gate {
  /** @throws Problem when the queue is full or the wait too long */
  run<T>(key: string, work: () => Promise<T>): Promise<T>
}

export function createGate(timers: { queueTimeoutMs?: number } = {}): Gate {
  const waitMs = timers.queueTimeoutMs ?? queueTimeoutMs
  const running = new Map<string, number>()
  let runningCount = 0
  const waiting: { key: string; go: () => void }[] = []

  const mayRun = (key: string) => runningCount < runningMax && (running.get(key) ?? 0) < runningPerKeyMax

  const enter = (key: string) => {
    runningCount++
    running.set(key, (running.get(key) ?? 0) + 1)
  }

  const leave = (key: string) => {
    runningCount--
    const left = (running.get(key) ?? 1) - 1
    if (left === 0) running.delete(key)
    else running.set(key, left)
    const next = waiting.findIndex(waiter => mayRun(waiter.key))
    if (next >= 0) waiting.splice(next, 1)[0]?.go()
  }

  const wait = (key: string) =>
    new Promise<void>((resolve, reject) => {
      if (waiting.length >= queueMax) return reject(queriesBusy())
      const waiter = {
        key,
        go: () => {
          clearTimeout(timer)
          enter(key)
          resolve()
        },
      }
      const timer = setTimeout(() => {
        waiting.splice(waiting.indexOf(waiter), 1)
        reject(queriesBusy())
      }, waitMs)
      waiting.push(waiter)
    })

  return {
    async run(key, work) {
      if (mayRun(key)) enter(key)
      else await wait(key)
      try {
        return await work()
      } finally {
        leave(key)
      }
    },
  }
}
