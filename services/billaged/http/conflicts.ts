import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { rfc3339 } from '#platform/time'
import type { Conflicts } from '../api.ts'
import { badRequest } from '../errors.ts'
import { hourMs, periodAt } from '../rating/periods.ts'
import { listEventConflicts, loadSampleConflicts } from '../store/conflicts.ts'
import { mustBeOperator } from './authorize.ts'
import type { ReadContext } from './context.ts'
import { mustLoad } from './customers.ts'
import { timeOf } from './meters.ts'
import { instant, limit, parseInput, wait } from './query.ts'

const conflictQuery = z.object({
  customer: z.string({ error: 'is required; it names whose conflicts to list' }).min(1).max(255),
  from: instant.optional(),
  to: instant.optional(),
  limit,
  wait,
})

/** Every reading of every VM is looked at; a customer with more of them is asked VM by VM. */
const vmsMax = 500
const spanMsMax = 93 * 86_400_000
/** Instants named of one VM; its own page has them all. */
const instantsMax = 20

/** What was said twice and differently. All of it is kept; the bill takes what charges least. */
export function conflictRoutes(app: FastifyInstance, o: ReadContext) {
  app.get('/v1/conflicts', async (request): Promise<Conflicts> => {
    mustBeOperator(request)
    const query = parseInput(conflictQuery, request.query)
    if (query.wait > 0) await o.waitUntilFolded(o.acknowledgedEnd(), query.wait)
    const customer = await mustLoad(o, query.customer)
    const nowMs = o.clock.now()
    const fromMs = query.from ?? periodAt(customer, nowMs).from * hourMs
    const toMs = query.to ?? Math.max(nowMs, fromMs + 1)
    if (toMs <= fromMs) throw badRequest('INVALID_SPAN', 'to must be after from.')
    if (toMs - fromMs > spanMsMax)
      throw badRequest('SPAN_TOO_LONG', `The span is longer than ${spanMsMax / 86_400_000} days; ask for less.`)
    const ns = (ms: number) => BigInt(ms) * 1_000_000n
    const span = { customerId: customer.id, fromNs: ns(fromMs), toNs: ns(toMs) }
    const complete = await o.isComplete()
    const events = await listEventConflicts(o.sql, { ...span, limit: query.limit })
    const vms = await loadSampleConflicts(o.reader, { ...span, nowNs: ns(nowMs), rules: o.rules, vmsMax })
    return {
      customerId: customer.id,
      from: rfc3339(fromMs),
      to: rfc3339(toMs),
      asOf: rfc3339(nowMs),
      complete,
      events: events.map(({ atNs, receivedAt, isVoid, ...event }) => ({
        ...event,
        at: timeOf(atNs) ?? '',
        receivedAt: receivedAt.toISOString(),
        voided: isVoid,
      })),
      vms: vms.map(({ vmId, instants }) => ({
        vmId,
        conflicts: instants.length,
        at: instants.slice(-instantsMax).map(atNs => timeOf(atNs) ?? ''),
      })),
    }
  })
}
