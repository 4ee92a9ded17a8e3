import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Problem } from '#platform/http'
import { isUnavailable } from '#platform/postgres'
import { exactJsonDecoder } from '#platform/rpc/exact-numbers'
import { type Clock, nowNs } from '#platform/time'
import { actsFor } from '../access.ts'
import { badRequest, notAcknowledgedProblem } from '../errors.ts'
import { customerOf, eventLimits, InvalidEvent, parseEvent, type UsageEvent } from '../events/cloud-event.ts'
import { type Intake, NotAcknowledged } from '../intake/intake.ts'
import { describeAside, eventFacts } from '../intake/validate.ts'
import { callerOf } from './authorize.ts'

const bodyBytesMax = 32 * 1024 * 1024

/** `POST /api/v1/events`: CloudEvents 1.0 over HTTP, structured, batched or binary, and plain JSON. 204 when durable. */
export function eventRoutes(
  app: FastifyInstance,
  o: {
    intake: Intake
    clock: Clock
    maxFutureMs: number
    maxPastMs: number
    /** Which of these subjects are mapped, and to whom. */
    customersOf(subjects: readonly string[]): Promise<ReadonlyMap<string, string>>
  },
) {
  app.register(async scope => {
    // Raw bytes: Fastify's own parser would round long numbers.
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('*', { parseAs: 'buffer', bodyLimit: bodyBytesMax }, (_, body, done) => done(null, body))
    scope.post('/api/v1/events', { bodyLimit: bodyBytesMax }, async (request, reply) => {
      const receivedNs = nowNs(o.clock)
      const events = readEvents(request, receivedNs)
      await mustBeOwn(request, events, o.customersOf)
      const window = {
        nowNs: receivedNs,
        maxFutureNs: BigInt(o.maxFutureMs) * 1_000_000n,
        maxPastNs: BigInt(o.maxPastMs) * 1_000_000n,
      }
      const { facts, accepted, aside } = eventFacts(events, window)
      if (facts.length > 0) await acknowledged(o.intake, facts)
      o.intake.countEvents(accepted, aside)
      reply.header('billaged-accepted', accepted)
      if (aside.size > 0) reply.header('billaged-set-aside', describeAside(aside))
      return reply.code(204).send()
    })
  })
}

async function acknowledged(intake: Intake, facts: Parameters<Intake['acknowledge']>[0]) {
  try {
    await intake.acknowledge(facts)
  } catch (error) {
    throw error instanceof NotAcknowledged ? notAcknowledgedProblem(error.why) : error
  }
}

/** All of a batch or nothing: the first thing wrong refuses it, naming its index and field. */
function readEvents(request: FastifyRequest, receivedNs: bigint): UsageEvent[] {
  const encoding = request.headers['content-encoding'] ?? 'identity'
  if (encoding !== 'identity') throw unsupported(`Content-Encoding ${encoding}`)
  const type = (request.headers['content-type'] ?? '').split(';')[0]?.trim().toLowerCase() ?? ''
  const isBinary = 'ce-id' in request.headers || 'ce-specversion' in request.headers
  try {
    if (isBinary && !type.startsWith('application/cloudevents')) {
      const hasData = Buffer.isBuffer(request.body) && request.body.length > 0
      if (hasData && !isJson(type))
        throw unsupported(`binary mode with ${type || 'no Content-Type'}; its data must be JSON`)
      const data = hasData ? parseBody(request) : undefined
      return [parseEvent({ ...binaryAttributes(request), data }, '', receivedNs)]
    }
    switch (type) {
      case 'application/cloudevents+json':
        return [parseEvent(parseBody(request), '', receivedNs)]
      case 'application/cloudevents-batch+json':
        return parseBatch(parseBody(request), receivedNs)
      case 'application/json': {
        const body = parseBody(request)
        return Array.isArray(body) ? parseBatch(body, receivedNs) : [parseEvent(body, '', receivedNs)]
      }
      default:
        throw unsupported(type === '' ? 'no Content-Type' : type)
    }
  } catch (error) {
    if (error instanceof InvalidEvent) throw badRequest('INVALID_EVENT', error.message)
    throw error
  }
}

function parseBatch(body: unknown, receivedNs: bigint): UsageEvent[] {
  if (!Array.isArray(body)) throw new InvalidEvent('the batch is not an array of events')
  if (body.length > eventLimits.batchMax)
    throw new Problem({
      status: 413,
      reason: 'BATCH_TOO_LARGE',
      detail: `The batch has ${body.length} events; at most ${eventLimits.batchMax} are taken at once.`,
    })
  return body.map((value: unknown, i) => parseEvent(value, `[${i}]`, receivedNs))
}

function parseBody(request: FastifyRequest): unknown {
  if (!Buffer.isBuffer(request.body))
    throw badRequest('INVALID_JSON', 'The body is empty; send an event or an array of them.')
  try {
    return JSON.parse(exactJsonDecoder.decode(request.body))
  } catch (error) {
    throw badRequest('INVALID_JSON', `The body is not valid JSON: ${error instanceof Error ? error.message : ''}`)
  }
}

/** The attributes of binary mode: `ce-` headers, percent-encoded where a header cannot hold them. */
function binaryAttributes(request: FastifyRequest): Record<string, string> {
  const attributes: Record<string, string> = {}
  for (const [name, value] of Object.entries(request.headers)) {
    if (!name.startsWith('ce-') || typeof value !== 'string') continue
    try {
      attributes[name.slice(3)] = decodeURIComponent(value)
    } catch {
      throw new InvalidEvent(`header ${name} is not valid percent-encoded UTF-8`)
    }
  }
  return attributes
}

function isJson(type: string): boolean {
  return type === 'application/json' || type.endsWith('+json')
}

async function mustBeOwn(
  request: FastifyRequest,
  events: readonly UsageEvent[],
  customersOf: (subjects: readonly string[]) => Promise<ReadonlyMap<string, string>>,
) {
  const caller = callerOf(request)
  if (caller.tenant === null) return
  const isPlainlyOwn = (event: UsageEvent) => {
    const customerId = customerOf(event)
    return customerId !== null && actsFor(caller, customerId)
  }
  const others = new Set(events.filter(event => !isPlainlyOwn(event)).map(event => event.subject ?? ''))
  // The database is only asked about names that are not the tenant's own.
  const mapped = others.size === 0 ? new Map<string, string>() : await mappedOf(customersOf, [...others])
  for (const [i, event] of events.entries()) {
    if (isPlainlyOwn(event) || mapped.get(event.subject ?? '') === caller.tenant) continue
    throw new Problem({
      status: 403,
      reason: 'KEY_OF_ANOTHER_TENANT',
      detail: `[${i}].subject: this key may send events of ${caller.tenant} only, this one is for ${customerOf(event) ?? 'nobody'}.`,
    })
  }
}

async function mappedOf(
  customersOf: (subjects: readonly string[]) => Promise<ReadonlyMap<string, string>>,
  subjects: readonly string[],
) {
  try {
    return await customersOf(subjects)
  } catch (error) {
    if (!isUnavailable(error)) throw error
    throw notAcknowledgedProblem({
      reason: 'DATABASE_AWAY',
      message: 'Whose subjects these are cannot be asked while the database is away; nothing was stored, try again.',
      retryAfterS: 5,
    })
  }
}

function unsupported(what: string): Problem {
  return new Problem({
    status: 415,
    reason: 'UNSUPPORTED_MEDIA_TYPE',
    detail: `${what} is not taken here; send application/cloudevents+json, application/cloudevents-batch+json, application/json, or ce-* headers with JSON data.`,
  })
}
