// Whose body is decoded next: deficit round robin over keys, so that a flood by one costs the others a moment and no 429.
//
// Decoders pause every 256 KiB; each stretch between two pauses is one step, and steps of different keys alternate by what
// they cost. With nobody else waiting a request runs through at once.

import { setImmediate } from 'node:timers/promises'

export interface Turns {
  /** Runs a decoder to its end. @throws TooManyWaiting, and what the decoder throws */
  run<T>(key: string, bytes: number, steps: Generator<void, T>): Promise<T>
  readonly waiting: number
}

/** This key has as many requests waiting as it may. */
export class TooManyWaiting extends Error {}

const quantumBytes = 64 * 1024
/** What a decoder does between two pauses. */
const stepBytes = 256 * 1024
const waitingMax = 32
const waitingBytesMax = 8 * 1024 * 1024
/** Others of the event loop get their turn at least this often. */
const yieldEveryBytes = 256 * 1024

interface Job {
  bytes: number
  left: number
  /** True when it is over. */
  step: () => boolean
}

interface Line {
  jobs: Job[]
  bytes: number
  deficit: number
}

export function createTurns(): Turns {
  /** In the order in which they are served. */
  const lines = new Map<string, Line>()
  let isServing = false
  let count = 0

  const serve = async () => {
    isServing = true
    let sinceYield = 0
    while (lines.size > 0) {
      for (const [key, line] of lines) {
        line.deficit += quantumBytes
        for (let job = line.jobs[0]; job; job = line.jobs[0]) {
          // What decompresses inside of its decoder has more steps than bytes.
          const cost = job.left > 0 ? Math.min(stepBytes, job.left) : stepBytes
          if (line.deficit < cost) break
          line.deficit -= cost
          job.left = Math.max(0, job.left - cost)
          sinceYield += cost
          if (job.step()) {
            line.jobs.shift()
            line.bytes -= job.bytes
            count--
          }
          if (sinceYield < yieldEveryBytes) continue
          sinceYield = 0
          await setImmediate()
        }
        // Who has nothing waiting saves nothing up.
        if (line.jobs.length === 0) lines.delete(key)
      }
    }
    isServing = false
  }

  return {
    run(key, bytes, steps) {
      const line = lines.get(key) ?? { jobs: [], bytes: 0, deficit: 0 }
      if (line.jobs.length > 0 && (line.jobs.length >= waitingMax || line.bytes + bytes > waitingBytesMax))
        return Promise.reject(new TooManyWaiting(`${line.jobs.length} requests of this key wait to be decoded already`))
      return new Promise((resolve, reject) => {
        const step = () => {
          try {
            const next = steps.next()
            if (!next.done) return false
            resolve(next.value)
          } catch (error) {
            reject(error)
          }
          return true
        }
        // Alone, and in one stretch: no queue, no wait.
        if (!isServing && lines.size === 0 && step()) return
        line.jobs.push({ bytes, left: Math.max(1, bytes), step })
        line.bytes += bytes
        lines.set(key, line)
        count++
        if (!isServing) void serve()
      })
    },
    get waiting() {
      return count
    },
  }
}
