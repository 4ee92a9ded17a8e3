import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { Problem } from '#platform/http'
import { rfc3339 } from '#platform/time'
import type { CreditView, OutageList, OutageView } from '../api.ts'
import type { CloseContext } from '../close/context.ts'
import { badRequest, notFound } from '../errors.ts'
import { grantId } from '../invoices/ids.ts'
import { spanView } from '../invoices/view.ts'
import { hourMs, monthOf, periodAt, periodStartingIn } from '../rating/periods.ts'
import type { Hours } from '../rating/rate.ts'
import type { CreditGrant } from '../store/credits.ts'
import { type CustomerRow, listCustomers, loadCustomer } from '../store/customers.ts'
import { leftToCredit, loadOutage } from '../store/outages.ts'
import { mustBeOperator } from './authorize.ts'
import { month } from './close.ts'
import type { ReadContext } from './context.ts'
import { grantCredit } from './credits.ts'
import { limitOfMeasured, parseInput } from './query.ts'

/** VMs named of one customer, those longest down; the sums are of all. */
const vmsMax = 100

const query = z.object({
  customer: z.string().min(1).max(255).optional(),
  /** The month in which the periods start; without it the running ones. */
  period: month.optional(),
  cursor: z.string().max(255).default(''),
  limit: limitOfMeasured,
})

export const outageCreditBody = z.strictObject({
  customerId: z.string().min(1).max(255),
  period: month,
  kind: z.enum(['promotional', 'prepaid']).default('promotional'),
})

/** Time that hosts were down, at list price: a list for operators, and a credit for what is not credited yet. */
export function outageRoutes(app: FastifyInstance, o: CloseContext & Pick<ReadContext, 'isComplete'>) {
  app.get('/v1/outages', async (request): Promise<OutageList> => {
    mustBeOperator(request, 'list outages')
    const { customer, period, cursor, limit } = parseInput(query, request.query)
    const nowMs = o.clock.now()
    const complete = await o.isComplete(0)
    const only = customer ?? null
    const rows = await listCustomers(o.sql, { after: cursor, limit: limit + 1, only, now: new Date(nowMs) })
    const page = rows.slice(0, limit)
    const outages: OutageView[] = []
    for (const row of page) {
      const span = period === undefined ? periodAt(row, nowMs) : periodStartingIn(row, period)
      if (span === null) continue
      const view = await outageOf(row, span)
      if (view.hostDownNs !== '0' || view.creditedNano !== '0') outages.push(view)
    }
    const nextCursor = rows.length > limit ? (page.at(-1)?.id ?? null) : null
    return { asOf: rfc3339(nowMs), complete, outages, nextCursor }
  })

  app.post('/v1/outages/credit', async (request, reply): Promise<CreditView> => {
    mustBeOperator(request, 'credit outages')
    const body = parseInput(outageCreditBody, request.body)
    const createdMs = o.clock.now()
    const customer = await loadCustomer(o.sql, body.customerId, new Date(createdMs))
    if (customer === null) throw notFound(`customer ${body.customerId}`)
    const period = periodStartingIn(customer, body.period)
    if (period === null)
      throw badRequest('INVALID_SPAN', `No period of ${customer.id} starts in ${body.period}; see its intervalMonths.`)
    const outage = await loadOutage(o.reader, o.rules, customer.id, period)
    const amountNano = leftToCredit(outage)
    if (amountNano === 0n)
      throw new Problem({
        status: 409,
        reason: 'NOTHING_TO_CREDIT',
        detail: `The outages of ${customer.id} in ${body.period} are worth ${outage.worthNano} nano-units, and ${outage.creditedNano} are credited; POST /v1/credits grants more.`,
      })
    const grant: CreditGrant = {
      // Of what was credited before it: whoever presses twice at once finds the first one.
      id: grantId(customer.id, `outage ${period.from} ${outage.creditedNano}`),
      customerId: customer.id,
      kind: body.kind,
      currency: outage.currency,
      amountNano,
      leftNano: amountNano,
      priority: 100,
      fromMs: createdMs,
      expiresMs: null,
      createdMs,
      note: `Outages of ${monthOf(period)}: ${secondsOf(outage.hostDownNs)} s of ${outage.vms.length} VMs with their host down`,
      sourceInvoiceId: null,
      outageFromMs: period.from * hourMs,
    }
    // Somebody else may have been quicker, and have measured something else: then that is answered.
    return grantCredit(o, request, reply, grant)
  })

  async function outageOf(customer: CustomerRow, period: Hours): Promise<OutageView> {
    const outage = await loadOutage(o.reader, o.rules, customer.id, period)
    const { planId, currency, hostDownNs, worthNano, creditedNano, vms } = outage
    return {
      customerId: customer.id,
      period: spanView(period),
      planId,
      currency,
      hostDownNs: `${hostDownNs}`,
      worthNano: `${worthNano}`,
      creditedNano: `${creditedNano}`,
      leftNano: `${leftToCredit(outage)}`,
      vmCount: vms.length,
      vms: vms.slice(0, vmsMax).map(vm => ({
        vmId: vm.vmId,
        hostDownNs: `${vm.hostDownNs}`,
        measuredNs: `${vm.measuredNs}`,
        worthNano: `${vm.worthNano}`,
      })),
    }
  }
}

function secondsOf(ns: bigint): bigint {
  return ns / 1_000_000_000n
}
