// What the journal holds: every hold before its call is sent, every end before the last byte of its answer, every
// refusal. A record stands alone: an end carries its whole ledger row, so that folding needs no memory.

import type { CallStatus, UsageSource } from './api.ts'
import type { EndedPart, HoldPart } from './book.ts'

/** What is known of a call when it is admitted or refused. */
export interface CallFacts {
  /** Admission, Unix ms: the call belongs to the windows of this instant whenever it settles. */
  atMs: number
  requestId: string
  tenantId: number
  /** What other services call the tenant; kept, because a tenant may be gone when its last calls are folded. */
  tenantSlug: string
  keyId: bigint | null
  keyPrefix: string
  route: string
  provider: string | null
  model: string
  priceId: number | null
  sessionId: string | null
  endUser: string | null
  isStream: boolean
}

export interface Outcome {
  status: CallStatus
  reason: string | null
  /** Disjoint token classes, and reasoning as a part of the output. */
  input: bigint
  cacheRead: bigint
  cacheWrite: bigint
  output: bigint
  reasoning: bigint
  usageSource: UsageSource
  /** Booked nano-dollars, and the same in 10⁻²¹ USD before rounding. */
  settled: bigint
  exact: bigint
  upstreamId: string | null
  latencyMs: number
  /** `hold_overrun`: the provider cost more than its limit allowed. */
  flags: readonly string[]
}

export interface HoldRecord {
  type: 'hold'
  id: string
  /** Which life of the process granted itself the slices; see holds/leases.ts. */
  fence: bigint
  amount: bigint
  /** For an owner that dies: the output half of the bound, and the deadline by wall clock. */
  amountOfOutput: bigint
  deadlineAtMs: number
  parts: readonly HoldPart[]
  call: CallFacts
}

export interface EndRecord {
  type: 'end'
  id: string
  fence: bigint
  held: bigint
  parts: readonly EndedPart[]
  call: CallFacts
  outcome: Outcome
}

/** A call that ended without ever holding money. */
export interface RefusalRecord {
  type: 'refusal'
  call: CallFacts
  status: 'blocked' | 'failed'
  reason: string
}

export type Record = HoldRecord | EndRecord | RefusalRecord

const format = 1

export function encodeRecord(record: Record): Buffer {
  return Buffer.from(
    JSON.stringify({ v: format, ...record }, (_, value) => (typeof value === 'bigint' ? `${value}n` : value)),
  )
}

/**
 * Our own bytes, already checked by the journal's CRC.
 * @throws Error when a newer release wrote them
 */
export function decodeRecord(bytes: Uint8Array): Record {
  const value: { v: number } & Record = JSON.parse(Buffer.from(bytes).toString('utf8'), (key, field) =>
    // Only amounts and ids are written as bigint, never in a member that holds a caller's text.
    typeof field === 'string' && !textMembers.has(key) && /^-?\d+n$/.test(field) ? BigInt(field.slice(0, -1)) : field,
  )
  const { v, ...record } = value
  if (v !== format)
    throw new Error(`a journal record of format ${v} was written by a newer release; this one reads format ${format}`)
  return record
}

const textMembers: ReadonlySet<string> = new Set([
  'type',
  'requestId',
  'tenantSlug',
  'keyPrefix',
  'route',
  'provider',
  'model',
  'sessionId',
  'endUser',
  'status',
  'reason',
  'usageSource',
  'upstreamId',
])
