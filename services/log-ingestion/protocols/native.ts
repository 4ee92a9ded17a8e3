// The guide's own routes and the line protocol, whose answers are the same, to the byte.

import { nativeCredential, protocolCredential } from '../access/credentials.ts'
import { decodeLines } from '../lines.ts'
import { decodeNative, type NativeOptions } from '../native.ts'
import { type Answer, type Fault, type IntakeRoute, jsonAnswer, type Target } from './protocol.ts'

export const single: IntakeRoute = {
  protocol: 'native',
  label: '/api/v1/logs',
  credential: ({ headers }) => nativeCredential(headers),
  *decode(target, body, builder, o) {
    const { total, rejected, hasTimestamps } = yield* decodeNative(body, builder, nativeOptions('single', target, o))
    const [details] = total === 0 ? ['timestamp is required'] : rejected
    return {
      total: 1,
      rejectedCount: details === undefined ? 0 : 1,
      hasTimestamps,
      answer: () =>
        details === undefined
          ? { status: 202, body: '{"message":"Log accepted"}' }
          : jsonAnswer(400, { error: 'Validation failed', details }),
    }
  },
  fault: nativeFault,
}

export const batch: IntakeRoute = {
  protocol: 'native',
  label: '/api/v1/logs/batch',
  credential: ({ headers }) => nativeCredential(headers),
  *decode(target, body, builder, o) {
    const { total, rejected, hasTimestamps } = yield* decodeNative(body, builder, nativeOptions('batch', target, o))
    return {
      total,
      rejectedCount: rejected.length,
      hasTimestamps,
      answer: () =>
        total === 0 ? jsonAnswer(400, { error: 'Empty batch' }) : processed(total, rejected.length, rejected),
    }
  },
  fault: nativeFault,
}

export const lines = (label: string): IntakeRoute => ({
  protocol: 'lines',
  label,
  credential: protocolCredential,
  *decode({ parameters }, body, builder, o) {
    const { total, rejectedCount, rejected, hasTimestamps } = yield* decodeLines(body, builder, {
      ...o,
      service: parameters.get('service') ?? undefined,
      level: parameters.get('level') ?? undefined,
      messageField: parameters.get('_msg_field') || undefined,
      timeField: parameters.get('_time_field') || undefined,
    })
    return { total, rejectedCount, hasTimestamps, answer: () => processed(total, rejectedCount, rejected) }
  },
  fault: nativeFault,
})

function nativeOptions(
  shape: NativeOptions['shape'],
  { headers }: Target,
  o: Omit<NativeOptions, 'shape' | 'errors'> & { batchErrors: NativeOptions['errors'] },
): NativeOptions {
  const asked = headers['x-batch-errors']
  return {
    shape,
    errors: asked === 'entry' || asked === 'whole' ? asked : o.batchErrors,
    rules: o.rules,
    entriesMax: o.entriesMax,
    nowMs: o.nowMs,
    tally: o.tally,
  }
}

function processed(total: number, rejectedCount: number, errors: readonly string[]): Answer {
  const counts = { message: 'Batch processed', accepted: total - rejectedCount, total }
  return jsonAnswer(202, rejectedCount === 0 ? counts : { ...counts, rejected: rejectedCount, errors })
}

/** In the guide's words. */
export function nativeFault({ kind, status, detail, reason }: Fault): Answer {
  switch (kind) {
    case 'keyMissing':
    case 'keyInvalid':
    case 'rateLimited':
      return jsonAnswer(status, { error: detail })
    case 'overloaded':
      return jsonAnswer(status, { error: 'Service overloaded', reason })
    case 'malformed':
      return jsonAnswer(status, { error: 'Invalid request body', details: detail })
    case 'tooLarge':
      return jsonAnswer(status, { error: 'Request body too large', details: detail })
    case 'encoding':
      return jsonAnswer(status, { error: 'Unsupported content encoding', details: detail })
    case 'mediaType':
      return jsonAnswer(status, { error: 'Unsupported media type', details: detail })
    case 'conflict':
      return jsonAnswer(status, { error: 'Idempotency conflict', details: detail })
    case 'method':
      return jsonAnswer(404, { error: 'Not found' })
    case 'internal':
      return jsonAnswer(status, { error: 'Internal error' })
    default:
      return kind satisfies never
  }
}
