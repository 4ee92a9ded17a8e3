// Carries the processes' JSON log lines into log-ingestion, so that the first thing a user sees in Logs is Purser.
//
// Lines wait in memory while log-ingestion is away, bounded by count and bytes; the oldest are shed and counted,
// which is allowed because every line is also in `logs/`. log-ingestion's own lines do not pass here: it writes them
// to its own journal.

import { mintToken } from '#platform/tenancy/token'
import { type Clock, sleep } from '#platform/time'

export interface LogShipper {
  /** One JSON line of `service`. */
  add(service: string, line: string): void
  /** Lines shed so far. */
  readonly shed: number
  /** Sends what it can within `timeoutMs`. */
  close(timeoutMs: number): Promise<void>
}

interface Entry {
  timestamp: string
  service: string
  level: string
  message: string
  metadata?: Record<string, unknown>
}

const entriesMax = 20_000
const batchEntriesMax = 500
/** log-ingestion's own bound on a native message, in bytes; characters × 3 is the safe side. */
const messageBytesMax = 10_000
const flushEveryMs = 250

export function openLogShipper(o: { url: string; secret: Buffer; clock: Clock }): LogShipper {
  const waiting: Entry[] = []
  const closing = new AbortController()
  let shed = 0

  const sendBatch = async (): Promise<boolean> => {
    const logs = waiting.slice(0, batchEntriesMax)
    const token = mintToken(o.secret, {
      audience: 'log-ingestion',
      role: 'operator',
      tenant: 'public',
      subject: 'supervisor',
      clock: o.clock,
    })
    const answer = await fetch(`${o.url}/api/v1/logs/batch`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
      body: JSON.stringify({ logs }),
      signal: AbortSignal.timeout(5_000),
    })
    await answer.arrayBuffer()
    // A refusal of the lines themselves will not change by repeating it; everything else may.
    const isFinal = answer.ok || [400, 413].includes(answer.status)
    if (!isFinal) return false
    if (!answer.ok) shed += logs.length
    waiting.splice(0, logs.length)
    return true
  }

  const loop = async () => {
    let backoffMs = flushEveryMs
    while (!closing.signal.aborted) {
      await sleep(backoffMs, closing.signal).catch(() => {})
      let isSent = true
      while (isSent && waiting.length > 0 && !closing.signal.aborted) isSent = await sendBatch().catch(() => false)
      backoffMs = isSent ? flushEveryMs : Math.min(backoffMs * 2, 5_000)
    }
  }
  const finished = loop()

  return {
    add(service, line) {
      const entry = toEntry(service, line, o.clock)
      waiting.push(entry)
      if (waiting.length > entriesMax) {
        waiting.shift()
        shed += 1
      }
    },
    get shed() {
      return shed
    },
    async close(timeoutMs) {
      closing.abort()
      await finished
      const deadlineMs = o.clock.monotonicMs() + timeoutMs
      while (waiting.length > 0 && o.clock.monotonicMs() < deadlineMs)
        if (!(await sendBatch().catch(() => false))) break
    },
  }
}

const levels: Readonly<Record<string, string>> = {
  TRACE: 'DEBUG',
  DEBUG: 'DEBUG',
  INFO: 'INFO',
  WARN: 'WARN',
  ERROR: 'ERROR',
  FATAL: 'FATAL',
}

/** Our own JSON lines keep their fields as metadata; anything else becomes a message as it is. */
export function toEntry(service: string, line: string, clock: Clock): Entry {
  const parsed = parseLine(line)
  const now = new Date(clock.now()).toISOString()
  if (!parsed) return { timestamp: now, service, level: 'INFO', message: clip(line) || '(empty line)' }
  const { level, time, msg, service: origin, ...metadata } = parsed
  return {
    timestamp: typeof time === 'string' ? time : now,
    service: typeof origin === 'string' ? origin : service,
    level: levels[String(level).toUpperCase()] ?? 'INFO',
    message: clip(String(msg ?? '')) || '(no message)',
    ...(Object.keys(metadata).length > 0 ? { metadata } : {}),
  }
}

function parseLine(line: string): Record<string, unknown> | undefined {
  if (!line.startsWith('{')) return undefined
  try {
    return JSON.parse(line) as Record<string, unknown>
  } catch {
    return undefined
  }
}

function clip(text: string): string {
  return text.slice(0, Math.floor(messageBytesMax / 3))
}
