import type { FastifyInstance, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { Problem } from '#platform/http'
import { badRequest, notFound } from '../errors.ts'
import type { MeterView } from '../events/api.ts'
import { parseTime } from '../events/cloud-event.ts'
import { formatJsonPath, parseJsonPath } from '../events/json-path.ts'
import { aggregations } from '../events/meter.ts'
import {
  deleteMeter,
  findMeterRecord,
  insertMeter,
  listMeterRecords,
  type MeterRecord,
  updateMeter,
} from '../store/meters.ts'
import { vmMeters } from '../usage/quantity.ts'
import { callerOf, mustBeOperator } from './authorize.ts'
import type { ReadContext } from './context.ts'
import { cursorTo, linkNext, pageOf } from './cursor.ts'
import { limitOfShort, paramId, parseInput } from './query.ts'

// The meters of the OpenMeter API: made, listed, changed and deleted as its SDK does it.

export const metersChannel = 'billaged_meters'

export interface MeterContext extends ReadContext {
  /** Reads the meters again, here and now; other replicas hear of it over the channel. */
  reloadMeters(): Promise<void>
}

const path = z.string().transform((text, context) => {
  const parsed = parseJsonPath(text)
  if (parsed !== null) return parsed
  context.addIssue({ code: 'custom', message: 'is not a path such as $.tokens or $.usage.tokens' })
  return z.NEVER
})
const groupBy = z.record(z.string().regex(/^[a-zA-Z_][a-zA-Z0-9_]{0,62}$/, 'is no name of letters, digits and _'), path)
const metadata = z.record(z.string().max(100), z.string().max(1000))
export const meterBody = z.object({
  slug: z.string().regex(/^[a-z0-9_]{1,63}$/, 'takes 1 to 63 of a-z, 0-9 and _'),
  name: z.string().min(1).max(256).optional(),
  description: z.string().max(1024).nullish(),
  aggregation: z.enum(aggregations),
  eventType: z.string().min(1).max(255),
  eventFrom: z.string().nullish(),
  valueProperty: z.union([path, z.array(path).min(1).max(8)]).nullish(),
  valueMode: z.enum(['set', 'delta']).default('set'),
  groupBy: groupBy.nullish(),
  metadata: metadata.nullish(),
  /** Of one whole unit of quantity, for invoices. */
  unit: z.string().max(63).default(''),
})
export const patchBody = meterBody.pick({ name: true, description: true, groupBy: true, metadata: true })

const listQuery = z.object({
  cursor: cursorTo(z.strictObject({ createdAt: z.string(), slug: z.string() })),
  limit: limitOfShort,
})

type Place = NonNullable<z.output<typeof listQuery>['cursor']>

/** Those that were made, in that order, and then those of VMs. */
function placeOf({ createdAt = 'later', slug }: MeterView): Place {
  return { createdAt, slug }
}

function comparePlaces(a: Place, b: Place): number {
  const [x, y] = a.createdAt === b.createdAt ? [a.slug, b.slug] : [a.createdAt, b.createdAt]
  return x < y ? -1 : x > y ? 1 : 0
}

export function meterRoutes(app: FastifyInstance, o: MeterContext) {
  app.get('/api/v1/meters', async (request, reply): Promise<MeterView[]> => {
    const { cursor, limit } = parseInput(listQuery, request.query)
    const all = [
      ...(await listMeterRecords(o.sql)).map(toMeter),
      ...Object.entries(vmMeters).map(([slug, { unit }]) => vmMeter(slug, unit)),
    ].sort((a, b) => comparePlaces(placeOf(a), placeOf(b)))
    const later = all.filter(meter => cursor === null || comparePlaces(placeOf(meter), cursor) > 0)
    const { page, nextCursor } = pageOf(later, limit, placeOf)
    linkNext(request, reply, nextCursor)
    return page
  })

  app.post('/api/v1/meters', async (request, reply): Promise<MeterView> => {
    mustBeOperator(request)
    const body = parseInput(meterBody, request.body)
    const { valueProperty } = body
    const valuePaths = valueProperty === null || valueProperty === undefined ? [] : pathsOf(valueProperty)
    if (body.aggregation === 'COUNT' && valuePaths.length > 0)
      throw badRequest('INVALID_FIELD', 'valueProperty: COUNT counts events and takes no value.')
    if (body.aggregation !== 'COUNT' && valuePaths.length === 0)
      throw badRequest(
        'INVALID_FIELD',
        `valueProperty: ${body.aggregation} needs the path of a value, such as $.tokens.`,
      )
    if (body.slug.startsWith('vm_')) throw slugTaken(body.slug)
    const made = await insertMeter(
      o.sql,
      {
        slug: body.slug,
        name: body.name ?? body.slug,
        description: body.description ?? null,
        eventType: body.eventType,
        aggregation: body.aggregation,
        valuePaths,
        groupBy: body.groupBy ?? {},
        metadata: body.metadata ?? {},
        unit: body.unit,
        valueMode: body.valueMode,
        eventFromNs: body.eventFrom ? parseEventFrom(body.eventFrom) : null,
      },
      metersChannel,
    )
    if (made === null) throw slugTaken(body.slug)
    await audited(request, 'meter.create', made.slug, body)
    reply.code(201)
    return toMeter(made)
  })

  app.get('/api/v1/meters/:id', async (request): Promise<MeterView> => {
    const id = paramId(request)
    const vm = Object.entries(vmMeters).find(([slug]) => slug === id)
    return vm === undefined ? toMeter(await mustFindMeter(o, id)) : vmMeter(vm[0], vm[1].unit)
  })

  app.put('/api/v1/meters/:id', async (request): Promise<MeterView> => {
    mustBeOperator(request)
    const before = await mustFindMeter(o, paramId(request))
    const patch = parseInput(patchBody, request.body)
    const after = await updateMeter(
      o.sql,
      before.id,
      {
        name: patch.name ?? before.name,
        description: patch.description === undefined ? before.description : patch.description,
        groupBy: patch.groupBy ?? before.groupBy,
        metadata: patch.metadata ?? before.metadata,
      },
      metersChannel,
    )
    if (after === null) throw notFound(`meter ${before.slug}`)
    await audited(request, 'meter.update', before.slug, patch)
    return toMeter(after)
  })

  app.delete('/api/v1/meters/:id', async (request, reply) => {
    mustBeOperator(request)
    const meter = await mustFindMeter(o, paramId(request))
    if (meter.isBuiltIn)
      throw new Problem({
        status: 409,
        reason: 'METER_BUILT_IN',
        detail: `${meter.slug} meters what the platform's own services report and cannot be deleted.`,
      })
    await deleteMeter(o.sql, meter.id, metersChannel)
    await audited(request, 'meter.delete', meter.slug, null)
    return reply.code(204).send()
  })

  async function audited(request: FastifyRequest, action: string, slug: string, after: unknown) {
    await o.reloadMeters()
    await o.audit({ actor: { kind: 'key', name: callerOf(request).name }, action, object: `meter ${slug}`, after })
  }
}

export async function mustFindMeter(o: Pick<ReadContext, 'sql'>, idOrSlug: string): Promise<MeterRecord> {
  const meter = await findMeterRecord(o.sql, idOrSlug)
  if (meter === null) throw notFound(`meter ${idOrSlug}`)
  return meter
}

function pathsOf(given: string[] | string[][]): string[][] {
  return given.every(item => typeof item === 'string') ? [given] : (given as string[][])
}

function parseEventFrom(text: string): bigint {
  try {
    return parseTime(text, 'eventFrom')
  } catch (error) {
    throw badRequest('INVALID_FIELD', error instanceof Error ? `${error.message}.` : 'eventFrom')
  }
}

function slugTaken(slug: string): Problem {
  return new Problem({ status: 409, reason: 'METER_EXISTS', detail: `There is a meter ${slug} already.` })
}

function toMeter(meter: MeterRecord): MeterView {
  const [first, ...more] = meter.valuePaths.map(formatJsonPath)
  return {
    id: meter.id,
    slug: meter.slug,
    name: meter.name,
    description: meter.description ?? undefined,
    aggregation: meter.aggregation,
    eventType: meter.eventType,
    eventFrom: timeOf(meter.eventFromNs ?? null),
    valueProperty: first,
    ...(more.length > 0 ? { valueProperties: [first, ...more] } : {}),
    ...(meter.aggregation === 'WEIGHTED_SUM' ? { valueMode: meter.valueMode } : {}),
    groupBy: Object.fromEntries(Object.entries(meter.groupBy).map(([name, names]) => [name, formatJsonPath(names)])),
    metadata: meter.metadata,
    unit: meter.unit,
    createdAt: meter.createdAt.toISOString(),
    updatedAt: meter.updatedAt.toISOString(),
  }
}

/** What is folded from readings is a meter, too: there to be queried, not to be changed. */
function vmMeter(slug: string, unit: string): MeterView {
  return { id: slug, slug, name: slug, aggregation: 'SUM', eventType: 'vm', groupBy: {}, metadata: {}, unit }
}

export function timeOf(ns: bigint | null): string | undefined {
  return ns === null ? undefined : Temporal.Instant.fromEpochNanoseconds(ns).toString()
}
