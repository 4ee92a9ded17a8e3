// Parts of a service started in order and stopped in reverse, each stop under its own deadline.

import type { Logger } from '../telemetry.ts'

export interface Closable {
  close(): Promise<void>
}

export interface StartSequence extends Closable {
  /** Starts a part now and stops it, in reverse order, on close. If the start throws, all that is up is closed first. */
  add<T extends Closable>(name: string, start: () => Promise<T>): Promise<T>
  /** Something to do on close that has no start of its own. */
  onClose(name: string, stop: () => Promise<void>, o?: { timeoutMs?: number }): void
}

/** Longest a single part may take to stop before the next one is stopped anyway. */
const stopTimeoutMs = 10_000

export function startSequence(log: Logger): StartSequence {
  const stops: { name: string; stop: () => Promise<void>; timeoutMs: number }[] = []
  let closing: Promise<void> | undefined

  const closeAll = async () => {
    const failures: unknown[] = []
    for (let part = stops.pop(); part; part = stops.pop()) {
      try {
        await withDeadline(part.stop(), part.timeoutMs, part.name)
      } catch (error) {
        log.error({ err: error, part: part.name }, 'a part did not stop cleanly')
        failures.push(error)
      }
    }
    if (failures.length > 0) throw new AggregateError(failures, 'some parts did not stop cleanly')
  }
  const close = () => {
    closing ??= closeAll()
    return closing
  }

  return {
    async add(name, start) {
      try {
        const part = await start()
        stops.push({ name, stop: () => part.close(), timeoutMs: stopTimeoutMs })
        return part
      } catch (error) {
        // The reason for the failed start is what the operator needs; a failure to clean up is already logged.
        await close().catch(() => {})
        throw error
      }
    },
    onClose(name, stop, o) {
      stops.push({ name, stop, timeoutMs: o?.timeoutMs ?? stopTimeoutMs })
    },
    close,
  }
}

async function withDeadline(work: Promise<void>, timeoutMs: number, name: string): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${name} did not stop within ${timeoutMs} ms`)), timeoutMs)
  })
  try {
    await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
