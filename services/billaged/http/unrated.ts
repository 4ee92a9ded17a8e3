import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import type { UnratedList } from '../api.ts'
import type { CloseContext } from '../close/context.ts'
import { ratingBlockers } from '../close/gate.ts'
import { formatDecimal } from '../decimal.ts'
import { spanView } from '../invoices/view.ts'
import { periodAt } from '../rating/periods.ts'
import { listCustomers } from '../store/customers.ts'
import { pricePeriod } from '../store/pricing.ts'
import { callerOf, mustActFor } from './authorize.ts'
import { isFolded } from './context.ts'
import { limitOfMeasured, parseInput } from './query.ts'

const query = z.object({
  customer: z.string().min(1).max(255).optional(),
  cursor: z.string().max(255).default(''),
  limit: limitOfMeasured,
})

/** What runs up unpriced in the running periods, while there is time to mend it. */
export function unratedRoutes(app: FastifyInstance, o: CloseContext) {
  app.get('/v1/unrated', async (request): Promise<UnratedList> => {
    const { customer, cursor, limit } = parseInput(query, request.query)
    const only = customer ?? callerOf(request).tenant
    if (only !== null) mustActFor(request, only)
    const now = new Date(o.clock.now())
    const complete = await isFolded(o)
    const rows = await listCustomers(o.sql, { after: cursor, limit: limit + 1, only, now })
    const page = rows.slice(0, limit)
    const unrated: UnratedList['unrated'] = []
    for (const row of page) {
      const period = periodAt(row, o.clock.now())
      const priced = await pricePeriod(o.reader, o.meters, o.rules, row.id, period, null)
      const fixes = ratingBlockers(row.id, period, priced)
      for (const { meter, group, quantityE9, unit, planId } of priced.unrated)
        unrated.push({
          customerId: row.id,
          period: spanView(period),
          planId,
          meter,
          group: { ...group },
          quantity: formatDecimal(quantityE9),
          unit,
          fix: fixes.find(({ detail }) => detail.startsWith(`${meter} `))?.fix ?? '',
        })
    }
    return {
      asOf: now.toISOString(),
      complete,
      unrated,
      nextCursor: rows.length > limit ? (page.at(-1)?.id ?? null) : null,
    }
  })
}
