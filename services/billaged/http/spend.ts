import type { FastifyInstance, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { rfc3339 } from '#platform/time'
import type { Priced } from '../api.ts'
import { formatDecimal } from '../decimal.ts'
import { badRequest, notFound } from '../errors.ts'
import { hourMs, periodAt } from '../rating/periods.ts'
import type { Hours, Line } from '../rating/rate.ts'
import { loadPlan, type Plan } from '../store/plans.ts'
import { pricePeriod } from '../store/pricing.ts'
import { mustActFor } from './authorize.ts'
import type { ReadContext } from './context.ts'
import { mustLoad } from './customers.ts'
import { paramId, parseInput, wait, wholeHour } from './query.ts'

const previewBody = z.strictObject({
  customerId: z.string().min(1).max(255),
  from: wholeHour.optional(),
  to: wholeHour.optional(),
  planId: z.string().min(1).max(63).optional(),
})

/** Longest span one preview rates. */
const previewHoursMax = 24 * 366

/** What a period costs: the running one so far, or any span, also under another plan. Nothing is stored. */
export function spendRoutes(app: FastifyInstance, o: ReadContext) {
  app.get('/v1/customers/:id/spend', async (request): Promise<Priced> => {
    const id = paramId(request)
    mustActFor(request, id)
    const query = parseInput(z.object({ wait }), request.query)
    if (query.wait > 0) await o.waitUntilFolded(o.acknowledgedEnd(), query.wait)
    const customer = await mustLoad(o, id)
    return price(o, id, periodAt(customer, o.clock.now()), null)
  })

  app.post('/v1/preview', async (request: FastifyRequest): Promise<Priced> => {
    const body = parseInput(previewBody, request.body)
    mustActFor(request, body.customerId)
    const running = periodAt(await mustLoad(o, body.customerId), o.clock.now())
    const hour = (ms: number | undefined, otherwise: number) => (ms === undefined ? otherwise : ms / hourMs)
    const period = { from: hour(body.from, running.from), to: hour(body.to, running.to) }
    if (period.to <= period.from) throw badRequest('INVALID_SPAN', 'to must be after from.')
    if (period.to - period.from > previewHoursMax)
      throw badRequest('SPAN_TOO_LONG', `The span has ${period.to - period.from} hours; at most ${previewHoursMax}.`)
    const plan = body.planId === undefined ? null : await loadPlan(o.sql, body.planId)
    if (body.planId !== undefined && plan === null) throw notFound(`plan ${body.planId}`)
    return price(o, body.customerId, period, plan)
  })
}

async function price(o: ReadContext, customerId: string, period: Hours, plan: Plan | null): Promise<Priced> {
  const nowMs = o.clock.now()
  const complete = await o.isComplete()
  const priced = await pricePeriod(o.reader, o.meters, o.rules, customerId, period, plan)
  return {
    customerId,
    planId: priced.planId,
    currency: priced.currency,
    from: rfc3339(period.from * hourMs),
    to: rfc3339(period.to * hourMs),
    asOf: rfc3339(nowMs),
    complete,
    totalNano: `${priced.totalNano}`,
    lines: priced.lines.map(toLine),
    unrated: priced.unrated.map(({ meter, group, quantityE9, unit }) => ({
      meter,
      group: { ...group },
      quantity: formatDecimal(quantityE9),
      unit,
    })),
  }
}

function toLine(line: Line): Priced['lines'][number] {
  return {
    kind: line.kind,
    priceId: line.priceId,
    meter: line.meter,
    model: line.model,
    group: { ...line.group },
    segment: { from: rfc3339(line.segment.from * hourMs), to: rfc3339(line.segment.to * hourMs) },
    quantity: formatDecimal(line.quantityE9),
    freeQuantity: formatDecimal(line.freeE9),
    tiers: line.tiers.map(({ tier, upTo, quantityE9, amountNano, flatNano }) => ({
      tier,
      upTo: upTo === null ? null : `${upTo}`,
      quantity: formatDecimal(quantityE9),
      amountNano: `${amountNano}`,
      flatNano: `${flatNano}`,
    })),
    amountNano: `${line.amountNano}`,
    dividend: `${line.dividend}`,
    divisor: `${line.divisor}`,
    remainder: `${line.remainder}`,
  }
}
