import { randomUUID } from 'node:crypto'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import type { CreditList, CreditView } from '../api.ts'
import type { CloseContext } from '../close/context.ts'
import { badRequest, notFound } from '../errors.ts'
import { grantId } from '../invoices/ids.ts'
import { type CreditGrant, insertGrant, listGrants } from '../store/credits.ts'
import { loadCustomer } from '../store/customers.ts'
import { callerOf, mustActFor, mustBeOperator } from './authorize.ts'
import { closeBy } from './close.ts'
import { instant, limit, parseInput, timeAndId } from './query.ts'

export const creditBody = z.strictObject({
  customerId: z.string().min(1).max(255),
  kind: z.enum(['promotional', 'prepaid']),
  amountNano: z
    .string()
    .regex(/^[1-9]\d{0,29}$/, 'is not a whole number above 0 of at most 30 digits, written as a string')
    .transform(BigInt),
  currency: z
    .string()
    .regex(/^[A-Z]{3}$/, 'is not an ISO 4217 code such as USD')
    .optional(),
  priority: z.int().min(0).max(1_000_000).default(100),
  from: instant.optional(),
  expires: instant.nullable().default(null),
  note: z.string().max(500).nullable().default(null),
})

const creditQuery = z.object({
  customerId: z.string().min(1).max(255).optional(),
  cursor: timeAndId,
  limit,
})

/** What a customer has been given or has paid ahead. Grants are for ever; invoices burn them. */
export function creditRoutes(app: FastifyInstance, o: CloseContext) {
  app.get('/v1/credits', async (request): Promise<CreditList> => {
    const query = parseInput(creditQuery, request.query)
    const customerId = query.customerId ?? callerOf(request).tenant
    if (customerId !== null) mustActFor(request, customerId)
    const rows = await listGrants(o.sql, { customerId, id: null, after: query.cursor, limit: query.limit + 1 })
    const page = rows.slice(0, query.limit)
    const last = rows.length > query.limit ? page.at(-1) : undefined
    return {
      credits: page.map(creditView),
      nextCursor: last === undefined ? null : `${new Date(last.createdMs).toISOString()}/${last.id}`,
    }
  })

  app.post('/v1/credits', async (request, reply): Promise<CreditView> => {
    mustBeOperator(request)
    const body = parseInput(creditBody, request.body)
    const key = request.headers['idempotency-key']
    const customer = await loadCustomer(o.sql, body.customerId, new Date(o.clock.now()))
    if (customer === null) throw notFound(`customer ${body.customerId}`)
    const createdMs = o.clock.now()
    const fromMs = body.from ?? createdMs
    if (body.expires !== null && body.expires <= fromMs) throw badRequest('INVALID_SPAN', 'expires must be after from.')
    const grant: CreditGrant = {
      id: grantId(body.customerId, typeof key === 'string' ? key : randomUUID()),
      customerId: body.customerId,
      kind: body.kind,
      currency: body.currency ?? customer.currency,
      amountNano: body.amountNano,
      leftNano: body.amountNano,
      priority: body.priority,
      fromMs,
      expiresMs: body.expires,
      createdMs,
      note: body.note,
      sourceInvoiceId: null,
      outageFromMs: null,
    }
    return grantCredit(o, request, reply, grant)
  })
}

/** Answers 201 with the grant, or 200 with the one of its id that was made before. */
export async function grantCredit(
  o: CloseContext,
  request: FastifyRequest,
  reply: FastifyReply,
  grant: CreditGrant,
): Promise<CreditView> {
  const { id, customerId } = grant
  const isNew = await o.sql.begin(async tx => {
    if (!(await insertGrant(tx, grant))) return false
    const { actor } = closeBy(request, null)
    await o.audit({ actor, action: 'credit.grant', object: `customer ${customerId}`, after: creditView(grant) }, tx)
    return true
  })
  const [stored] = isNew ? [grant] : await listGrants(o.sql, { customerId, id, after: null, limit: 1 })
  reply.code(isNew ? 201 : 200)
  return creditView(stored ?? grant)
}

export function creditView(grant: CreditGrant): CreditView {
  return {
    id: grant.id,
    customerId: grant.customerId,
    kind: grant.kind,
    currency: grant.currency,
    amountNano: `${grant.amountNano}`,
    leftNano: `${grant.leftNano}`,
    priority: grant.priority,
    from: new Date(grant.fromMs).toISOString(),
    expires: grant.expiresMs === null ? null : new Date(grant.expiresMs).toISOString(),
    note: grant.note,
    sourceInvoiceId: grant.sourceInvoiceId,
    createdAt: new Date(grant.createdMs).toISOString(),
  }
}
