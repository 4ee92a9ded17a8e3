import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { Problem } from '#platform/http'
import { rfc3339 } from '#platform/time'
import type { Customer, CustomerList, Usage, UsageBy } from '../api.ts'
import { badRequest, notFound } from '../errors.ts'
import { hourMs, periodAt } from '../rating/periods.ts'
import type { PlannedSegment } from '../rating/segments.ts'
import { type CustomerRow, ensureCustomer, listCustomers, loadCustomer, updateCustomer } from '../store/customers.ts'
import { loadPolicies } from '../store/pricing.ts'
import { expiredHourOf } from '../store/retention.ts'
import { loadEventUsage, loadVmUsage } from '../store/usage.ts'
import { FactsExpired, loadVmUsageAsOf } from '../store/usage-as-of.ts'
import { ledgerRows, usageRows, type VmUsage } from '../usage/rows.ts'
import { callerOf, mustActFor, mustBeOperator } from './authorize.ts'
import type { ReadContext } from './context.ts'
import { instant, isZone, limit, limitIfAny, paramId, parseInput, wait } from './query.ts'

const usageQuery = z.object({
  from: instant.optional(),
  to: instant.optional(),
  by: z.enum(['meter', 'vm', 'day', 'hour']).default('meter'),
  /** Only this VM: no events, and a ledger of its own. */
  vm: z.string().min(1).max(255).optional(),
  /** What was known then, beside what is known now. */
  asOf: instant.optional(),
  /** VMs of a page, with `by=vm`; without it all of them are in one answer. */
  limit: limitIfAny,
  cursor: z.string().max(255).default(''),
  wait,
})

export const customerBody = z.strictObject({
  name: z.string().min(1).max(200).nullable().optional(),
  timeZone: z.string().refine(isZone, 'is not an IANA time zone such as Europe/Berlin').optional(),
  anchorDay: z.int().min(1).max(31).optional(),
  intervalMonths: z.literal([1, 3, 12], 'must be 1, 3 or 12').optional(),
  taxPpm: z.int().min(0).max(1_000_000).optional(),
  budgetNano: z
    .string()
    .regex(/^[1-9]\d{0,29}$/, 'is not a whole number above 0, written as a string')
    .nullable()
    .optional(),
  taxName: z.string().min(1).max(63).nullable().optional(),
  /** Lines under the name on invoices. */
  address: z.array(z.string().min(1).max(100)).max(6).optional(),
  taxId: z.string().min(1).max(63).nullable().optional(),
})

/** Rows of one answer by time; beyond it, ask for a shorter span or longer rows. */
const spansMax = 1000

export function customerRoutes(app: FastifyInstance, o: ReadContext) {
  app.get('/v1/customers', async (request): Promise<CustomerList> => {
    const query = parseInput(z.object({ cursor: z.string().max(255).default(''), limit }), request.query)
    const rows = await listCustomers(o.sql, {
      after: query.cursor,
      limit: query.limit + 1,
      only: callerOf(request).tenant,
      now: new Date(o.clock.now()),
    })
    const customers = rows.slice(0, query.limit).map(toCustomer)
    return { customers, nextCursor: rows.length > query.limit ? (customers.at(-1)?.id ?? null) : null }
  })

  app.get('/v1/customers/:id', async (request): Promise<Customer> => {
    const id = paramId(request)
    mustActFor(request, id)
    return toCustomer(await mustLoad(o, id))
  })

  app.put('/v1/customers/:id', async (request): Promise<Customer> => {
    const id = paramId(request)
    mustActFor(request, id)
    const patch = parseInput(customerBody, request.body)
    // What is charged and when is not for those who pay.
    const charging = (['anchorDay', 'intervalMonths', 'taxPpm', 'taxName'] as const).filter(name => name in patch)
    if (charging.length > 0) mustBeOperator(request, `set ${charging.join(', ')}`)
    // A customer may have its settings before its first reading.
    if (callerOf(request).tenant === null) {
      if (/\p{Cc}/u.test(id)) throw badRequest('INVALID_FIELD', 'id: has control characters.')
      await ensureCustomer(o.sql, id)
    }
    const before = toCustomer(await mustLoad(o, id))
    if ((await updateCustomer(o.sql, id, patch)) === 'cycle_in_use')
      throw new Problem({
        status: 409,
        reason: 'CYCLE_IN_USE',
        detail: `${id} has invoices by its present anchorDay and intervalMonths; moved edges would bill days twice or never.`,
      })
    const actor = { kind: 'key' as const, name: callerOf(request).name }
    await o.audit({ actor, action: 'customer.update', object: `customer ${id}`, before, after: patch })
    return toCustomer(await mustLoad(o, id))
  })

  app.get('/v1/customers/:id/usage', async (request): Promise<Usage> => {
    const id = paramId(request)
    mustActFor(request, id)
    const query = parseInput(usageQuery, request.query)
    const waited = query.wait > 0 ? await o.isComplete(query.wait) : null
    const customer = await mustLoad(o, id)
    const nowMs = o.clock.now()
    const period = periodAt(customer, nowMs)
    const fromMs = query.from ?? period.from * hourMs
    const toMs = query.to ?? Math.max(nowMs, fromMs + 1)
    if (toMs <= fromMs)
      throw badRequest('INVALID_SPAN', `to (${rfc3339(toMs)}) must be after from (${rfc3339(fromMs)}).`)
    // Whether all is in is asked before anything is read. What does not wait for another's answer is asked together.
    const [policies, expired, isComplete] = await Promise.all([
      loadPolicies(o.reader, id, [fromMs, toMs]),
      expiryOf(o, id, fromMs),
      waited ?? o.isComplete(0),
    ])
    const edgesMs = edgesFor(query.by, fromMs, toMs, policies)
    const edges = edgesMs.map(ms => BigInt(ms) * 1_000_000n)
    const policyOf = (span: number) => policyAt(policies, edgesMs[span] ?? fromMs)
    const complete = expired === null && isComplete
    const hasEvents = query.by !== 'vm' && query.vm === undefined
    const [vms, events] = await Promise.all([
      loadVmUsage(o.reader, id, edges, o.rules, query.vm),
      hasEvents ? loadEventUsage(o.sql, o.meters, id, edges) : [],
    ])
    const then = query.asOf === undefined ? undefined : await knownThen(id, query, edges, nowMs)
    const spans = edgesMs.slice(1).map((to, i) => ({ from: rfc3339(edgesMs[i] ?? to), to: rfc3339(to) }))
    const { page, nextCursor } = pageOfVms(vms, query)
    const shown = new Set(page.map(({ vmId }) => vmId))
    const isOnPage = ({ vmId }: VmUsage) => query.by !== 'vm' || shown.has(vmId)
    const now = { rows: usageRows(query.by, page, events, spans, policyOf), ledger: ledgerRows(vms, policyOf) }
    const head = { customerId: id, from: rfc3339(fromMs), to: rfc3339(toMs), ...nextCursor }
    if (then === undefined || query.asOf === undefined)
      return { ...head, asOf: rfc3339(nowMs), complete, ...(expired ?? {}), ...now }
    return {
      ...head,
      asOf: rfc3339(query.asOf),
      complete,
      rows: usageRows(query.by, then.vms.filter(isOnPage), then.events, spans, policyOf),
      ledger: ledgerRows(then.vms, policyOf),
      now: { asOf: rfc3339(nowMs), ...now },
    }
  })

  async function knownThen(id: string, query: z.output<typeof usageQuery>, edges: readonly bigint[], nowMs: number) {
    const asOfMs = query.asOf ?? nowMs
    if (asOfMs > nowMs) throw badRequest('INVALID_FIELD', 'asOf: lies in the future.')
    if ((await expiryOf(o, id, Number((edges[0] ?? 0n) / 1_000_000n))) !== null) throw factsExpired(id)
    const asOf = new Date(asOfMs)
    const vms = await loadVmUsageAsOf(o.reader, asOf, id, edges, o.rules, query.vm).catch((error: unknown) => {
      throw error instanceof FactsExpired ? factsExpired(id) : error
    })
    const hasEvents = query.by !== 'vm' && query.vm === undefined
    return { vms, events: hasEvents ? await loadEventUsage(o.sql, o.meters, id, edges, asOf) : [] }
  }
}

/** The VMs behind the cursor, in the order of their ids. Sums are of all VMs, whatever the page. */
function pageOfVms(vms: readonly VmUsage[], { by, limit: most, cursor }: z.output<typeof usageQuery>) {
  if (by !== 'vm') return { page: vms, nextCursor: {} }
  const later = vms.filter(({ vmId }) => vmId > cursor).sort((a, b) => (a.vmId < b.vmId ? -1 : 1))
  const page = later.slice(0, most)
  return { page, nextCursor: { nextCursor: page.length < later.length ? (page.at(-1)?.vmId ?? null) : null } }
}

export function factsExpired(id: string): Problem {
  return new Problem({
    status: 409,
    reason: 'FACTS_EXPIRED',
    detail: `The samples or events of ${id} in this span have expired; what was known of it stands in its invoices.`,
  })
}

export async function mustLoad(o: ReadContext, id: string): Promise<CustomerRow> {
  const row = await loadCustomer(o.sql, id, new Date(o.clock.now()))
  if (row === null) throw notFound(`customer ${id}`)
  return row
}

/** What an answer about a span says when usage of it is deleted; null when none is. */
export async function expiryOf(o: ReadContext, id: string, fromMs: number): Promise<{ expiredUntil: string } | null> {
  const expiredMs = (await expiredHourOf(o.sql, id)) * hourMs
  return expiredMs > fromMs ? { expiredUntil: rfc3339(expiredMs) } : null
}

/** Row edges, and the hours at which the gap policy may change: each cell lies under one plan version. */
export function edgesFor(by: UsageBy, fromMs: number, toMs: number, policies: readonly PlannedSegment[]): number[] {
  const edges = new Set([fromMs, toMs])
  const stepMs = by === 'day' ? 24 * hourMs : by === 'hour' ? hourMs : null
  if (stepMs !== null) {
    const count = Math.ceil((toMs - fromMs) / stepMs)
    if (count > spansMax)
      throw badRequest(
        'SPAN_TOO_LONG',
        `by=${by} over this span has ${count} rows of time; at most ${spansMax}. Ask for less.`,
      )
    for (let ms = Math.ceil((fromMs + 1) / stepMs) * stepMs; ms < toMs; ms += stepMs) edges.add(ms)
  }
  for (const { segment } of policies) {
    const ms = segment.from * hourMs
    if (ms > fromMs && ms < toMs) edges.add(ms)
  }
  return [...edges].sort((a, b) => a - b)
}

export function policyAt(policies: readonly PlannedSegment[], ms: number) {
  const hour = Math.floor(ms / hourMs)
  return policies.find(({ segment }) => segment.from <= hour && hour < segment.to)?.version?.gapPolicy ?? 'zero'
}

function toCustomer(row: CustomerRow): Customer {
  return { ...row, firstSeen: row.firstSeen.toISOString() }
}
