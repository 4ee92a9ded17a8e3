import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import type { Invoice, Reconciliation } from '../api.ts'
import { draftNow } from '../close/close.ts'
import type { CloseContext } from '../close/context.ts'
import { parseDecimal } from '../decimal.ts'
import { type OwnPeriod, reconcile } from '../invoices/reconcile.ts'
import { periodStartingIn } from '../rating/periods.ts'
import { loadCustomer } from '../store/customers.ts'
import { loadDocument, loadLiving } from '../store/invoices.ts'
import { mustBeOperator } from './authorize.ts'
import { month } from './close.ts'
import { parseInput } from './query.ts'

/** Each customer and month of theirs is an invoice of ours to read, or to work out when it is not closed. */
const periodsMax = 500

const decimal = z
  .string()
  .max(60)
  .transform((text, context) => {
    const value = parseDecimal(text)
    if (value !== null) return value
    context.addIssue({ code: 'custom', message: 'is not a plain decimal with up to 9 digits behind the point' })
    return z.NEVER
  })
export const reconcileBody = z.strictObject({
  toleranceNano: z
    .string()
    .regex(/^\d{1,18}$/, 'is not a whole number of nano-units, written as a string')
    .default('0')
    .transform(BigInt),
  rows: z
    .array(
      z.strictObject({
        customerId: z.string().min(1).max(255),
        period: month,
        item: z.string().min(1).max(255).nullable().default(null),
        quantity: decimal.nullable().default(null),
        amount: decimal,
      }),
    )
    .min(1)
    .max(20_000),
})

/** Another biller's figures beside ours. Nothing is stored. */
export function reconcileRoutes(app: FastifyInstance, o: CloseContext) {
  app.post('/v1/reconcile', async (request): Promise<Reconciliation> => {
    mustBeOperator(request)
    const { rows, toleranceNano } = parseInput(reconcileBody, request.body)
    const own = new Map<string, OwnPeriod | null>()
    for (const { customerId, period } of rows) {
      const key = JSON.stringify([customerId, period])
      if (own.has(key)) continue
      if (own.size >= periodsMax) parseInput(tooMany, rows.length)
      own.set(key, await loadOwn(o, customerId, period))
    }
    const theirs = rows.map(({ quantity, amount, ...row }) => ({ ...row, quantityE9: quantity, amountNano: amount }))
    return reconcile(theirs, (id, period) => own.get(JSON.stringify([id, period])) ?? null, toleranceNano)
  })
}

const tooMany = z.never(`name more than ${periodsMax} customers and months; send them in parts`)

async function loadOwn(o: CloseContext, customerId: string, text: string): Promise<OwnPeriod | null> {
  const customer = await loadCustomer(o.sql, customerId, new Date(o.clock.now()))
  const period = customer === null ? null : periodStartingIn(customer, text)
  if (customer === null || period === null) return null
  const { living } = await loadLiving(o.sql, customerId, period)
  if (living?.state !== 'finalised')
    return { lines: (await draftNow(o, customer, period)).invoice.lines, isDraft: true }
  const document = await loadDocument(o.sql, living.id, 'json')
  if (document === null) throw new Error(`BUG: invoice ${living.id} has no JSON`)
  const invoice: Invoice = JSON.parse(document.body.toString('utf8'))
  return { lines: invoice.lines, isDraft: false }
}
