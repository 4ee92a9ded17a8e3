import type { FastifyInstance, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { Problem } from '#platform/http'
import { nowNs } from '#platform/time'
import type { QuarantineItem, QuarantineList } from '../api.ts'
import type { CloseContext } from '../close/context.ts'
import { notAcknowledgedProblem, notFound } from '../errors.ts'
import { eventOfAside, markOfAside, sampleOfAside } from '../intake/aside-payload.ts'
import { type Intake, NotAcknowledged } from '../intake/intake.ts'
import type { Fact } from '../intake/record.ts'
import { encodeParts } from '../samples/part.ts'
import { decideQuarantine, listQuarantine, loadQuarantine, type QuarantineRow } from '../store/quarantine.ts'
import { mustBeOperator } from './authorize.ts'
import { closeBy } from './close.ts'
import { isFolded } from './context.ts'
import { limit, paramId, parseInput } from './query.ts'

const listQuery = z.object({
  customer: z.string().min(1).max(255).optional(),
  state: z.enum(['open', 'released', 'discarded']).default('open'),
  cursor: z
    .string()
    .regex(/^\d{1,18}$/, 'is not one that a list gave')
    .default('0')
    .transform(BigInt),
  limit,
})

/** Doubtful samples, notices and events: looked at by a person, then released into the set or discarded. */
export function quarantineRoutes(app: FastifyInstance, o: CloseContext & { intake: Intake }) {
  app.get('/v1/quarantine', async (request): Promise<QuarantineList> => {
    mustBeOperator(request)
    const query = parseInput(listQuery, request.query)
    const complete = await isFolded(o)
    const rows = await listQuarantine(o.sql, {
      customerId: query.customer ?? null,
      state: query.state,
      after: query.cursor,
      limit: query.limit + 1,
    })
    const page = rows.slice(0, query.limit)
    const last = rows.length > query.limit ? page.at(-1) : undefined
    return {
      asOf: new Date(o.clock.now()).toISOString(),
      complete,
      items: page.map(toView),
      nextCursor: last === undefined ? null : `${last.id}`,
    }
  })

  app.post('/v1/quarantine/:id/release', async (request): Promise<QuarantineItem> => {
    const row = await mustLoadOpen(request)
    const why = whyOf(request)
    // Into the journal first, then the decision: a crash between leaves it open, and releasing it again adds nothing.
    await o.intake.acknowledge([factOf(row, nowNs(o.clock))]).catch((error: unknown) => {
      throw error instanceof NotAcknowledged ? notAcknowledgedProblem(error.why) : error
    })
    return decide(request, row, 'released', why)
  })

  app.post(
    '/v1/quarantine/:id/discard',
    async (request): Promise<QuarantineItem> =>
      decide(request, await mustLoadOpen(request), 'discarded', whyOf(request)),
  )

  async function mustLoadOpen(request: FastifyRequest): Promise<QuarantineRow> {
    mustBeOperator(request)
    const id = paramId(request)
    const row = /^\d{1,18}$/.test(id) ? await loadQuarantine(o.sql, BigInt(id)) : null
    if (row === null) throw notFound(`quarantined item ${id}`)
    if (row.state !== 'open') throw decided(row.id, row.state)
    return row
  }

  async function decide(
    request: FastifyRequest,
    row: QuarantineRow,
    state: 'released' | 'discarded',
    reason: string | null,
  ) {
    await o.sql.begin(async tx => {
      if (!(await decideQuarantine(tx, row.id, state))) throw decided(row.id, 'decided')
      const object = `quarantine ${row.id}`
      await o.audit(
        {
          actor: closeBy(request, null).actor,
          action: `quarantine.${state}`,
          object,
          after: { ...toView(row), why: reason },
        },
        tx,
      )
    })
    return { ...toView(row), state }
  }
}

export const decision = z.strictObject({ reason: z.string().trim().min(1).max(500).nullable().default(null) })

/** For the audit, beside what was decided. */
function whyOf(request: FastifyRequest): string | null {
  return parseInput(decision, request.body ?? {}).reason
}

function factOf(row: QuarantineRow, receivedNs: bigint): Fact {
  if (row.what === 'event') return { kind: 'event', event: eventOfAside(row.payload), receivedNs }
  if (row.what === 'mark') return markOf(row, markOfAside(row.payload))
  const sample = sampleOfAside(row.payload)
  if (row.reason === 'expired')
    throw new Problem({
      status: 409,
      reason: 'NOT_RELEASABLE',
      detail: `Item ${row.id} falls in an hour whose samples have expired, which cannot be folded again; discard it, and give or take what it is worth as a credit.`,
    })
  if (sample === null || row.customerId === null || row.vmId === null)
    throw new Problem({
      status: 409,
      reason: 'NOT_RELEASABLE',
      detail: `Item ${row.id} says not when it was measured; it can only be discarded.`,
    })
  const [part] = encodeParts([sample])
  if (part === undefined) throw new Error('BUG: one sample makes one part')
  return { kind: 'samples', customerId: row.customerId, vmId: row.vmId, part }
}

function markOf({ id, customerId, vmId, reason }: QuarantineRow, said: ReturnType<typeof markOfAside>): Fact {
  if (said === null || vmId === null || reason === 'before_2000')
    throw new Problem({
      status: 409,
      reason: 'NOT_RELEASABLE',
      detail: `Item ${id} is a notice of a time before 2000, which no clock that was set can have said; discard it.`,
    })
  return { kind: 'mark', customerId, vmId, ...said }
}

function toView(row: QuarantineRow): QuarantineItem {
  return {
    id: `${row.id}`,
    what: row.what,
    customerId: row.customerId,
    vmId: row.vmId,
    reason: row.reason,
    state: row.state,
    receivedAt: row.receivedAt.toISOString(),
    payload: row.payload,
  }
}

function decided(id: bigint, state: string): Problem {
  return new Problem({ status: 409, reason: 'ALREADY_DECIDED', detail: `Item ${id} is ${state}; decisions are final.` })
}
