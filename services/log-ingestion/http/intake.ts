// The routes logs come in by, on the raw listener: for a request of one row a framework would cost more than the row.
//
// Every protocol passes through `take`. What holds for all of them is a step there; what one protocol reads and answers
// is in protocols/. Load is never a 5xx here: existing clients keep what they have on 429 and drop it on anything else.

import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import { JournalClosed, JournalDiskError, JournalFull } from '#platform/journal'
import type { Clock } from '#platform/time'
import type { RequestBuckets, Verdict } from '../access/buckets.ts'
import type { Caller, Directory } from '../access/directory.ts'
import type { Guesses } from '../access/guesses.ts'
import type { Volume } from '../access/volume.ts'
import type { BufferPool } from '../buffer-pool.ts'
import type { IntakeRules } from '../intake-rules.ts'
import { newTally, type Tally } from '../json/metadata.ts'
import { DecodeError, TooManyEntries } from '../native.ts'
import type { Acceptance } from '../pipeline/acceptance.ts'
import type { Admission, Entrance } from '../pipeline/admission.ts'
import type { IntakeMetrics } from '../pipeline/metrics.ts'
import type { AcceptedPlace } from '../pipeline/remembered.ts'
import type { Settlement } from '../pipeline/settlement.ts'
import { TooManyWaiting, type Turns } from '../pipeline/turns.ts'
import {
  type Answer,
  type Decoded,
  type Fault,
  type IntakeRoute,
  jsonType,
  Refusal,
  type Target,
} from '../protocols/protocol.ts'
import type { Receipts } from '../receipt.ts'
import { noDedupe, RecordBuilder } from '../record.ts'
import { type RowRedaction, redactRows } from '../rules/redaction.ts'
import { type AckLevel, ackLevelOf } from './ack-level.ts'
import {
  BadCompression,
  type Body,
  BodyTooLarge,
  declaredBytes,
  dropRest,
  encodingOf,
  type InflightBytes,
  keptBody,
  type Reservation,
  readBody,
  reserve,
  SenderGone,
  TooMuchInFlight,
  UnsupportedEncoding,
} from './body.ts'
import { createRoutes } from './intake-routes.ts'

export interface IntakeContext {
  clock: Clock
  directory: Directory
  acceptance: Acceptance
  /** Whose body is decoded next. */
  turns: Turns
  admission: Admission
  settlement: Settlement
  receipts: Receipts
  metrics: IntakeMetrics
  rules: IntakeRules
  lineBytesMax: number
  bodyBytesMax: number
  entriesMax: number
  batchErrors: 'whole' | 'entry'
  elasticVersion: string
  inflight: InflightBytes
  /** For bodies and records. */
  pool: BufferPool
  /** Undefined: RATELIMIT_ENABLED=false. */
  buckets: RequestBuckets | undefined
  /** Of rows, bytes and what tenants set for themselves; as above. */
  volume: Volume | undefined
  /** Failed authentications per address. */
  guesses: Guesses
  clientAddress: (request: IncomingMessage) => string
  isDraining: () => boolean
  /** How long until a full journal may have room again, from what the writer gets done. Seconds. */
  drainRetryS: () => number
  /** Entries older than this have outlived the tenant's retention. Undefined: no limit. */
  oldestAllowedMs: (tenant: string) => number | undefined
  /** What the tenant has taken out of entries beyond sensitive keys. Undefined: nothing. */
  redactionOf: (tenant: string) => RowRedaction | undefined
  observe: (route: string, method: string, status: number, seconds: number) => void
  log: { error(fields: object, message: string): void }
}

/** A request whose body is still to be had. */
interface Arrival {
  headers: IncomingHttpHeaders
  /** Path and query. */
  url?: string | undefined
  address: () => string
  read: (reservation: Reservation) => Promise<Body>
}

/** One request on its way. */
interface Exchange {
  route: IntakeRoute
  target: Target
  request: Arrival
  caller: Caller
  tenant: string
  /** Decoded bytes it holds; given back when it is answered. */
  reservation: Reservation
}

export interface Intake {
  /** Takes the request and returns true, or leaves it to the other routes. */
  http(request: IncomingMessage, response: ServerResponse): boolean
  /** The same for a body that is here already, such as the message of an RPC. */
  message(route: IntakeRoute, target: Target, body: Buffer, address: string): Promise<Answer>
  /** The same for a sender who is known already and gets no answer; null when it is on disk. */
  direct(route: IntakeRoute, caller: Caller, body: Buffer, address: string): Promise<Fault | null>
}

export function createIntake(context: IntakeContext): Intake {
  const routeOf = createRoutes(context)
  const message: Intake['message'] = (route, target, body, address) => {
    const arrival = arrived(target, body, address)
    return handle(context, route, target, arrival).catch(error => worded(route, target, faultOf(context, error)))
  }
  const direct: Intake['direct'] = async (route, caller, body, address) => {
    const target = { method: '', path: route.label, parameters: new URLSearchParams(), headers: {} }
    const reservation = reserve(context.inflight, caller.key)
    try {
      const request = arrived(target, body, address)
      await checkVolume(context, caller.tenant, caller)
      await take(context, { route, target, request, caller, tenant: caller.tenant, reservation })
      return null
    } catch (error) {
      return faultOf(context, error)
    } finally {
      reservation.release()
    }
  }
  const http: Intake['http'] = (request, response) => {
    const { url = '', method = '' } = request
    const query = url.indexOf('?')
    const path = (query < 0 ? url : url.slice(0, query)).replace(/(?<=.)\/$/, '')
    const route = routeOf(method, path, request.headers.accept ?? '')
    if (route === undefined) return false
    const startedMs = context.clock.monotonicMs()
    const parameters = new URLSearchParams(query < 0 ? '' : url.slice(query + 1))
    const target = { method, path, parameters, headers: request.headers }
    const arrival: Arrival = {
      headers: request.headers,
      url,
      address: () => context.clientAddress(request),
      async read(reservation) {
        const header = request.headers['content-encoding']
        const encoding = encodingOf(route.ownEncoding === header?.trim().toLowerCase() ? undefined : header)
        return await readBody(request, encoding, context.bodyBytesMax, reservation, context.pool)
      },
    }
    handle(context, route, target, arrival)
      .catch(error => worded(route, target, faultOf(context, error)))
      .then(answer => {
        send(request, response, answer)
        context.observe(route.label, method, answer.status, (context.clock.monotonicMs() - startedMs) / 1_000)
      })
      .catch(error => {
        context.log.error({ err: error }, 'BUG: an answer could not be written')
        response.destroy()
      })
    return true
  }
  return { http, message, direct }
}

function arrived({ headers, path }: Target, body: Buffer, address: string): Arrival {
  return {
    headers,
    url: path,
    address: () => address,
    async read(reservation) {
      reservation.take(body.length)
      return keptBody(body)
    },
  }
}

function send(request: IncomingMessage, response: ServerResponse, { status, body, headers }: Answer): void {
  if (response.destroyed) return
  const requestId = request.headers['x-request-id']
  const fields: Record<string, string | number> = {
    ...(status === 204 ? {} : { 'Content-Type': jsonType, 'Content-Length': Buffer.byteLength(body) }),
    ...headers,
  }
  // HTTP/2 has no such header.
  if (request.httpVersionMajor > 1) delete fields.Connection
  if (typeof requestId === 'string' && /^[\x21-\x7e]{1,128}$/.test(requestId)) fields['X-Request-Id'] = requestId
  response.writeHead(status, fields)
  response.end(request.method === 'HEAD' || status === 204 ? undefined : body)
  // For the read timeout at most.
  dropRest(request)
}

/** Who asks, and may they ask now? Then `take`. */
async function handle(context: IntakeContext, route: IntakeRoute, target: Target, request: Arrival): Promise<Answer> {
  if (route.methods?.includes(target.method) === false)
    throw new Refusal({ kind: 'method', status: 405, detail: `${target.method} is not a method of ${target.path}` })
  if (route.reply && route.isOpen) return route.reply(target)
  const caller = authenticate(context, route, target, request)
  if (context.isDraining()) {
    const answer = worded(route, target, overloaded('DRAINING', 1))
    return { ...answer, headers: { ...answer.headers, Connection: 'close' } }
  }
  const verdict = await context.buckets?.take(caller.key)
  const answer = await admitted(context, route, target, request, caller, verdict)
  return verdict ? { ...answer, headers: { ...limitHeaders(context, verdict, answer), ...answer.headers } } : answer
}

async function admitted(
  context: IntakeContext,
  route: IntakeRoute,
  target: Target,
  request: Arrival,
  caller: Caller,
  verdict: Verdict | undefined,
): Promise<Answer> {
  const reservation = reserve(context.inflight, caller.key)
  try {
    if (verdict && !verdict.allowed) {
      context.metrics.limited(caller.tenant, caller.keyName, 'requests')
      throw new Refusal(rateLimited(verdict.retryAfterS))
    }
    if (route.reply) return route.reply(target)
    const tenant = (caller.anyTenant && route.askedTenant?.(target)) || caller.tenant
    await checkVolume(context, tenant, caller)
    return await take(context, { route, target, request, caller, tenant, reservation })
  } catch (error) {
    return worded(route, target, faultOf(context, error))
  } finally {
    reservation.release()
  }
}

/** @throws Refusal: rows, bytes or the day are used up */
async function checkVolume(
  { volume, metrics }: IntakeContext,
  tenant: string,
  { key, keyName }: Caller,
): Promise<void> {
  const overdrawn = await volume?.check({ tenant, key, keyName })
  if (!overdrawn) return
  metrics.limited(tenant, keyName, overdrawn.limit)
  throw new Refusal(rateLimited(overdrawn.retryAfterS))
}

/** One request from its body to its answer, the same steps for every protocol. Throws what `faultOf` knows. */
async function take(context: IntakeContext, exchange: Exchange): Promise<Answer> {
  const { request, caller, reservation } = exchange

  // read
  const ack = ackLevelOf(request.headers)
  context.turns.check(caller.key, declaredBytes(request.headers))
  const body = await request.read(reservation)
  try {
    return await takeRead(context, exchange, body, ack)
  } finally {
    body.free()
  }
}

async function takeRead(context: IntakeContext, exchange: Exchange, body: Body, ack: AckLevel): Promise<Answer> {
  const { request, tenant, caller } = exchange

  // seen before?
  const mark = request.headers['idempotency-key']
  const entrance = await context.admission.enter({
    tenant,
    key: caller.key,
    mark: typeof mark === 'string' ? mark : undefined,
    address: request.address(),
    userAgent: request.headers['user-agent'] ?? '',
    url: request.url ?? '',
    body: body.bytes,
  })
  const builder = new RecordBuilder(Math.min(body.bytes.length + 64, 1024 * 1024), context.pool)
  try {
    return await takeIn(context, exchange, body, builder, entrance, ack)
  } finally {
    builder.free()
    entrance.leave()
  }
}

async function takeIn(
  context: IntakeContext,
  { route, target, tenant, caller, reservation }: Exchange,
  { bytes: body, free }: Body,
  builder: RecordBuilder,
  entrance: Entrance,
  ack: AckLevel,
): Promise<Answer> {
  // decode: a repeat as it was then, so that it gets the same answer
  const { first } = entrance
  const nowMs = first ? Number(first.receivedUs / 1_000n) : context.clock.now()
  const tally = newTally()
  const decoded = await context.turns.run(
    caller.key,
    body.length,
    decodeAndRedact(
      context,
      tenant,
      builder,
      tally,
      route.decode(target, body, builder, {
        rules: context.rules,
        lineBytesMax: context.lineBytesMax,
        entriesMax: context.entriesMax,
        bodyBytesMax: context.bodyBytesMax,
        batchErrors: context.batchErrors,
        reserve: bytes => reservation.take(bytes),
        nowMs,
        tally,
        keyName: caller.keyName,
        oldestAllowedMs: context.oldestAllowedMs(tenant),
      }),
    ),
  )
  const { protocol } = route
  const { rows } = builder
  if (first) {
    context.metrics.repeated(tenant, protocol, first.rows, body.length)
    const answer = decoded.answer()
    free()
    reservation.release()
    const isStored =
      ack.isStored && first.isElsewhere && (await context.settlement.reachedElsewhere(first, ack.timeoutMs))
    const wanted = first.isElsewhere ? { isStored, timeoutMs: 0 } : ack
    const headers = await acknowledged(context, first, tenant, wanted, isStored)
    return { ...answer, headers: { ...headers, 'X-Duplicate': 'true', ...answer.headers } }
  }
  const header = { protocol, receivedUs: BigInt(nowMs) * 1_000n, tenant, key: caller.key }
  const asideRows = decoded.setAside?.rows ?? 0
  if (rows + asideRows === 0) {
    context.metrics.accepted(tenant, protocol, 0, decoded.rejectedCount, body.length)
    return decoded.answer()
  }

  // accept; first what is set aside: sent again it is in quarantine twice, where an entry twice would be a lie
  const aside =
    decoded.setAside && asideRows > 0
      ? await context.acceptance.accept(decoded.setAside, {
          ...header,
          // With nothing else to carry it the mark goes with what is set aside.
          ...(rows === 0 ? entrance.marks(false) : unmarked),
          isSetAside: true,
        })
      : undefined
  if (rows === 0 && aside) {
    entrance.accepted(aside)
    entrance.leave()
    context.metrics.accepted(tenant, protocol, asideRows, decoded.rejectedCount, body.length)
    const answer = decoded.answer()
    free()
    reservation.release()
    const headers = await acknowledged(context, aside, tenant, ack, false)
    return { ...answer, headers: { ...headers, ...answer.headers } }
  }
  const accepted = await context.acceptance.accept(builder, { ...header, ...entrance.marks(decoded.hasTimestamps) })
  context.volume?.charge({ tenant, key: caller.key, keyName: caller.keyName }, rows, accepted.accountedBytes)
  entrance.accepted(accepted)
  entrance.leave()
  context.metrics.accepted(tenant, protocol, rows + asideRows, decoded.rejectedCount, body.length)
  context.metrics.cleaned(tally)

  // answer
  const answer = decoded.answer()
  free()
  reservation.release()
  const headers = await acknowledged(context, accepted, tenant, ack, false)
  return { ...answer, headers: { ...headers, ...answer.headers } }
}

const unmarked = { idempotencyKey: '', dedupeHash: noDedupe }

/** Waits for what the sender asked for, and says what was reached. */
async function acknowledged(
  { settlement, receipts }: IntakeContext,
  place: AcceptedPlace,
  tenant: string,
  { isStored, timeoutMs }: AckLevel,
  isKnownStored: boolean,
): Promise<Record<string, string>> {
  const position = { segment: place.segment, offset: place.to }
  const isReached = isStored && (isKnownStored || (await settlement.reached(position, timeoutMs)))
  return { 'X-Ack': isReached ? 'stored' : 'disk', 'X-Receipt': receipts.issue(place, tenant) }
}

/** A refusal for another reason than the bucket says its own time in both headers: Datadog's clients wait as long as
 *  X-RateLimit-Reset says and know no Retry-After. */
function limitHeaders({ buckets }: IntakeContext, verdict: Verdict, { headers }: Answer): Record<string, string> {
  return {
    'X-RateLimit-Limit': String(buckets?.rps),
    'X-RateLimit-Remaining': String(verdict.remaining),
    'X-RateLimit-Reset': String(Math.max(verdict.resetS, Number(headers?.['Retry-After'] ?? 0))),
  }
}

function authenticate(context: IntakeContext, route: IntakeRoute, target: Target, request: Arrival): Caller {
  const credential = route.credential(target)
  const caller = credential === undefined ? 'none' : context.directory.authenticate(credential)
  const isCaller = typeof caller === 'object' && caller.scopes.has('logs:write')
  const address = request.address()
  const waitS = isCaller ? context.guesses.admit(address, caller.key) : context.guesses.failed(address)
  if (waitS > 0) {
    context.metrics.limited(undefined, 'unknown', 'auth')
    throw new Refusal(rateLimited(waitS))
  }
  if (isCaller) return caller
  if (caller === 'unavailable') throw new Refusal(overloaded('DIRECTORY_UNAVAILABLE', 5))
  if (caller === 'none') throw new Refusal({ kind: 'keyMissing', status: 401, detail: 'API key is required' })
  throw new Refusal({ kind: 'keyInvalid', status: 401, detail: 'Invalid API key' })
}

/** All that is done to a body in turn with those of other keys. */
function* decodeAndRedact(
  { redactionOf }: IntakeContext,
  tenant: string,
  builder: RecordBuilder,
  tally: Tally,
  decode: Generator<void, Decoded>,
): Generator<void, Decoded> {
  const decoded = yield* decode
  const redaction = redactionOf(tenant)
  if (redaction) yield* redactRows(builder, redaction, tally)
  return decoded
}

/** The fault in the protocol's words, with what every 429 carries. */
function worded(route: IntakeRoute, target: Target, fault: Fault): Answer {
  const answer = route.fault(fault, target)
  if (fault.retryAfterS === undefined) return answer
  return { ...answer, headers: { 'Retry-After': String(fault.retryAfterS), ...answer.headers } }
}

function faultOf(context: IntakeContext, error: unknown): Fault {
  if (error instanceof Refusal) return error.fault
  if (error instanceof DecodeError || error instanceof BadCompression)
    return { kind: 'malformed', status: 400, detail: error.message }
  if (error instanceof BodyTooLarge)
    return tooLarge(`the decoded body exceeds ${error.bytesMax} bytes; send less at once`)
  if (error instanceof TooManyEntries)
    return tooLarge(`the request has more than ${error.entriesMax} entries; send fewer at once`)
  if (error instanceof UnsupportedEncoding) return { kind: 'encoding', status: 415, detail: error.message }
  if (error instanceof TooMuchInFlight || error instanceof TooManyWaiting) return shed(context, 'INFLIGHT', 1)
  if (error instanceof JournalFull) return shed(context, 'JOURNAL_FULL', Math.max(1, context.drainRetryS()))
  if (error instanceof JournalDiskError) return shed(context, error.reason, 30)
  if (error instanceof JournalClosed) return shed(context, 'DRAINING', 1)
  // Nobody is there to read it.
  if (error instanceof SenderGone) return { kind: 'malformed', status: 400, detail: 'unexpected EOF' }
  context.log.error({ err: error }, 'BUG: intake failed')
  return { kind: 'internal', status: 500, detail: 'Internal error' }
}

function tooLarge(detail: string): Fault {
  return { kind: 'tooLarge', status: 413, detail }
}

function rateLimited(retryAfterS: number): Fault {
  return { kind: 'rateLimited', status: 429, detail: 'Rate limit exceeded', retryAfterS }
}

function shed(context: IntakeContext, reason: string, retryAfterS: number): Fault {
  context.metrics.limited(undefined, 'all', 'overload')
  return overloaded(reason, retryAfterS)
}

function overloaded(reason: string, retryAfterS: number): Fault {
  return { kind: 'overloaded', status: 429, detail: `Service overloaded: ${reason}`, reason, retryAfterS }
}
