// The log of one running build: lines and progress gathered for a tenth of a second, then written together. A line is
// shown to readers only once it is committed.

import type { Sql } from '#platform/postgres'
import type { Logger } from '#platform/telemetry'
import type { Clock } from '#platform/time'
import type { LogLine } from '../build/job.ts'
import { appendOwnedLines, type Lease, logBytesMax, type NewLine } from '../store/logs.ts'

export interface LogWriter {
  add(line: LogLine): void
  progress(percent: number, current: string): void
  /** Writes what is gathered, now. @returns false when the lease is lost */
  flush(): Promise<boolean>
  close(): void
}

const flushEveryMs = 100
/** Lines that wait for a database that is away; later ones are counted, not kept. */
const waitingBytesMax = 4 * 1024 * 1024
const messageBytesMax = 16 * 1024

export function openLogWriter(o: {
  sql: Sql
  lease: Lease
  log: Logger
  clock: Clock
  spent: () => { runningMs: number; pulledBytes: number }
  onLost: () => void
}): LogWriter {
  let waiting: NewLine[] = []
  let waitingBytes = 0
  let writtenBytes = 0
  let droppedLines = 0
  let isTruncated = false
  let percent = 0
  let step = 'resolve'
  let hasMoved = false
  let flushing: Promise<boolean> | undefined
  let batches = 0
  let sending: { batch: number; lines: readonly NewLine[] } | undefined

  const timer = setInterval(() => {
    if (sending || waiting.length > 0 || hasMoved) void flush()
  }, flushEveryMs)

  function add(line: LogLine) {
    const message = line.message.slice(0, messageBytesMax)
    const bytes = Buffer.byteLength(message)
    writtenBytes += bytes
    if (writtenBytes > logBytesMax && line.level !== 'error') {
      if (isTruncated) return
      isTruncated = true
      waiting.push({
        level: 'warn',
        component: 'scheduler',
        message: `truncated: a log holds ${logBytesMax} bytes`,
        atMs: o.clock.now(),
      })
      return
    }
    if (waitingBytes > waitingBytesMax) {
      droppedLines++
      return
    }
    waitingBytes += bytes
    waiting.push({ ...line, message, atMs: o.clock.now() })
  }

  async function write(): Promise<boolean> {
    try {
      // What was sent before and may or may not have arrived goes first, exactly as it was.
      while (sending || waiting.length > 0 || hasMoved) {
        sending ??= nextBatch()
        const isOurs = await appendOwnedLines(o.sql, o.lease, sending.batch, sending.lines, {
          progress: percent,
          step,
          ...o.spent(),
        })
        sending = undefined
        if (!isOurs) {
          o.onLost()
          return false
        }
      }
    } catch (error) {
      // The lease decides what becomes of the build; the lines wait for the next try.
      o.log.debug({ err: error, buildId: o.lease.buildId }, 'log lines wait')
    }
    return true
  }

  function nextBatch() {
    if (droppedLines > 0) {
      const message = `${droppedLines} lines were dropped while the database was away`
      waiting.push({ level: 'warn', component: 'scheduler', message, atMs: o.clock.now() })
      droppedLines = 0
    }
    const lines = waiting
    waiting = []
    waitingBytes = 0
    hasMoved = false
    return { batch: ++batches, lines }
  }

  /** One write at a time, so that lines stay in order. */
  function flush(): Promise<boolean> {
    const next = (flushing ?? Promise.resolve(true)).then(write)
    flushing = next
    return next
  }

  return {
    add,
    progress(now, current) {
      const moved = Math.min(99, Math.max(percent, Math.floor(now)))
      if (moved === percent && current === step) return
      percent = moved
      step = current
      hasMoved = true
    },
    flush,
    close: () => clearInterval(timer),
  }
}
