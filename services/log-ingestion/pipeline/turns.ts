// Whose body is decoded next: deficit round robin over keys, so that a flood by one costs the others a moment and no 429.
//
// Decoders pause every 256 KiB; each stretch between two pauses is one step, and steps of different keys alternate by what
// they cost. With nobody waiting a request runs through at once, as long as the event loop has not had 256 KiB in this turn:
// who comes in the next one must not find the work of a hundred connections before it.

import { setImmediate } from 'node:timers'
import { setImmediate as nextTurn } from 'node:timers/promises'

export interface Turns {
  /** Runs a decoder to its end. @throws TooManyWaiting, and what the decoder throws */
  run<T>(key: string, bytes: number, steps: Generator<void, T>): Promise<T>
  /** Before so much is read for nothing. @throws TooManyWaiting: it would not be run now */
  check(key: string, bytes: number): void
  readonly waiting: number
}

/** This key has as many requests waiting as it may. */
export class TooManyWaiting extends Error {}

const quantumBytes = 64 * 1024
/** What a decoder does between two pauses. */
const stepBytes = 256 * 1024
const waitingMax = 32
const waitingBytesMax = 8 * 1024 * 1024
/** So little is no flood, in however many requests. */
const smallBytesMax = 512 * 1024
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
  /** Bytes of this turn of the event loop. */
  let sinceYield = 0
  let isCounting = false

  const spend = (bytes: number) => {
    sinceYield += bytes
    if (isCounting) return
    isCounting = true
    setImmediate(() => {
      isCounting = false
      sinceYield = 0
    })
  }

  const serve = async () => {
    isServing = true
    if (sinceYield >= yieldEveryBytes) await nextTurn()
    while (lines.size > 0) {
      for (const [key, line] of lines) {
        line.deficit += quantumBytes
        for (let job = line.jobs[0]; job; job = line.jobs[0]) {
          // What decompresses inside of its decoder has more steps than bytes.
          const cost = job.left > 0 ? Math.min(stepBytes, job.left) : stepBytes
          if (line.deficit < cost) break
          line.deficit -= cost
          job.left = Math.max(0, job.left - cost)
          spend(cost)
          if (job.step()) {
            line.jobs.shift()
            line.bytes -= job.bytes
            count--
          }
          if (sinceYield >= yieldEveryBytes) await nextTurn()
        }
        // Who has nothing waiting saves nothing up.
        if (line.jobs.length === 0) lines.delete(key)
      }
    }
    isServing = false
  }

  const check = (key: string, bytes: number) => {
    const line = lines.get(key)
    if (!line || line.jobs.length === 0) return
    const sum = line.bytes + bytes
    if (sum > waitingBytesMax || (line.jobs.length >= waitingMax && sum > smallBytesMax))
      throw new TooManyWaiting(`${line.jobs.length} requests of this key wait to be decoded already`)
  }

  return {
    check,
    async run(key, bytes, steps) {
      check(key, bytes)
      const line = lines.get(key) ?? { jobs: [], bytes: 0, deficit: 0 }
      return await new Promise((resolve, reject) => {
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
        let left = Math.max(1, bytes)
        if (!isServing && lines.size === 0 && sinceYield < yieldEveryBytes) {
          const cost = Math.min(stepBytes, left)
          spend(cost)
          if (step()) return
          left -= cost
        }
        line.jobs.push({ bytes, left, step })
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
