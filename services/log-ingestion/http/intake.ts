// The routes logs come in by, on the raw listener: for a request of one row a framework would cost more than the row.
//
// Their answers are those of the guide, to the byte. Load is never a 5xx here: existing clients keep what they have on
// 429 and drop it on anything else.

import type { IncomingMessage, ServerResponse } from 'node:http'
import { setImmediate } from 'node:timers/promises'
import { JournalClosed, JournalDiskError, JournalFull } from '#platform/journal'
import type { Clock } from '#platform/time'
import type { Buckets, Verdict } from '../access/buckets.ts'
import { nativeCredential, protocolCredential } from '../access/credentials.ts'
import type { Caller, Directory } from '../access/directory.ts'
import type { IntakeRules } from '../intake-rules.ts'
import { newTally, type Tally } from '../json/metadata.ts'
import { decodeLines } from '../lines.ts'
import { DecodeError, decodeNative, TooManyEntries } from '../native.ts'
import type { Acceptance } from '../pipeline/acceptance.ts'
import type { IntakeMetrics } from '../pipeline/metrics.ts'
import type { Receipts } from '../receipt.ts'
import { noDedupe, type Protocol, RecordBuilder } from '../record.ts'
import {
  BadCompression,
  BodyTooLarge,
  encodingOf,
  type InflightBytes,
  readBody,
  reserve,
  SenderGone,
  TooMuchInFlight,
  UnsupportedEncoding,
} from './body.ts'

export interface IntakeContext {
  clock: Clock
  directory: Directory
  acceptance: Acceptance
  receipts: Receipts
  metrics: IntakeMetrics
  rules: IntakeRules
  lineBytesMax: number
  bodyBytesMax: number
  entriesMax: number
  batchErrors: 'whole' | 'entry'
  inflight: InflightBytes
  /** Undefined: RATELIMIT_ENABLED=false. */
  buckets: Buckets | undefined
  /** Failed authentications per address. */
  refusals: Buckets
  clientAddress: (request: IncomingMessage) => string
  isDraining: () => boolean
  /** How long until a full journal may have room again, from what the writer gets done. Seconds. */
  drainRetryS: () => number
  observe: (route: string, status: number, seconds: number) => void
  log: { error(fields: object, message: string): void }
}

type Route = 'single' | 'batch' | 'lines'

const routes: Readonly<Record<string, Route>> = {
  '/api/v1/logs': 'single',
  '/api/v1/logs/batch': 'batch',
  '/api/v1/logs/ndjson': 'lines',
  '/insert/jsonline': 'lines',
}

const json = 'application/json; charset=utf-8'

interface Answer {
  status: number
  body: string
  headers?: Record<string, string>
}

/** Takes the request and returns true, or leaves it to the other routes. */
export function createIntake(context: IntakeContext): (request: IncomingMessage, response: ServerResponse) => boolean {
  return (request, response) => {
    if (request.method !== 'POST') return false
    const url = request.url ?? ''
    const query = url.indexOf('?')
    const path = (query < 0 ? url : url.slice(0, query)).replace(/(?<=.)\/$/, '')
    const route = Object.hasOwn(routes, path) ? routes[path] : undefined
    if (route === undefined) return false
    const startedMs = context.clock.monotonicMs()
    const parameters = new URLSearchParams(query < 0 ? '' : url.slice(query + 1))
    handle(context, route, request, parameters)
      .catch(error => failure(context, error))
      .then(answer => {
        send(request, response, answer)
        context.observe(path, answer.status, (context.clock.monotonicMs() - startedMs) / 1_000)
      })
      .catch(error => {
        context.log.error({ err: error }, 'BUG: an answer could not be written')
        response.destroy()
      })
    return true
  }
}

function send(request: IncomingMessage, response: ServerResponse, { status, body, headers }: Answer): void {
  if (response.destroyed) return
  const requestId = request.headers['x-request-id']
  const fields: Record<string, string | number> = {
    'Content-Type': json,
    'Content-Length': Buffer.byteLength(body),
    ...headers,
  }
  if (typeof requestId === 'string' && /^[\x21-\x7e]{1,128}$/.test(requestId)) fields['X-Request-Id'] = requestId
  response.writeHead(status, fields)
  response.end(body)
  // What is left of a refused body is read and dropped, for the read timeout at most, so that the sender gets to the
  // answer and the connection stays usable.
  if (!request.complete) request.resume()
}

async function handle(
  context: IntakeContext,
  route: Route,
  request: IncomingMessage,
  parameters: URLSearchParams,
): Promise<Answer> {
  const caller = authenticate(context, route, request)
  if ('status' in caller) return caller
  if (context.isDraining())
    return { ...overloaded('DRAINING', 1), headers: { 'Retry-After': '1', Connection: 'close' } }
  const verdict = context.buckets?.take(caller.key)
  const limits = verdict ? limitHeaders(context, verdict) : undefined
  if (verdict && !verdict.allowed) {
    context.metrics.limited(caller.keyName, 'requests')
    return answer(429, { error: 'Rate limit exceeded' }, { ...limits, 'Retry-After': String(verdict.retryAfterS) })
  }
  const reservation = reserve(context.inflight)
  try {
    const encoding = encodingOf(request.headers['content-encoding'])
    const body = await readBody(request, encoding, context.bodyBytesMax, reservation)
    const result = await take(context, route, request, parameters, caller, body)
    return { ...result, headers: { ...limits, ...result.headers } }
  } catch (error) {
    const result = failure(context, error)
    return { ...result, headers: { ...limits, ...result.headers } }
  } finally {
    reservation.release()
  }
}

function limitHeaders({ buckets }: IntakeContext, verdict: Verdict): Record<string, string> {
  return {
    'X-RateLimit-Limit': String(buckets?.rps),
    'X-RateLimit-Remaining': String(verdict.remaining),
    'X-RateLimit-Reset': String(verdict.resetS),
  }
}

function authenticate(context: IntakeContext, route: Route, request: IncomingMessage): Caller | Answer {
  const credential = route === 'lines' ? protocolCredential(request.headers) : nativeCredential(request.headers)
  const caller = credential === undefined ? 'none' : context.directory.authenticate(credential)
  if (typeof caller === 'object' && caller.scopes.has('logs:write')) return caller
  // Known keys never get here, so an address that guesses cannot lock them out.
  const verdict = context.refusals.take(context.clientAddress(request))
  if (!verdict.allowed) {
    context.metrics.limited('unknown', 'auth')
    return answer(429, { error: 'Rate limit exceeded' }, { 'Retry-After': String(verdict.retryAfterS) })
  }
  if (caller === 'none') return answer(401, { error: 'API key is required' })
  if (caller === 'unavailable') return overloaded('DIRECTORY_UNAVAILABLE', 5)
  return answer(401, { error: 'Invalid API key' })
}

async function take(
  context: IntakeContext,
  route: Route,
  request: IncomingMessage,
  parameters: URLSearchParams,
  caller: Caller,
  body: Buffer,
): Promise<Answer> {
  const nowMs = context.clock.now()
  const tally = newTally()
  const builder = new RecordBuilder(Math.min(body.length + 64, 1024 * 1024))
  if (route === 'lines') {
    const result = await finish(
      decodeLines(body, builder, {
        rules: context.rules,
        lineBytesMax: context.lineBytesMax,
        entriesMax: context.entriesMax,
        nowMs,
        tally,
        service: parameters.get('service') ?? undefined,
        level: parameters.get('level') ?? undefined,
        messageField: parameters.get('_msg_field') || undefined,
        timeField: parameters.get('_time_field') || undefined,
        keyName: caller.keyName,
      }),
    )
    const headers = await accept(context, 'lines', caller, builder, tally, nowMs, result.rejectedCount, body.length)
    return processed(result.total, result.rejectedCount, result.rejected, headers)
  }
  const asked = request.headers['x-batch-errors']
  const result = await finish(
    decodeNative(body, builder, {
      shape: route,
      errors: asked === 'entry' || asked === 'whole' ? asked : context.batchErrors,
      rules: context.rules,
      entriesMax: context.entriesMax,
      nowMs,
      tally,
    }),
  )
  const { total, rejected } = result
  if (route === 'single') {
    const [details] = total === 0 ? ['timestamp is required'] : rejected
    if (details !== undefined) {
      context.metrics.accepted('native', 0, 1, body.length)
      return answer(400, { error: 'Validation failed', details })
    }
    const headers = await accept(context, 'native', caller, builder, tally, nowMs, 0, body.length)
    return { status: 202, body: '{"message":"Log accepted"}', headers }
  }
  if (total === 0) return answer(400, { error: 'Empty batch' })
  const headers = await accept(context, 'native', caller, builder, tally, nowMs, rejected.length, body.length)
  return processed(total, rejected.length, rejected, headers)
}

function processed(
  total: number,
  rejectedCount: number,
  errors: readonly string[],
  headers: Record<string, string>,
): Answer {
  const counts = { message: 'Batch processed', accepted: total - rejectedCount, total }
  return answer(202, rejectedCount === 0 ? counts : { ...counts, rejected: rejectedCount, errors }, headers)
}

/** Runs a decoder to its end, letting others have a turn whenever it pauses. */
async function finish<T>(steps: Generator<void, T>): Promise<T> {
  let step = steps.next()
  while (!step.done) {
    await setImmediate()
    step = steps.next()
  }
  return step.value
}

async function accept(
  context: IntakeContext,
  protocol: Protocol,
  caller: Caller,
  builder: RecordBuilder,
  tally: Tally,
  nowMs: number,
  rejectedCount: number,
  bodyBytes: number,
): Promise<Record<string, string>> {
  const { metrics, acceptance, receipts } = context
  const { rows } = builder
  if (rows === 0) {
    metrics.accepted(protocol, 0, rejectedCount, bodyBytes)
    return {}
  }
  const { tenant, key } = caller
  const accepted = await acceptance.accept(builder, {
    protocol,
    receivedUs: BigInt(nowMs) * 1_000n,
    tenant,
    key,
    idempotencyKey: '',
    dedupeHash: noDedupe,
  })
  metrics.accepted(protocol, rows, rejectedCount, bodyBytes)
  metrics.cleaned(tally)
  return { 'X-Ack': 'disk', 'X-Receipt': receipts.issue(accepted, tenant) }
}

function failure(context: IntakeContext, error: unknown): Answer {
  if (error instanceof DecodeError || error instanceof BadCompression)
    return answer(400, { error: 'Invalid request body', details: error.message })
  if (error instanceof BodyTooLarge)
    return answer(413, {
      error: 'Request body too large',
      details: `the decoded body exceeds ${error.bytesMax} bytes; send less at once`,
    })
  if (error instanceof TooManyEntries)
    return answer(413, {
      error: 'Request body too large',
      details: `the request has more than ${error.entriesMax} entries; send fewer at once`,
    })
  if (error instanceof UnsupportedEncoding)
    return answer(415, { error: 'Unsupported content encoding', details: error.message })
  if (error instanceof TooMuchInFlight) return shed(context, 'INFLIGHT', 1)
  if (error instanceof JournalFull) return shed(context, 'JOURNAL_FULL', Math.max(1, context.drainRetryS()))
  if (error instanceof JournalDiskError) return shed(context, error.reason, 30)
  if (error instanceof JournalClosed) return shed(context, 'DRAINING', 1)
  // Nobody is there to read it.
  if (error instanceof SenderGone) return answer(400, { error: 'Invalid request body', details: 'unexpected EOF' })
  context.log.error({ err: error }, 'BUG: intake failed')
  return answer(500, { error: 'Internal error' })
}

function shed(context: IntakeContext, reason: string, retryAfterS: number): Answer {
  context.metrics.limited('all', 'overload')
  return overloaded(reason, retryAfterS)
}

function overloaded(reason: string, retryAfterS: number): Answer {
  return answer(429, { error: 'Service overloaded', reason }, { 'Retry-After': String(retryAfterS) })
}

function answer(status: number, body: object, headers?: Record<string, string>): Answer {
  return { status, body: JSON.stringify(body), ...(headers ? { headers } : {}) }
}
