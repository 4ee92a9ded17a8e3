// One request through a protocol's decoder, without a service around it.

import { createRedaction, newTally } from '../json/metadata.ts'
import { levelAt } from '../level.ts'
import type { Answer, DecodeOptions, IntakeRoute } from '../protocols/protocol.ts'
import { noDedupe, RecordBuilder, RowWalk, readRecord } from '../record.ts'
import { formatMoment } from '../rfc3339.ts'

export const nowMs = Date.UTC(2026, 0, 15, 12)
export const receipt = '2026-01-15T12:00:00Z'

/** Time, service, level, message, metadata. */
export type Row = [string, string, string, string, unknown]

export interface Sent {
  path?: string
  headers?: Record<string, string>
  options?: Partial<DecodeOptions>
}

export interface Outcome {
  rows: Row[]
  setAside: Row[]
  /** How often the decoder gave way. */
  pauses: number
  answer: Answer
  total: number
  rejectedCount: number
  hasTimestamps: boolean
}

/** Throws what the decoder throws. */
export function decode(route: IntakeRoute, body: string | Uint8Array, sent: Sent = {}): Outcome {
  const builder = new RecordBuilder(64)
  const [path = '', query = ''] = (sent.path ?? '/').split('?')
  const target = { method: 'POST', path, parameters: new URLSearchParams(query), headers: sent.headers ?? {} }
  const steps = route.decode(target, Buffer.from(body), builder, {
    rules: {
      messageBytesMax: 10_000,
      metadataBytesMax: 1_048_576,
      timestampPastMaxMs: 7 * 86_400_000,
      timestampFutureMaxMs: 3_600_000,
      redaction: createRedaction(),
    },
    lineBytesMax: 1_000,
    entriesMax: 1_000,
    bodyBytesMax: 1_048_576,
    batchErrors: 'whole',
    reserve: () => {},
    nowMs,
    tally: newTally(),
    keyName: 'my-key',
    oldestAllowedMs: undefined,
    ...sent.options,
  })
  let pauses = 0
  let step = steps.next()
  for (; !step.done; step = steps.next()) pauses++
  const { total, rejectedCount, hasTimestamps } = step.value
  const setAside = step.value.setAside ? rowsOf(step.value.setAside) : []
  return { rows: rowsOf(builder), setAside, pauses, answer: step.value.answer(), total, rejectedCount, hasTimestamps }
}

export function rowsOf(builder: RecordBuilder): Row[] {
  const header = { rowsBefore: 0n, receivedUs: 0n, tenant: 't', key: 'k', idempotencyKey: '', dedupeHash: noDedupe }
  const walk = new RowWalk(readRecord(builder.finish({ ...header, protocol: 'lines' })))
  const rows: Row[] = []
  while (walk.next()) {
    const metadata: unknown = walk.metadata === null ? null : JSON.parse(walk.metadata)
    rows.push([formatMoment(walk.seconds, walk.nanos), walk.service, levelAt(walk.level), walk.message, metadata])
  }
  return rows
}
