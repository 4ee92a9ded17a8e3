import { randomBytes } from 'node:crypto'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { Problem } from '#platform/http'
import { mintToken } from '#platform/tenancy/token'
import type { Customer, InvoiceSummary, PortalIdentity, Spend, Usage, VmTimeline } from '../api.ts'
import { notFound } from '../errors.ts'
import { checkReceipt, type Receipt } from '../invoices/receipt.ts'
import { type PortalView, portalDoor, portalPage } from '../portal/page.ts'
import { hashPortalToken, isPortalToken } from '../portal/token.ts'
import { findPortalToken, type PortalToken } from '../store/portal-tokens.ts'
import type { CostHub } from '../stream/costs.ts'
import type { ReadContext } from './context.ts'
import { parseInput } from './query.ts'
import { openCostStream } from './stream.ts'

// The read-only portal of one customer. It asks our own API as a viewer of that customer, through the same
// authorisation as everybody else: nothing here decides what belongs to whom.

export interface PortalContext extends ReadContext {
  secret: Buffer
  publicKey: string
  costs: CostHub
  isTls: boolean
}

const cookieName = 'purser_portal'
/** VMs with their strip on the page: each is folded reading by reading. */
const stripsMax = 20
const invoicesMax = 100

export function portalRoutes(app: FastifyInstance, o: PortalContext) {
  app.get('/v1/portal/me', async (request): Promise<PortalIdentity> => {
    const token = await mustHaveToken(request)
    return { customerId: token.customerId, subject: token.subject, expiresAt: token.expiresAt.toISOString() }
  })
  const pass = (url: string, pathOf: (token: PortalToken, params: Record<string, string>, query: string) => string) =>
    app.get(url, async (request, reply) => {
      const token = await mustHaveToken(request)
      const query = request.url.includes('?') ? request.url.slice(request.url.indexOf('?')) : ''
      const params = parseInput(z.record(z.string(), z.string().max(255)), request.params)
      return passOn(reply, await ask(token, pathOf(token, params, query), request.headers.accept))
    })
  const customer = (token: PortalToken) => `/v1/customers/${encodeURIComponent(token.customerId)}`
  const part = (text = '') => encodeURIComponent(text)
  pass('/v1/portal/spend', (token, _, query) => `${customer(token)}/spend${query}`)
  pass('/v1/portal/usage', (token, _, query) => `${customer(token)}/usage${query}`)
  pass('/v1/portal/vms/:vm', (token, { vm }, query) => `/v1/vms/${part(token.customerId)}/${part(vm)}${query}`)
  pass(
    '/v1/portal/vms/:vm/timeline',
    (token, { vm }, query) => `/v1/vms/${part(token.customerId)}/${part(vm)}/timeline${query}`,
  )
  pass('/v1/portal/receipts/key', () => '/v1/receipts/key')

  app.get('/v1/portal/invoices', async (request, reply) => {
    const token = await mustHaveToken(request)
    return reply.send({ invoices: await invoicesOf(token) })
  })
  for (const base of ['/v1/portal/invoices', '/portal/invoices']) {
    app.get(`${base}/:id`, async (request, reply) => document(request, reply, ''))
    app.get(`${base}/:id/receipt`, async (request, reply) => document(request, reply, '/receipt'))
  }

  app.get('/v1/portal/stream/costs', { exposeHeadRoute: false }, async (request, reply) => {
    const token = await mustHaveToken(request)
    const header = request.headers['last-event-id']
    openCostStream(app, reply.raw, {
      costs: o.costs,
      customerId: token.customerId,
      lastEventId: typeof header === 'string' ? header : undefined,
      begin: () => reply.hijack(),
      requestId: request.id,
    })
    return reply
  })

  app.get('/api/v1/portal/meters/:slug/query', async (request, reply) => {
    const token = await mustHaveToken(request)
    const { slug } = parseInput(z.object({ slug: z.string().min(1).max(63) }), request.params)
    if (token.allowedMeters !== null && !token.allowedMeters.includes(slug)) throw notFound(`meter ${slug}`)
    const query = new URLSearchParams(request.url.split('?')[1] ?? '')
    for (const name of ['subject', 'filterCustomerId']) query.delete(name)
    query.append('subject', token.subject)
    return passOn(reply, await ask(token, `/api/v1/meters/${part(slug)}/query?${query}`, request.headers.accept))
  })

  app.get('/portal', async (request, reply) => {
    const nonce = randomBytes(16).toString('base64')
    protect(reply, nonce)
    const credential = cookieOf(request)
    const token = credential === null ? null : await find(credential)
    if (token === null) return reply.send(portalDoor({ nonce, isRefused: credential !== null }))
    return reply.send(portalPage(await view(token, nonce)))
  })

  app.register(async scope => {
    scope.addContentTypeParser(
      'application/x-www-form-urlencoded',
      { parseAs: 'string', bodyLimit: 4096 },
      (_, body, done) => done(null, Object.fromEntries(new URLSearchParams(String(body)))),
    )
    scope.post('/portal/session', async (request, reply) => {
      const { token } = parseInput(z.object({ token: z.string().trim().max(200) }), request.body)
      const found = isPortalToken(token) ? await find(token) : null
      const ageS = found === null ? 0 : Math.floor((found.expiresAt.getTime() - o.clock.now()) / 1_000)
      // Anything that is no token of ours is kept as a mark that it was refused: the value goes into a header.
      const value = found === null ? 'refused; Max-Age=10' : `${token}; Max-Age=${ageS}`
      reply.header(
        'set-cookie',
        `${cookieName}=${value}; Path=/portal; HttpOnly; SameSite=Strict${o.isTls ? '; Secure' : ''}`,
      )
      return reply.code(303).header('location', '/portal').header('cache-control', 'no-store').send()
    })
  })

  async function document(request: FastifyRequest, reply: FastifyReply, suffix: '' | '/receipt') {
    const token = await mustHaveToken(request)
    const { id } = parseInput(z.object({ id: z.string().min(1).max(128) }), request.params)
    const [plain = ''] = id.split('.')
    const known = await ask(token, `/v1/invoices/${part(plain)}`)
    // A draft is not for the customer: it may change until it is closed.
    if (known.statusCode !== 200 || known.json<{ state: string }>().state === 'draft')
      throw notFound(`invoice ${plain}`)
    if (request.url.startsWith('/portal/')) protect(reply, '')
    return passOn(reply, await ask(token, `/v1/invoices/${part(id)}${suffix}`))
  }

  async function view(token: PortalToken, nonce: string): Promise<PortalView> {
    const read = async <T>(path: string): Promise<T> => {
      const reply = await ask(token, path)
      if (reply.statusCode !== 200)
        throw new Problem({
          status: 503,
          reason: 'PORTAL_INCOMPLETE',
          detail: 'Some of the page cannot be read now; try again.',
        })
      return reply.json<T>()
    }
    const spend = await read<Spend>(`${customer(token)}/spend`)
    const usage = await read<Usage>(`${customer(token)}/usage?by=vm`)
    const { name } = await read<Customer>(customer(token))
    const cpus = usage.rows
      .filter(row => row.meter === 'vm_cpu')
      .map(row => ({ vmId: row.vmId ?? '', cpuNs: row.quantity }))
      .toSorted((a, b) => (BigInt(a.cpuNs) === BigInt(b.cpuNs) ? 0 : BigInt(a.cpuNs) > BigInt(b.cpuNs) ? -1 : 1))
    const vms: PortalView['vms'] = []
    for (const vm of cpus.slice(0, stripsMax)) {
      const reply = await ask(token, `/v1/vms/${part(token.customerId)}/${part(vm.vmId)}/timeline`)
      vms.push({ ...vm, timeline: reply.statusCode === 200 ? reply.json<VmTimeline>() : null })
    }
    const invoices: PortalView['invoices'] = []
    for (const invoice of await invoicesOf(token)) {
      const reply = await ask(token, `/v1/invoices/${part(invoice.id)}/receipt`)
      const isThere = reply.statusCode === 200
      const isValid = isThere && checkReceipt(reply.json<Receipt>(), { publicKey: o.publicKey }).length === 0
      invoices.push({ ...invoice, receipt: isThere ? (isValid ? 'valid' : 'invalid') : null })
    }
    return {
      customerName: name ?? token.customerId,
      spend,
      vms,
      vmsLeftOut: Math.max(0, cpus.length - stripsMax),
      invoices,
      expiresAt: token.expiresAt.toISOString(),
      nonce,
    }
  }

  async function invoicesOf(token: PortalToken): Promise<InvoiceSummary[]> {
    const reply = await ask(token, `/v1/invoices?customer=${part(token.customerId)}&limit=${invoicesMax}`)
    const { invoices } = reply.json<{ invoices: InvoiceSummary[] }>()
    return invoices.filter(({ state }) => state !== 'draft')
  }

  /** Our own API, asked by a viewer of this one customer. */
  function ask(token: PortalToken, url: string, accept?: string) {
    const credential = mintToken(o.secret, {
      audience: 'billaged',
      role: 'tenant-viewer',
      tenant: token.customerId,
      subject: 'portal',
      clock: o.clock,
    })
    const headers = { authorization: `Bearer ${credential}`, ...(accept === undefined ? {} : { accept }) }
    return app.inject({ method: 'GET', url, headers })
  }

  async function mustHaveToken(request: FastifyRequest): Promise<PortalToken> {
    const bearer = /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '')?.[1]
    const credential = bearer ?? (request.url.startsWith('/portal/') ? cookieOf(request) : null)
    const token = credential === null ? null : await find(credential)
    if (token !== null) return token
    throw new Problem({
      status: 401,
      reason: credential === null ? 'KEY_REQUIRED' : 'KEY_UNKNOWN',
      detail: 'Send Authorization: Bearer <portal token>; it is unknown, expired or withdrawn, or missing.',
      headers: { 'www-authenticate': 'Bearer' },
    })
  }

  async function find(credential: string): Promise<PortalToken | null> {
    if (!isPortalToken(credential)) return null
    return findPortalToken(o.sql, hashPortalToken(credential), new Date(o.clock.now()))
  }
}

function cookieOf(request: FastifyRequest): string | null {
  const cookies = (request.headers.cookie ?? '').split(';').map(cookie => cookie.trim())
  const own = cookies.find(cookie => cookie.startsWith(`${cookieName}=`))
  return own === undefined ? null : own.slice(cookieName.length + 1)
}

type Answer = Awaited<ReturnType<FastifyInstance['inject']>>

function passOn(reply: FastifyReply, answer: Answer) {
  for (const name of ['content-type', 'etag', 'content-disposition', 'retry-after'])
    if (answer.headers[name] !== undefined) reply.header(name, answer.headers[name])
  return reply.code(answer.statusCode).send(answer.rawPayload)
}

function protect(reply: FastifyReply, nonce: string) {
  const own = nonce === '' ? `style-src 'unsafe-inline'` : `style-src 'nonce-${nonce}'; script-src 'nonce-${nonce}'`
  reply.headers({
    'content-type': 'text/html; charset=utf-8',
    'content-security-policy': `default-src 'none'; ${own}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'`,
    'cache-control': 'no-store',
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
  })
}
