import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { formatDecimal } from '../decimal.ts'
import { badRequest, notFound } from '../errors.ts'
import type { MeterResult, MeterResultRow } from '../events/api.ts'
import { windowEdges, windowSizes, windowsMax } from '../events/windows.ts'
import { csvCell } from '../invoices/escape.ts'
import { listCustomers } from '../store/customers.ts'
import { firstEventNs, groupValues, type MeterRow, queryMeter, subjectsOf } from '../store/meter-usage.ts'
import { loadVmUsage } from '../store/usage.ts'
import { vmMeters } from '../usage/quantity.ts'
import { meterUsage } from '../usage/rows.ts'
import { callerOf } from './authorize.ts'
import type { ReadContext } from './context.ts'
import { mustFindMeter, timeOf } from './meters.ts'
import { instant, isZone, paramId, parseInput } from './query.ts'

const many = z
  .union([z.string(), z.array(z.string())])
  .transform(value => [value].flat())
  .pipe(z.array(z.string().max(255)).max(100))
export const querySchema = z.object({
  from: instant.optional(),
  to: instant.optional(),
  windowSize: z.enum(windowSizes).optional(),
  windowTimeZone: z.string().refine(isZone, 'is not an IANA time zone such as Europe/Berlin').default('UTC'),
  subject: many.default([]),
  filterCustomerId: many.default([]),
  groupBy: many.default([]),
  filterGroupBy: z.record(z.string(), many).default({}),
})
type Query = z.infer<typeof querySchema>

/** Customers whose VMs one answer folds. */
const customersMax = 100

/** `query` of the OpenMeter API, over events and over VMs; JSON, or CSV when that is asked for. */
export function meterQueryRoutes(app: FastifyInstance, o: ReadContext) {
  const answer = async (request: FastifyRequest, reply: FastifyReply, given: unknown) => {
    const query = parseInput(querySchema, given)
    const id = paramId(request)
    const only = callerOf(request).tenant
    const result = Object.hasOwn(vmMeters, id)
      ? await queryVms(o, id, query, only)
      : await queryEvents(o, id, query, only)
    if (!(request.headers.accept ?? '').includes('text/csv')) return result
    return reply.type('text/csv; charset=utf-8').send(toCsv(result.data, query.groupBy))
  }
  app.get('/api/v1/meters/:id/query', (request, reply) => answer(request, reply, unfold(request.query)))
  app.post('/api/v1/meters/:id/query', (request, reply) => answer(request, reply, request.body ?? {}))

  app.get('/api/v1/meters/:id/subjects', async request =>
    subjectsOf(o.sql, await mustFindMeter(o, paramId(request)), callerOf(request).tenant),
  )

  app.get('/api/v1/meters/:id/group-by/:key/values', async request => {
    const { key } = parseInput(z.object({ key: z.string() }), request.params)
    const meter = await mustFindMeter(o, paramId(request))
    if (!Object.hasOwn(meter.groupBy, key)) throw notFound(`group ${key} of meter ${meter.slug}`)
    return groupValues(o.sql, meter, key, callerOf(request).tenant)
  })
}

async function queryEvents(o: ReadContext, id: string, query: Query, only: string | null): Promise<MeterResult> {
  const meter = await mustFindMeter(o, id)
  const names = query.groupBy.filter(name => name !== 'subject' && name !== 'customer_id' && name !== 'customerId')
  for (const name of [...names, ...Object.keys(query.filterGroupBy)])
    if (!Object.hasOwn(meter.groupBy, name))
      throw badRequest(
        'INVALID_FIELD',
        `groupBy: meter ${meter.slug} has no group ${name}; it has ${['subject', ...Object.keys(meter.groupBy)].join(', ')}.`,
      )
  const edges = await edgesOf(o, query, async () => firstEventNs(o.sql, meter))
  const rows = await queryMeter(o.sql, meter, {
    edges,
    customerId: only,
    subjects: query.subject,
    customers: query.filterCustomerId,
    groupBy: names,
    filters: query.filterGroupBy,
    bySubject: query.groupBy.includes('subject') || query.subject.length > 0,
    byCustomer: query.groupBy.some(name => name === 'customer_id' || name === 'customerId'),
  })
  return toResult(query, edges, rows)
}

async function queryVms(o: ReadContext, slug: string, query: Query, only: string | null): Promise<MeterResult> {
  const asked = [...query.subject, ...query.filterCustomerId]
  const now = new Date(o.clock.now())
  const all = asked.length > 0 ? null : await listCustomers(o.sql, { after: '', limit: customersMax + 1, only, now })
  const ids = all === null ? asked.filter(id => only === null || id === only) : all.map(({ id }) => id)
  if (ids.length > customersMax)
    throw badRequest('SPAN_TOO_LONG', `subject: there are more than ${customersMax} customers; name those you want.`)
  const edges = await edgesOf(o, query, async () => {
    const [row] = await o.sql<{ firstNs: bigint | null }[]>`select min(first_ns) as "firstNs" from billaged.series`
    return row?.firstNs ?? null
  })
  const bySubject = query.groupBy.includes('subject') || query.subject.length > 0
  const rows: MeterRow[] = []
  for (const id of ids) {
    const vms = await loadVmUsage(o.reader, id, edges, o.rules)
    if (vms.length === 0) continue
    for (let span = 0; span + 1 < edges.length; span++) {
      const quantityE9 = meterUsage(vms, [], span, 'zero').find(usage => usage.meter === slug)?.quantityE9 ?? 0n
      if (quantityE9 > 0n) add(rows, { span, subject: bySubject ? id : null, customerId: null, group: {}, quantityE9 })
    }
  }
  return toResult(query, edges, rows)
}

function add(rows: MeterRow[], row: MeterRow) {
  const same = rows.find(other => other.span === row.span && other.subject === row.subject)
  if (same === undefined) rows.push(row)
  else same.quantityE9 += row.quantityE9
}

async function edgesOf(o: ReadContext, query: Query, first: () => Promise<bigint | null>): Promise<bigint[]> {
  const minute = 60_000
  const nowMs = o.clock.now()
  const toMs = query.to ?? Math.ceil((nowMs + 1) / minute) * minute
  const fromMs =
    query.from ?? Math.floor(Number(((await first()) ?? BigInt(nowMs) * 1_000_000n) / 1_000_000n) / minute) * minute
  if (fromMs >= toMs) throw badRequest('INVALID_SPAN', 'to must be after from.')
  const edges = windowEdges(fromMs, toMs, query.windowSize ?? null, query.windowTimeZone)
  if (edges === null)
    throw badRequest('SPAN_TOO_LONG', `This span has more than ${windowsMax} windows; ask for less or longer ones.`)
  return edges
}

function toResult(query: Query, edges: readonly bigint[], rows: readonly MeterRow[]): MeterResult {
  return {
    from: timeOf(edges[0] ?? null),
    to: timeOf(edges.at(-1) ?? null),
    windowSize: query.windowSize,
    data: rows.map(({ span, subject, customerId, group, quantityE9 }) => ({
      value: Number(formatDecimal(quantityE9)),
      valueExact: formatDecimal(quantityE9),
      windowStart: timeOf(edges[span] ?? null),
      windowEnd: timeOf(edges[span + 1] ?? null),
      subject,
      customerId,
      groupBy: { ...group },
    })),
  }
}

function toCsv(rows: readonly MeterResultRow[], groupBy: readonly string[]): string {
  const names = groupBy.filter(name => name !== 'subject')
  const header = ['window_start', 'window_end', 'subject', ...names, 'value']
  const lines = rows.map(row => [
    row.windowStart ?? '',
    row.windowEnd ?? '',
    row.subject ?? '',
    ...names.map(name => row.groupBy[name] ?? ''),
    row.valueExact,
  ])
  return [header, ...lines].map(fields => `${fields.map(csvCell).join()}\r\n`).join('')
}

/** `filterGroupBy[model]=a&filterGroupBy[model]=b` as an object. */
function unfold(query: unknown): unknown {
  const plain: Record<string, unknown> = {}
  const filters: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(query ?? {})) {
    const name = /^filterGroupBy\[([^\]]+)\]$/.exec(key)?.[1]
    if (name === undefined) plain[key] = value
    else filters[name] = value
  }
  return { ...plain, filterGroupBy: filters }
}
