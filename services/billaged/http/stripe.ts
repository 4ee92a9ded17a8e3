import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { Problem } from '#platform/http'
import type { StripeCustomer, StripePushList } from '../api.ts'
import { badRequest, notFound } from '../errors.ts'
import { listPushes, setStripeCustomer } from '../store/stripe.ts'
import type { StripeAdapter } from '../stripe/adapter.ts'
import { mirror } from '../stripe/follow.ts'
import { callerOf, mustBeOperator } from './authorize.ts'
import type { ReadContext } from './context.ts'
import { cursorTo, pageOf } from './cursor.ts'
import { mustLoad } from './customers.ts'
import { limit, paramId, parseInput } from './query.ts'

const noticeBytesMax = 256 * 1024
export const customerBody = z.strictObject({
  /** Null: no longer brought to Stripe. */
  stripeCustomerId: z
    .string()
    .regex(/^cus_[A-Za-z0-9]{1,255}$/, 'is not the id of a Stripe customer such as cus_abc')
    .nullable(),
})

/** Who is who at Stripe, what was brought there, and its notices. */
const pushQuery = z.object({
  customer: z.string().min(1).max(255).optional(),
  cursor: cursorTo(
    z.strictObject({
      updatedAt: z.iso.datetime(),
      customerId: z.string(),
      object: z.string(),
      periodFrom: z.iso.datetime(),
    }),
  ),
  limit,
})

export function stripeRoutes(
  app: FastifyInstance,
  o: ReadContext & { stripe: StripeAdapter | null; webhookSecret: string | undefined },
) {
  app.put('/v1/customers/:id/stripe', async (request): Promise<StripeCustomer> => {
    mustBeOperator(request)
    const id = paramId(request)
    const { stripeCustomerId } = parseInput(customerBody, request.body)
    await mustLoad(o, id)
    await setStripeCustomer(o.sql, id, stripeCustomerId)
    const actor = { kind: 'key' as const, name: callerOf(request).name }
    await o.audit({ actor, action: 'customer.stripe', object: `customer ${id}`, after: { stripeCustomerId } })
    return { customerId: id, stripeCustomerId }
  })

  app.get('/v1/stripe/pushes', async (request): Promise<StripePushList> => {
    mustBeOperator(request)
    const query = parseInput(pushQuery, request.query)
    const { customer = null, cursor, limit } = query
    const rows = await listPushes(o.sql, { customerId: customer, after: cursor, limit: limit + 1 })
    const { page, nextCursor } = pageOf(rows, limit, ({ updatedAt, customerId, object, periodFrom }) => {
      return { updatedAt, customerId, object, periodFrom }
    })
    return { isOn: o.stripe !== null, pushes: page, nextCursor }
  })

  app.register(async scope => {
    // The signature is over the bytes.
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('*', { parseAs: 'buffer', bodyLimit: noticeBytesMax }, (_, body, done) =>
      done(null, body),
    )
    scope.post('/v1/stripe/webhook', { bodyLimit: noticeBytesMax }, async (request, reply) => {
      const { stripe, webhookSecret } = o
      if (stripe === null || webhookSecret === undefined) throw notFound('Stripe webhook here')
      const signature = request.headers['stripe-signature']
      if (typeof signature !== 'string' || !Buffer.isBuffer(request.body))
        throw badRequest('INVALID_SIGNATURE', 'A notice of Stripe has a body and the header Stripe-Signature.')
      const event = await verified(stripe, request.body, signature, webhookSecret)
      if (event.type.startsWith('invoice.')) {
        const subject: unknown = event.data.object
        const id = typeof subject === 'object' && subject !== null && 'id' in subject ? subject.id : undefined
        if (typeof id === 'string') await mirror(stripe, id)
      }
      return reply.code(204).send()
    })
  })
}

async function verified(o: StripeAdapter, body: Buffer, signature: string, secret: string) {
  try {
    return await o.stripe.webhooks.constructEventAsync(body, signature, secret)
  } catch (cause) {
    throw new Problem({
      status: 400,
      reason: 'INVALID_SIGNATURE',
      detail:
        'The signature is not one of BILLAGED_STRIPE_WEBHOOK_SECRET over this body, or is older than five minutes.',
      cause,
    })
  }
}
