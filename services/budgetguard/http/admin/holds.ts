// GET /admin/holds: every open hold, those of this process as they are, those of others as last folded.

import type { FastifyInstance } from 'fastify'
import { formatUsd } from '#platform/money'
import { rfc3339 } from '#platform/time'
import { sum } from '../../amount.ts'
import type { Hold, Holds } from '../../api.ts'
import type { HoldRecord } from '../../record.ts'
import { loadAccountNames } from '../../store/accounts.ts'
import { listHolds } from '../../store/holds.ts'
import type { Admin } from './admin.ts'

const holdsMax = 1_000

export function registerHolds(scope: FastifyInstance, admin: Admin): void {
  scope.get('/admin/holds', async (): Promise<Holds> => {
    const own = [...admin.admission.holds()].map(({ record }) => record)
    const known = new Set(own.map(record => record.id))
    const mirrored = (await listHolds(admin.sql, { limit: holdsMax })).filter(
      ({ nodeId, record }) => nodeId !== admin.nodeId && !known.has(record.id),
    )
    const all = [...own.map(record => ({ record, nodeId: admin.nodeId })), ...mirrored].sort(
      (a, b) => a.record.call.atMs - b.record.call.atMs,
    )
    const shown = all.slice(0, holdsMax)
    const accounts = new Set(shown.flatMap(({ record }) => record.parts.map(part => part.accountId)))
    const names = await loadAccountNames(admin.sql, [...accounts])
    return {
      holds: shown.map(({ record, nodeId }) => shape(admin, record, nodeId, names)),
      open: all.length,
      heldUsd: formatUsd(sum(all.map(({ record }) => record.amount))),
    }
  })
}

function shape(
  admin: Admin,
  record: HoldRecord,
  nodeId: string,
  names: Awaited<ReturnType<typeof loadAccountNames>>,
): Hold {
  const { call } = record
  return {
    id: record.id,
    requestId: call.requestId,
    tenant: call.tenantSlug,
    tenantId: call.tenantId,
    keyId: call.keyId === null ? null : Number(call.keyId),
    route: call.route,
    provider: call.provider ?? '',
    model: call.model,
    amountUsd: formatUsd(record.amount),
    amountUsdNano: record.amount.toString(),
    openedAt: rfc3339(call.atMs),
    deadline: rfc3339(record.deadlineAtMs),
    ageMs: Math.max(0, admin.clock.now() - call.atMs),
    node: nodeId,
    isLocal: nodeId === admin.nodeId,
    accounts: record.parts.flatMap(({ accountId }) => {
      const name = names.get(accountId)
      if (!name) return []
      return [
        { id: accountId.toString(), budgetId: name.budgetId, scope: `tenant ${call.tenantSlug}`, period: name.period },
      ]
    }),
  }
}
