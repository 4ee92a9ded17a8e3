// POST /api/v1/logs/delete, GET /api/v1/deletions, GET /api/v1/deletions/:id

import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { rfc3339 } from '#platform/time'
import type { DeletionAnswer, DeletionCountAnswer } from '../api.ts'
import { badParameter, notFound } from '../errors.ts'
import { formatNanos } from '../rfc3339.ts'
import {
  type DeletionJob,
  emptyHash,
  findDeletion,
  insertDeletion,
  listDeletions,
  type Tombstone,
} from '../store/rules/deletions.ts'
import { authorize } from './caller.ts'
import { withReads, withSql } from './context.ts'
import { type Parameters, queryOf, rangeOf } from './parameters.ts'
import { actorOf, mustHaveTenancy, objectOf, type RuleContext } from './rule-routes.ts'

const reasonMax = 500
const countTimeoutMs = 60_000
const rowsScannedMax = 50_000_000

export function addDeletions(app: FastifyInstance, context: RuleContext): void {
  const { clock } = context

  app.post('/api/v1/logs/delete', async (request, reply): Promise<DeletionAnswer | DeletionCountAnswer> => {
    const asker = authorize(context.access, request, 'logs:admin')
    const { tenant, caller } = asker
    const { q, from, to, reason, dry_run: dryRun = false, ...others } = objectOf(request.body)
    for (const name of Object.keys(others))
      throw badParameter(name, 'is not known; there are q, from, to, reason, dry_run')
    if (typeof dryRun !== 'boolean') throw badParameter('dry_run', 'must be true or false')
    if (typeof q !== 'string' || q.trim() === '')
      throw badParameter('q', 'is needed; service:* and its like match everything of a kind, and say so')
    const parameters: Parameters = { q, from: text('from', from), to: text('to', to) }
    const query = queryOf(parameters)
    const { fromNs, toNs } = rangeOf(parameters, clock.now())

    if (dryRun) {
      const { counts, isPartial } = await context.gate.run(caller.key, () =>
        withReads(context, store =>
          store.count(
            {
              tenant,
              query,
              fromNs,
              toNs,
              originNs: fromNs,
              intervalNs: toNs - fromNs,
              by: null,
              timeoutMs: countTimeoutMs,
              rowsScannedMax,
            },
            () => clock.monotonicMs(),
          ),
        ),
      )
      const count = [...counts.values()].flatMap(values => [...values.values()]).reduce((sum, n) => sum + n, 0n)
      return {
        dry_run: true,
        rows: String(count),
        partial: isPartial,
        from: formatNanos(fromNs),
        to: formatNanos(toNs),
      }
    }

    if (typeof reason !== 'string' || reason.trim() === '' || reason.length > reasonMax)
      throw badParameter('reason', `is needed: a text of 1 to ${reasonMax} characters that stays in the tombstone`)
    const tenancy = mustHaveTenancy(context)
    const nowMs = clock.now()
    const job = {
      id: randomUUID(),
      tenant,
      q,
      fromNs,
      toNs,
      reason: reason.trim(),
      requestedBy: caller.keyName,
      requestedAt: rfc3339(nowMs),
      acceptedBeforeUs: BigInt(nowMs) * 1_000n,
      hashBefore: emptyHash,
      hashAfter: emptyHash,
    }
    await withSql(context, sql =>
      sql.begin(async tx => {
        await insertDeletion(tx, job)
        await tenancy.audit(
          {
            actor: actorOf(asker, request),
            action: 'logs.delete',
            object: `deletion ${job.id} of ${tenant}`,
            after: { q, from: formatNanos(fromNs), to: formatNanos(toNs), reason: job.reason },
          },
          tx,
        )
      }),
    )
    // Hidden here before the answer.
    await context.rules.refresh()
    context.wakeWorker()
    reply.code(202).header('Location', `/api/v1/deletions/${job.id}`)
    return await found(tenant, job.id)
  })

  app.get('/api/v1/deletions', async request => {
    const { tenant } = authorize(context.access, request, 'logs:admin')
    const jobs = await withSql(context, sql => listDeletions(sql, tenant, 100))
    return { deletions: jobs.map(job => shown({ ...job, tombstone: null })) }
  })

  app.get('/api/v1/deletions/:id', async request => {
    const { tenant } = authorize(context.access, request, 'logs:admin')
    return await found(tenant, (request.params as { id: string }).id)
  })

  const found = async (tenant: string, id: string): Promise<DeletionAnswer> => {
    const isId = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(id)
    const job = isId ? await withSql(context, sql => findDeletion(sql, tenant, id)) : undefined
    if (!job) throw notFound(`There is no deletion ${id.slice(0, 40)}.`)
    return shown(job)
  }
}

function text(name: string, value: unknown): string {
  if (value === undefined || value === null)
    throw badParameter(name, 'is needed; write 2026-01-02T15:04:05Z, -30d or now')
  if (typeof value !== 'string') throw badParameter(name, 'must be a text')
  return value
}

function shown(job: DeletionJob & { tombstone: Tombstone | null }): DeletionAnswer {
  return {
    id: job.id,
    state: job.state,
    q: job.q,
    from: formatNanos(job.fromNs),
    to: formatNanos(job.toNs),
    reason: job.reason,
    requested_by: job.requestedBy,
    requested_at: job.requestedAt,
    finished_at: job.finishedAt,
    rows: String(job.rows),
    bytes: String(job.bytes),
    ...(job.problem === null ? {} : { problem: job.problem }),
    ...(job.tombstone === null
      ? {}
      : {
          tombstone: {
            body: job.tombstone.body,
            algorithm: 'Ed25519',
            signature: job.tombstone.signature,
            public_key: job.tombstone.publicKey,
          },
        }),
  }
}
