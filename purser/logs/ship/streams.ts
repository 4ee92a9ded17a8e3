// Inputs that are no files: standard input, and the journal of systemd.

import { spawn } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { openCursors } from './cursors.ts'
import { bodyOf, type Continuation, splitEvents } from './events.ts'
import type { Batch } from './followed-file.ts'

const batchBytesMax = 512 * 1024
const batchEntriesMax = 2_000

/** Standard input cannot be read again: what a crash takes with it is gone, what a lost answer repeats is stored once. */
export async function* stdinBatches(input: Readable, continues: Continuation): AsyncGenerator<Batch> {
  const run = randomUUID()
  let held = Buffer.alloc(0)
  let offset = 0
  const batchOf = (isEnd: boolean): Batch | undefined => {
    const events = splitEvents(held, continues, isEnd)
    if (!isEnd && events.length > 1) events.pop()
    const to = events.at(-1)?.to
    if (to === undefined) return undefined
    const body = bodyOf(events, '-')
    held = held.subarray(to)
    const key = createHash('sha256').update(`${run}:${offset}:${to}`).digest('hex')
    offset += to
    return { key, body, rows: body === '' ? 0 : body.split('\n').length - 1, bytes: to, acknowledged() {} }
  }
  for await (const chunk of input) {
    held = Buffer.concat([held, chunk as Buffer])
    // A line at a time when they come slowly, whole batches when they do not: the next chunk waits for this one's ack.
    const batch = batchOf(false)
    if (batch) yield batch
  }
  const rest = batchOf(true)
  if (rest) yield rest
}

interface JournalLine {
  cursor: string
  body: string
}

/** Entries behind the last acknowledged cursor. A batch that was in flight is read and sent again as it was. */
export async function* journaldBatches(o: {
  dir: string
  follow: boolean
  start: 'beginning' | 'end'
  stop: AbortSignal
  /** Tests bring their own. */
  command: string
}): AsyncGenerator<Batch> {
  const cursors = await openCursors(o.dir)
  const from = cursors.acknowledged
  const place = from !== null ? ['--after-cursor', from] : o.start === 'end' ? ['--lines', '0'] : []
  const child = spawn(o.command, ['--output', 'json', '--no-pager', ...place, ...(o.follow ? ['--follow'] : [])], {
    stdio: ['ignore', 'pipe', 'inherit'],
    signal: o.stop,
  })
  const ended = new Promise<void>(resolve => {
    child.once('error', error => resolve(o.stop.aborted ? undefined : void process.stderr.write(`${error.message}\n`)))
    child.once('close', () => resolve())
  })
  const waiting: JournalLine[] = []
  let isOver = false
  let wake = () => {}
  const lines = createInterface({ input: child.stdout })
  lines.on('line', line => {
    const read = journalLine(line)
    if (read) waiting.push(read)
    if (waiting.length >= 2 * batchEntriesMax) lines.pause()
    wake()
  })
  lines.once('close', () => {
    isOver = true
    wake()
  })
  try {
    let { inflight } = cursors
    while (!o.stop.aborted) {
      const wanted = inflight ?? Math.min(batchEntriesMax, waiting.length)
      if (waiting.length === 0 || waiting.length < wanted) {
        if (isOver && waiting.length === 0) return
        if (isOver) inflight = null
        else {
          const { promise, resolve } = Promise.withResolvers<void>()
          wake = resolve
          o.stop.addEventListener('abort', () => resolve(), { once: true })
          await promise
        }
        continue
      }
      inflight = null
      const taken: JournalLine[] = []
      let bytes = 0
      while (taken.length < wanted && (bytes < batchBytesMax || cursors.inflight !== null)) {
        const next = waiting.shift()
        if (!next) break
        taken.push(next)
        bytes += next.body.length
      }
      lines.resume()
      const last = taken.at(-1)?.cursor ?? ''
      await cursors.begin(taken.length)
      yield {
        key: createHash('sha256')
          .update(`journald:${cursors.acknowledged ?? ''}:${last}`)
          .digest('hex'),
        body: taken.map(({ body }) => `${body}\n`).join(''),
        rows: taken.length,
        bytes,
        acknowledged: () => cursors.done(last),
      }
    }
  } finally {
    child.kill()
    await ended
    await cursors.close()
  }
}

const priorities = ['FATAL', 'CRITICAL', 'CRITICAL', 'ERROR', 'WARN', 'INFO', 'INFO', 'DEBUG']

export function journalLine(line: string): JournalLine | undefined {
  let fields: Record<string, unknown>
  try {
    fields = JSON.parse(line) as Record<string, unknown>
  } catch {
    return undefined
  }
  const text = (name: string) => (typeof fields[name] === 'string' ? fields[name] : undefined)
  const cursor = text('__CURSOR')
  if (cursor === undefined) return undefined
  const { MESSAGE } = fields
  // Bytes that are not UTF-8 come as an array of numbers.
  const message = Array.isArray(MESSAGE) ? Buffer.from(MESSAGE as number[]).toString('utf8') : String(MESSAGE ?? '')
  const micros = text('_SOURCE_REALTIME_TIMESTAMP') ?? text('__REALTIME_TIMESTAMP')
  return {
    cursor,
    body: JSON.stringify({
      ...(micros === undefined ? {} : { timestamp: Number(micros) }),
      level: priorities[Number(text('PRIORITY') ?? 6)] ?? 'INFO',
      service: text('SYSLOG_IDENTIFIER') ?? text('_COMM') ?? 'journald',
      message,
      unit: text('_SYSTEMD_UNIT'),
      host: text('_HOSTNAME'),
      pid: text('_PID'),
    }),
  }
}
