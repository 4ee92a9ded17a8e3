import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { formatUsd } from '#platform/money'
import { rfc3339 } from '#platform/time'
import type { Comparison, Priced, Spend } from '../api.ts'
import { formatDecimal } from '../decimal.ts'
import { badRequest, notFound } from '../errors.ts'
import { csvCell } from '../invoices/escape.ts'
import { hourMs, periodAt } from '../rating/periods.ts'
import { versionSchema } from '../rating/plan.ts'
import type { Hours, Line } from '../rating/rate.ts'
import { type CustomerRow, listCustomers } from '../store/customers.ts'
import { forecastBand } from '../store/forecast-band.ts'
import { loadPlan, type Plan } from '../store/plans.ts'
import { forecastPeriod, type PricedPeriod, pricePeriod } from '../store/pricing.ts'
import { mustActFor, mustBeOperator } from './authorize.ts'
import type { ReadContext } from './context.ts'
import { expiryOf, mustLoad } from './customers.ts'
import { paramId, parseInput, wait, wholeHour } from './query.ts'

const span = { from: wholeHour.optional(), to: wholeHour.optional() }
const otherPlan = {
  planId: z.string().min(1).max(63).optional(),
  /** A version that is not stored: what the plan editor shows beside itself. */
  version: versionSchema.optional(),
  currency: z
    .string()
    .regex(/^[A-Z]{3}$/, 'is not an ISO 4217 code such as USD')
    .default('USD'),
}
const spendQuery = z.object({ wait, band: z.enum(['true', 'false']).default('false') })
export const previewBody = z.strictObject({ customerId: z.string().min(1).max(255), ...span, ...otherPlan })
export const whatIfBody = z.strictObject({
  customers: z.array(z.string().min(1).max(255)).min(1).max(1000).optional(),
  cursor: z.string().max(255).default(''),
  limit: z.int().min(1).max(1000).default(100),
  format: z.enum(['json', 'csv']).default('json'),
  ...span,
  ...otherPlan,
})

/** Longest span one preview rates. */
const previewHoursMax = 24 * 366

/** What a period costs: the running one so far, or any span, also under another plan. Nothing is stored. */
export function spendRoutes(app: FastifyInstance, o: ReadContext) {
  app.get('/v1/customers/:id/spend', async (request): Promise<Spend> => {
    const id = paramId(request)
    mustActFor(request, id)
    const query = parseInput(spendQuery, request.query)
    const complete = await o.isComplete(query.wait)
    const customer = await mustLoad(o, id)
    const [period, nowMs] = [periodAt(customer, o.clock.now()), o.clock.now()]
    const forecast = await forecastPeriod(o.reader, o.meters, o.rules, id, period, nowMs)
    const band =
      query.band === 'true' ? await forecastBand(o.reader, o.meters, o.rules, id, forecast, nowMs) : undefined
    return {
      ...pricedView(id, period, forecast.priced, nowMs, complete),
      forecastNano: `${forecast.forecastNano}`,
      ...(band === undefined ? {} : bandView(band)),
      budgetNano: customer.budgetNano,
    }
  })

  app.post('/v1/preview', async (request: FastifyRequest, reply): Promise<Priced | Comparison> => {
    const isOfOne = typeof request.body === 'object' && request.body !== null && 'customerId' in request.body
    if (!isOfOne) return compare(request, reply)
    const body = parseInput(previewBody, request.body)
    mustActFor(request, body.customerId)
    const customer = await mustLoad(o, body.customerId)
    return price(o, customer.id, periodOf(body, periodAt(customer, o.clock.now())), await planOf(o, body))
  })

  // What if plan B: each customer under its own plan and under the other one.
  app.post('/v1/preview/compare', compare)

  async function compare(request: FastifyRequest, reply: FastifyReply) {
    mustBeOperator(request)
    const body = parseInput(whatIfBody, request.body)
    const plan = await planOf(o, body)
    if (plan === null) throw badRequest('INVALID_FIELD', 'planId or version: one of them says what to compare with.')
    const { customers, nextCursor } = await customersOf(o, body)
    const rows: Comparison['rows'] = []
    for (const customer of customers) {
      const period = periodOf(body, periodAt(customer, o.clock.now()))
      const [now, then] = [await price(o, customer.id, period, null), await price(o, customer.id, period, plan)]
      const isComparable = now.planId === null || now.currency === then.currency
      rows.push({
        customerId: customer.id,
        from: now.from,
        to: now.to,
        planId: now.planId,
        currency: then.currency,
        nowNano: now.totalNano,
        thenNano: then.totalNano,
        differenceNano: isComparable ? `${BigInt(then.totalNano) - BigInt(now.totalNano)}` : null,
        unrated: then.unrated.map(({ meter }) => meter),
      })
    }
    if (body.format === 'csv') return reply.type('text/csv; charset=utf-8').send(comparisonCsv(rows))
    return reply.send(summarise(rows, nextCursor))
  }
}

function bandView(band: { lowNano: bigint; highNano: bigint } | null) {
  return {
    forecastLowNano: band === null ? null : `${band.lowNano}`,
    forecastHighNano: band === null ? null : `${band.highNano}`,
  }
}

function periodOf(body: { from?: number | undefined; to?: number | undefined }, running: Hours): Hours {
  const hour = (ms: number | undefined, otherwise: number) => (ms === undefined ? otherwise : ms / hourMs)
  const period = { from: hour(body.from, running.from), to: hour(body.to, running.to) }
  if (period.to <= period.from) throw badRequest('INVALID_SPAN', 'to must be after from.')
  if (period.to - period.from > previewHoursMax)
    throw badRequest('SPAN_TOO_LONG', `The span has ${period.to - period.from} hours; at most ${previewHoursMax}.`)
  return period
}

async function planOf(
  o: ReadContext,
  body: z.output<typeof previewBody> | z.output<typeof whatIfBody>,
): Promise<Plan | null> {
  if (body.version !== undefined)
    return { id: 'preview', name: 'Preview', currency: body.currency, versions: [{ ...body.version, version: 0 }] }
  if (body.planId === undefined) return null
  const plan = await loadPlan(o.sql, body.planId)
  if (plan === null) throw notFound(`plan ${body.planId}`)
  return plan
}

async function customersOf(o: ReadContext, body: z.output<typeof whatIfBody>) {
  const now = new Date(o.clock.now())
  if (body.customers !== undefined) {
    const customers: CustomerRow[] = []
    for (const id of new Set(body.customers)) customers.push(await mustLoad(o, id))
    return { customers, nextCursor: null }
  }
  const rows = await listCustomers(o.sql, { after: body.cursor, limit: body.limit + 1, only: null, now })
  const customers = rows.slice(0, body.limit)
  return { customers, nextCursor: rows.length > body.limit ? (customers.at(-1)?.id ?? null) : null }
}

function summarise(rows: Comparison['rows'], nextCursor: string | null): Comparison {
  const of = (isWanted: (difference: bigint) => boolean) =>
    rows.filter(row => row.differenceNano !== null && isWanted(BigInt(row.differenceNano))).map(row => row.customerId)
  return { rows, payLess: of(n => n < 0n), payMore: of(n => n > 0n), nextCursor }
}

function comparisonCsv(rows: Comparison['rows']): string {
  const head = ['customer', 'from', 'to', 'plan', 'currency', 'now', 'then', 'difference', 'unrated']
  const amount = (nano: string | null) => (nano === null ? '' : formatUsd(BigInt(nano)))
  const lines = rows.map(row => [
    row.customerId,
    row.from,
    row.to,
    row.planId ?? '',
    row.currency,
    amount(row.nowNano),
    amount(row.thenNano),
    amount(row.differenceNano),
    row.unrated.join(' '),
  ])
  return [head, ...lines].map(cells => `${cells.map(csvCell).join()}\r\n`).join('')
}

async function price(o: ReadContext, customerId: string, period: Hours, plan: Plan | null): Promise<Priced> {
  const nowMs = o.clock.now()
  const expired = await expiryOf(o, customerId, period.from * hourMs)
  const complete = expired === null && (await o.isComplete(0))
  const priced = await pricePeriod(o.reader, o.meters, o.rules, customerId, period, plan)
  return { ...pricedView(customerId, period, priced, nowMs, complete), ...(expired ?? {}) }
}

function pricedView(customerId: string, period: Hours, priced: PricedPeriod, nowMs: number, complete: boolean): Priced {
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
