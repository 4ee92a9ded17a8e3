// This service's own lines, straight into its own journal: through the HTTP intake they would be a loop.

import { symbols } from 'pino'
import type { Logger } from '#platform/telemetry'
import type { Clock } from '#platform/time'
import { cleanMetadata, newTally, type Redaction } from '../json/metadata.ts'
import { levelIndex, levelOfWord } from '../level.ts'
import { noDedupe, RecordBuilder } from '../record.ts'
import { type RowRedaction, redactRows } from '../rules/redaction.ts'
import type { Acceptance } from './acceptance.ts'

/** Lines a second; more is a storm in which the first hundred say what the rest would. */
const linesPerSecondMax = 100
const messageBytesMax = 10_000
const metadataBytesMax = 64 * 1024

/** Copies every line that `log` writes from now on; the function stops it. */
export function captureSelfLogs(o: {
  log: Logger
  acceptance: Acceptance
  clock: Clock
  redaction: Redaction
  /** Of the tenant that these lines belong to. */
  patterns: () => RowRedaction | undefined
}): () => void {
  const { log, acceptance, clock } = o
  const before: unknown = Reflect.get(log, symbols.streamSym)
  if (!isStream(before)) return () => {}
  /** When the last so many were stored: a bucket would let twice as many through in its first second. */
  const storedMs = new Float64Array(linesPerSecondMax).fill(Number.NEGATIVE_INFINITY)
  let oldest = 0
  const store = (line: string) => {
    const nowMs = clock.monotonicMs()
    if (nowMs - (storedMs[oldest] ?? 0) < 1_000) return
    storedMs[oldest] = nowMs
    oldest = (oldest + 1) % linesPerSecondMax
    const builder = new RecordBuilder()
    if (!addLine(builder, line, clock.now(), o.redaction)) return
    const patterns = o.patterns()
    if (patterns) for (const _ of redactRows(builder, patterns, newTally()));
    const header = {
      protocol: 'self',
      receivedUs: BigInt(clock.now()) * 1_000n,
      tenant: 'public',
      key: 'self',
      idempotencyKey: '',
      dedupeHash: noDedupe,
    } as const
    // A journal that refuses says so by metrics and health; a line about a line would be the loop.
    acceptance.accept(builder, header).catch(() => {})
  }
  const stream = {
    write(line: string) {
      before.write(line)
      store(line)
    },
    flushSync: () => before.flushSync?.(),
  }
  Reflect.set(log, symbols.streamSym, stream)
  return () => {
    Reflect.set(log, symbols.streamSym, before)
  }
}

interface Stream {
  write(line: string): void
  flushSync?: () => void
}

function isStream(value: unknown): value is Stream {
  return typeof value === 'object' && value !== null && 'write' in value && typeof value.write === 'function'
}

function addLine(builder: RecordBuilder, line: string, nowMs: number, redaction: Redaction): boolean {
  const parsed: unknown = JSON.parse(line)
  if (typeof parsed !== 'object' || parsed === null) return false
  const { level, time, service, msg, ...rest } = parsed as Record<string, unknown>
  const ms = typeof time === 'string' ? Date.parse(time) : Number.NaN
  const at = Number.isNaN(ms) ? nowMs : ms
  const seconds = Math.floor(at / 1_000)
  const metadata = Object.keys(rest).length === 0 ? null : cleanMetadata(JSON.stringify(rest), redaction, newTally())
  builder.row(
    seconds,
    (at - seconds * 1_000) * 1_000_000,
    levelIndex(levelOfWord(String(level)) ?? 'INFO'),
    typeof service === 'string' && service !== '' ? service.slice(0, 80) : 'log-ingestion',
    // An empty message is stored as what it is: the line had only fields.
    String(msg ?? '')
      .replaceAll('\0', '')
      .slice(0, messageBytesMax),
    metadata !== null && metadata.length > metadataBytesMax ? null : metadata,
  )
  return true
}
