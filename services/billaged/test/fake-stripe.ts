import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'

// Stripe's documented API as far as we use it, on a bad day: requests that fail before or after they did something, that
// come twice, and that overtake each other. What it keeps is what a customer would pay.

interface FakeInvoice {
  id: string
  object: 'invoice'
  customer: string
  currency: string
  status: 'draft' | 'open' | 'paid' | 'void'
  metadata: Record<string, string>
  auto_advance: boolean
  total: number
}

interface FakeItem {
  id: string
  object: 'invoiceitem'
  customer: string
  invoice: string
  amount: number
  currency: string
  description: string
  metadata: Record<string, string>
}

export interface Rudeness {
  /** Of 100 requests: refused before anything happened, done without an answer, done twice, held up. */
  refused: number
  unanswered: number
  twice: number
  late: number
}

const polite: Rudeness = { refused: 0, unanswered: 0, twice: 0, late: 0 }

export async function startFakeStripe(t: TestContext, o: { seed: number }) {
  const invoices = new Map<string, FakeInvoice>()
  const items = new Map<string, FakeItem>()
  const keys = new Map<string, { parameters: string; answer: Promise<Answer> }>()
  const meterEvents: { eventName: string; customer: string; value: string; timestamp: number }[] = []
  const meters: { eventName: string; formula: string }[] = []
  const failing = new Set<string>()
  const state: { failingRoute: RegExp | null } = { failingRoute: null }
  const requests: string[] = []
  let rudeness = polite
  let serial = 0
  const random = mulberry32(o.seed)

  const server = createServer((request, response) => {
    handle(request, response).catch(() => response.destroy())
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })

  async function handle(request: IncomingMessage, response: ServerResponse) {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    const url = new URL(request.url ?? '', 'http://stripe')
    const form = new URLSearchParams(request.method === 'POST' ? Buffer.concat(chunks).toString() : url.search)
    const route = `${request.method} ${url.pathname}`
    requests.push(route)
    const dice = random() * 100
    const { refused, unanswered, twice, late } = rudeness
    if (dice < refused) return send(response, refusal(503, 'try later', 'api_error'))
    if (dice > 100 - late) await wait(random() * 40)
    let answer = await once(request, route, form)
    if (dice < refused + unanswered) return response.destroy()
    if (dice < refused + unanswered + twice) answer = await once(request, route, form)
    send(response, answer)
  }

  /** The same key is the same act; other parameters under it are refused. */
  async function once(request: IncomingMessage, route: string, form: URLSearchParams): Promise<Answer> {
    const key = request.headers['idempotency-key']
    if (request.method !== 'POST' || typeof key !== 'string') return act(route, form)
    const parameters = `${route} ${form}`
    const known = keys.get(key)
    if (known === undefined) {
      const answer = Promise.resolve(act(route, form))
      keys.set(key, { parameters, answer })
      return answer
    }
    return known.parameters === parameters ? known.answer : refusal(400, 'other parameters', 'idempotency_error')
  }

  function act(route: string, form: URLSearchParams): Answer {
    const [, id = '', verb = ''] = /^\w+ \/v1\/(?:invoices|invoiceitems)\/(\w+)(?:\/(\w+))?$/.exec(route) ?? []
    const text = (name: string) => form.get(name) ?? ''
    const invoice = invoices.get(id)
    const customer = text('customer') || invoice?.customer || invoices.get(text('invoice'))?.customer || ''
    if (failing.has(customer) || state.failingRoute?.test(route))
      return refusal(500, 'this one always fails', 'api_error')
    if (route === 'GET /v1/invoices')
      return list([...invoices.values()].filter(one => one.customer === text('customer')).toReversed(), form)
    if (route === 'POST /v1/invoices') {
      const made: FakeInvoice = {
        id: `in_${++serial}`,
        object: 'invoice',
        customer: text('customer'),
        currency: text('currency'),
        status: 'draft',
        metadata: metadataOf(form),
        auto_advance: text('auto_advance') === 'true',
        total: 0,
      }
      invoices.set(made.id, made)
      return ok(made)
    }
    if (route === 'GET /v1/invoiceitems')
      return list(
        [...items.values()].filter(item => item.invoice === text('invoice')),
        form,
      )
    if (route === 'POST /v1/invoiceitems') {
      const target = invoices.get(text('invoice'))
      if (target?.status !== 'draft') return refusal(400, 'the invoice is no draft', 'invalid_request_error')
      const item: FakeItem = {
        id: `ii_${++serial}`,
        object: 'invoiceitem',
        customer: text('customer'),
        invoice: target.id,
        amount: Number(text('amount')),
        currency: text('currency'),
        description: text('description'),
        metadata: metadataOf(form),
      }
      items.set(item.id, item)
      return ok(item)
    }
    if (/\/v1\/invoiceitems\//.test(route)) {
      const item = items.get(id)
      if (item === undefined) return refusal(404, `No such invoiceitem: ${id}`, 'invalid_request_error')
      if (route.startsWith('DELETE')) {
        items.delete(id)
        return ok({ id, object: 'invoiceitem', deleted: true })
      }
      item.amount = Number(text('amount'))
      item.description = text('description')
      return ok(item)
    }
    if (route === 'GET /v1/billing/meters')
      return list(
        meters.map(({ eventName, formula }) => ({
          id: `mtr_${eventName}`,
          object: 'billing.meter',
          event_name: eventName,
          status: 'active',
          default_aggregation: { formula },
          customer_mapping: { event_payload_key: 'stripe_customer_id', type: 'by_id' },
          value_settings: { event_payload_key: 'value' },
        })),
        form,
      )
    if (route === 'POST /v1/billing/meter_events') return takeMeterEvent(form)
    if (invoice === undefined) return refusal(404, `No such invoice: ${id}`, 'invalid_request_error')
    if (route.startsWith('DELETE')) {
      if (invoice.status !== 'draft') return refusal(400, 'only drafts are deleted', 'invalid_request_error')
      invoices.delete(id)
      return ok({ id, object: 'invoice', deleted: true })
    }
    if (verb === 'finalize') {
      if (invoice.status !== 'draft') return refusal(400, 'it is finalised already', 'invalid_request_error')
      invoice.total = sumOf(id)
      invoice.status = 'open'
    }
    if (verb === 'void') {
      if (invoice.status !== 'open') return refusal(400, 'only open ones are voided', 'invalid_request_error')
      invoice.status = 'void'
    }
    return ok({ ...invoice, total: invoice.status === 'draft' ? sumOf(id) : invoice.total })
  }

  function takeMeterEvent(form: URLSearchParams): Answer {
    const timestamp = Number(form.get('timestamp'))
    const nowS = Date.now() / 1_000
    const customer = form.get('payload[stripe_customer_id]') ?? ''
    const eventName = form.get('event_name') ?? ''
    const value = form.get('payload[value]') ?? ''
    if (failing.has(customer) || failing.has(eventName)) return refusal(500, 'this one always fails', 'api_error')
    if (timestamp < nowS - 35 * 86_400 || timestamp > nowS + 300)
      return refusal(400, 'timestamp_too_far', 'invalid_request_error')
    meterEvents.push({ eventName, customer, value, timestamp })
    return ok({ object: 'billing.meter_event', event_name: eventName, identifier: `${++serial}`, timestamp })
  }

  const sumOf = (invoice: string) =>
    [...items.values()].filter(item => item.invoice === invoice).reduce((sum, item) => sum + item.amount, 0)

  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    invoices,
    items,
    meters,
    requests,
    meterEvents,
    /** Customers or meters all of whose requests fail. */
    failing,
    state,
    be(how: Partial<Rudeness>) {
      rudeness = { ...polite, ...how }
    },
    /** What a meter that takes the last value makes of what came, in any order. */
    lastValue(eventName: string, customer: string): string | undefined {
      const own = meterEvents.filter(event => event.eventName === eventName && event.customer === customer)
      return own.toSorted((a, b) => a.timestamp - b.timestamp).at(-1)?.value
    },
  }
}

interface Answer {
  status: number
  body: unknown
}

function ok(body: unknown): Answer {
  return { status: 200, body: structuredClone(body) }
}

function refusal(status: number, message: string, type: string): Answer {
  return { status, body: { error: { type, message } } }
}

function send(response: ServerResponse, { status, body }: Answer) {
  // The SDK would wait half a second and more before it tries again by itself: our own tries are what is tested.
  response.writeHead(status, { 'content-type': 'application/json', 'stripe-should-retry': 'false' })
  response.end(JSON.stringify(body))
}

/** Pages of two, so that whoever looks through must turn them. */
function list(all: readonly unknown[], form: URLSearchParams): Answer {
  const idOf = (one: unknown) => (one as { id: string }).id
  const after = form.get('starting_after')
  const from = after === null ? 0 : all.findIndex(one => idOf(one) === after) + 1
  const data = all.slice(from, from + 2)
  return ok({ object: 'list', url: '/v1', data, has_more: from + 2 < all.length })
}

function metadataOf(form: URLSearchParams): Record<string, string> {
  const found = [...form].flatMap(([name, value]) => {
    const key = /^metadata\[(\w+)\]$/.exec(name)?.[1]
    return key === undefined ? [] : [[key, value] as const]
  })
  return Object.fromEntries(found)
}

function mulberry32(seed: number): () => number {
  let a = seed
  return () => {
    a = (a + 0x6d2b79f5) | 0
    let t = Math.imul(a ^ (a >>> 15), 1 | a)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}
