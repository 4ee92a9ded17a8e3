// What the intake asks of a protocol: read a body into rows, and word every answer in the protocol's own shape.

import type { IncomingHttpHeaders } from 'node:http'
import type { IntakeRules } from '../intake-rules.ts'
import type { Tally } from '../json/metadata.ts'
import type { Protocol, RecordBuilder } from '../record.ts'

/** A request without its body. */
export interface Target {
  method: string
  path: string
  parameters: URLSearchParams
  headers: IncomingHttpHeaders
}

export interface Answer {
  status: number
  body: string | Uint8Array
  headers?: Record<string, string>
}

export interface DecodeOptions {
  rules: IntakeRules
  lineBytesMax: number
  entriesMax: number
  bodyBytesMax: number
  batchErrors: 'whole' | 'entry'
  /** Called before so many more decoded bytes are held. */
  reserve: (bytes: number) => void
  nowMs: number
  tally: Tally
  /** Service of entries that name none. */
  keyName: string
  /** Entries before it have outlived the tenant's retention. Undefined: kept for ever. */
  oldestAllowedMs: number | undefined
}

export interface Decoded {
  /** Entries sent, good or bad. */
  total: number
  rejectedCount: number
  /** Every entry named its own time: only then may an unmarked resend be recognised. */
  hasTimestamps: boolean
  /** For quarantine, where the protocol has no way to refuse an entry alone; members `_refused` say why. */
  setAside?: RecordBuilder
  /** What the sender is told once the good entries are on disk. */
  answer: () => Answer
}

/** Why a request is refused as a whole. */
export interface Fault {
  kind:
    | 'keyMissing'
    | 'keyInvalid'
    | 'rateLimited'
    | 'overloaded'
    | 'malformed'
    | 'tooLarge'
    | 'encoding'
    | 'mediaType'
    | 'method'
    | 'conflict'
    | 'internal'
  status: number
  /** For people: what was wrong, with the value and the bound. */
  detail: string
  /** Of an overload. */
  reason?: string
  retryAfterS?: number
}

/** Thrown by any step of the intake; the protocol words it. */
export class Refusal extends Error {
  readonly fault: Fault
  constructor(fault: Fault) {
    super(fault.detail)
    this.fault = fault
  }
}

export interface IntakeRoute {
  /** In the journal and in metrics. */
  protocol: Protocol
  /** In metrics: a name of bounded variety, where paths hold names of indexes. */
  label: string
  /** Other methods are a fault in the protocol's own shape. Undefined: POST, and the rest is left to the other routes. */
  methods?: readonly string[]
  /** Answers without reading a body: what clients ask before they send. */
  reply?: (target: Target) => Answer
  /** No key is needed for it. */
  isOpen?: true
  /** A Content-Encoding that `decode` undoes itself. */
  ownEncoding?: string
  credential: (target: Target) => string | undefined
  /** The tenant a caller of any tenant asks for. */
  askedTenant?: (target: Target) => string | undefined
  /** Fills `builder`, giving way every 256 KiB. @throws DecodeError, TooManyEntries, Refusal */
  decode: (target: Target, body: Buffer, builder: RecordBuilder, o: DecodeOptions) => Generator<void, Decoded>
  fault: (fault: Fault, target: Target) => Answer
}

export const jsonType = 'application/json; charset=utf-8'

export function jsonAnswer(status: number, body: object, headers?: Record<string, string>): Answer {
  return { status, body: JSON.stringify(body), ...(headers ? { headers } : {}) }
}
