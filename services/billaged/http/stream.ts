import type { ServerResponse } from 'node:http'
import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { Problem } from '#platform/http'
import { badRequest } from '../errors.ts'
import { type CostEvent, type CostHub, readersMax, readersPerCustomerMax } from '../stream/costs.ts'
import { callerOf, mustActFor } from './authorize.ts'
import type { ReadContext } from './context.ts'
import { mustLoad } from './customers.ts'
import { parseInput } from './query.ts'

const commentEveryMs = 15_000
/** Of one reader's answers, waiting for its socket; beyond it only the newest cost waits. */
const unsentBytesMax = 256 * 1024
/** Gaps of so many VMs wait for a slow reader, the newest of each. */
const gapsMax = 1_000

/** `GET /v1/stream/costs?customer=`: events cost, alert and gap as they happen, a comment every 15 s. */
export function streamRoutes(app: FastifyInstance, o: ReadContext & { costs: CostHub }) {
  // HEAD would wait for ever.
  app.get('/v1/stream/costs', { exposeHeadRoute: false }, async (request, reply) => {
    const query = parseInput(
      z.object({
        customer: z.string().min(1).max(255).optional(),
        lastEventId: z.string().max(20).optional(),
      }),
      request.query,
    )
    const customerId = query.customer ?? callerOf(request).tenant
    if (customerId === null) throw badRequest('INVALID_FIELD', 'customer: is required; it names whose costs to stream.')
    mustActFor(request, customerId)
    await mustLoad(o, customerId)
    const header = request.headers['last-event-id']
    openCostStream(app, reply.raw, {
      costs: o.costs,
      customerId,
      lastEventId: typeof header === 'string' && header !== '' ? header : query.lastEventId,
      // Only now: until here a refusal could be sent.
      begin: () => reply.hijack(),
      requestId: request.id,
    })
    return reply
  })
}

/** Throws, with nothing sent, when there are too many readers. */
export function openCostStream(
  app: FastifyInstance,
  response: ServerResponse,
  o: { costs: CostHub; customerId: string; lastEventId: string | undefined; begin: () => void; requestId: string },
) {
  const after = o.lastEventId !== undefined && /^\d{1,18}$/.test(o.lastEventId) ? BigInt(o.lastEventId) : null
  const writer = conflating(response)
  const unsubscribe = o.costs.subscribe(o.customerId, after, writer.write)
  if (unsubscribe === null)
    throw new Problem({
      status: 429,
      reason: 'TOO_MANY_STREAMS',
      detail: `A customer's costs have ${readersPerCustomerMax} readers at most, this replica ${readersMax}; close one first.`,
      headers: { 'retry-after': '10' },
    })
  o.begin()
  const comment = setInterval(() => writer.comment(), commentEveryMs)
  const end = () => response.end()
  app.openStreams.add(end)
  response.once('close', () => {
    clearInterval(comment)
    unsubscribe()
    app.openStreams.delete(end)
  })
  response.writeHead(200, {
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-store',
    // Proxies that buffer would make a live stream anything but.
    'x-accel-buffering': 'no',
    'x-request-id': o.requestId,
  })
  writer.open()
}

/** A reader that does not keep up gets the newest cost and the newest gap of each VM; alerts are never left out. */
function conflating(response: ServerResponse) {
  let isOpen = false
  let cost: CostEvent | null = null
  const gaps = new Map<string, CostEvent>()
  const alerts: CostEvent[] = []
  const isFull = () => !isOpen || response.writableLength > unsentBytesMax
  const flush = () => {
    if (response.writableEnded || response.destroyed) return
    for (let alert = alerts[0]; alert !== undefined && !isFull(); alert = alerts[0]) {
      response.write(textOf(alert))
      alerts.shift()
    }
    for (const [key, gap] of gaps) {
      if (isFull()) return
      response.write(textOf(gap))
      gaps.delete(key)
    }
    if (cost === null || isFull()) return
    response.write(textOf(cost))
    cost = null
  }
  response.on('drain', flush)
  return {
    write(event: CostEvent) {
      if (event.event === 'cost') cost = event
      else if (event.event === 'alert') alerts.push(event)
      else if (gaps.size < gapsMax) gaps.set(keyOf(event), event)
      flush()
    },
    comment() {
      if (!isFull() && !response.writableEnded) response.write(': still here\n\n')
    },
    open() {
      isOpen = true
      // Something must go out, or the reader does not learn that it is connected.
      response.write(': connected\nretry: 2000\n\n')
      flush()
    },
  }
}

function keyOf({ data }: CostEvent): string {
  return typeof data === 'object' && data !== null && 'vmId' in data ? String(data.vmId) : ''
}

function textOf({ event, id, data }: CostEvent): string {
  return `id: ${id}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`
}
