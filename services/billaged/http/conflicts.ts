import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { rfc3339 } from '#platform/time'
import type { Conflicts } from '../api.ts'
import { badRequest } from '../errors.ts'
import { hourMs, periodAt } from '../rating/periods.ts'
import {
  type EventConflict,
  listEventConflicts,
  listVms,
  loadSampleConflicts,
  type VmName,
} from '../store/conflicts.ts'
import { mustBeOperator } from './authorize.ts'
import type { ReadContext } from './context.ts'
import { cursorTo, encodeCursor } from './cursor.ts'
import { mustLoad } from './customers.ts'
import { timeOf } from './meters.ts'
import { instant, limit, parseInput, wait } from './query.ts'

/** Where the page before ended: among the events, or among the VMs behind them. */
const place = z.union([
  z.strictObject({ atNs: z.string().regex(/^-?\d{1,19}$/), source: z.string(), id: z.string() }),
  z.strictObject({ customerId: z.string(), vmId: z.string() }),
])
const conflictQuery = z.object({
  customer: z.string().min(1).max(255).optional(),
  from: instant.optional(),
  to: instant.optional(),
  cursor: cursorTo(place),
  limit,
  wait,
})

/** Every reading of a VM is looked at. */
const vmsPerPage = 100
const spanMsMax = 93 * 86_400_000
/** Of all customers at once, unless the span is given. */
const newsMs = 7 * 86_400_000
/** Instants named of one VM; its own page has them all. */
const instantsMax = 20

/** What was said twice and differently, by one customer or by all. All of it is kept; the bill takes what charges least. */
export function conflictRoutes(app: FastifyInstance, o: ReadContext) {
  app.get('/v1/conflicts', async (request): Promise<Conflicts> => {
    mustBeOperator(request)
    const query = parseInput(conflictQuery, request.query)
    const complete = await o.isComplete(query.wait)
    const customer = query.customer === undefined ? null : await mustLoad(o, query.customer)
    const nowMs = o.clock.now()
    const fromMs = query.from ?? (customer === null ? nowMs - newsMs : periodAt(customer, nowMs).from * hourMs)
    const toMs = query.to ?? Math.max(nowMs, fromMs + 1)
    if (toMs <= fromMs) throw badRequest('INVALID_SPAN', 'to must be after from.')
    if (toMs - fromMs > spanMsMax)
      throw badRequest('SPAN_TOO_LONG', `The span is longer than ${spanMsMax / 86_400_000} days; ask for less.`)
    const span = { customerId: customer?.id ?? null, fromNs: ns(fromMs), toNs: ns(toMs) }
    const after = query.cursor
    const events = after !== null && 'vmId' in after ? [] : await eventsFrom(span, after, query.limit)
    const isFull = events.length > query.limit
    const vms = isFull
      ? { conflicts: [], next: null }
      : await vmsFrom(span, after !== null && 'vmId' in after ? after : null)
    const page = events.slice(0, query.limit)
    const last = isFull ? page.at(-1) : undefined
    return {
      customerId: span.customerId,
      from: rfc3339(fromMs),
      to: rfc3339(toMs),
      asOf: rfc3339(nowMs),
      complete,
      events: page.map(toView),
      vms: vms.conflicts,
      nextCursor:
        last !== undefined
          ? encodeCursor({ atNs: `${last.atNs}`, source: last.source, id: last.id })
          : vms.next === null
            ? null
            : encodeCursor(vms.next),
    }
  })

  type Span = Pick<Parameters<typeof listVms>[1], 'customerId' | 'fromNs' | 'toNs'>

  function eventsFrom(span: Span, after: { atNs: string; source: string; id: string } | null, most: number) {
    const place = after === null ? null : { ...after, atNs: BigInt(after.atNs) }
    return listEventConflicts(o.sql, { ...span, after: place, limit: most + 1 })
  }

  async function vmsFrom(span: Span, after: VmName | null) {
    const found = await listVms(o.sql, { ...span, after, limit: vmsPerPage + 1 })
    const looked = found.slice(0, vmsPerPage)
    const conflicts: Conflicts['vms'] = []
    const nowNs = ns(o.clock.now())
    for (const vm of looked) {
      const instants = await loadSampleConflicts(o.reader, { ...span, ...vm, nowNs, rules: o.rules })
      if (instants.length > 0)
        conflicts.push({
          ...vm,
          conflicts: instants.length,
          at: instants.slice(-instantsMax).map(atNs => timeOf(atNs) ?? ''),
        })
    }
    return { conflicts, next: found.length > vmsPerPage ? (looked.at(-1) ?? null) : null }
  }
}

function toView({ atNs, receivedAt, isVoid, ...event }: EventConflict): Conflicts['events'][number] {
  return { ...event, at: timeOf(atNs) ?? '', receivedAt: receivedAt.toISOString(), voided: isVoid }
}

function ns(ms: number): bigint {
  return BigInt(ms) * 1_000_000n
}
