import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { rfc3339 } from '#platform/time'
import type { CustomerLedger, LedgerVm } from '../api.ts'
import { badRequest } from '../errors.ts'
import { hourMs, periodAt } from '../rating/periods.ts'
import { listAdjustments } from '../store/invoices.ts'
import { loadPolicies } from '../store/pricing.ts'
import { loadVmUsage } from '../store/usage.ts'
import { loadVmReport } from '../store/vm-report.ts'
import { ledgerRows } from '../usage/rows.ts'
import { mustActFor } from './authorize.ts'
import type { ReadContext } from './context.ts'
import { edgesFor, expiryOf, mustLoad, policyAt } from './customers.ts'
import { timeOf } from './meters.ts'
import { instant, limit, paramId, parseInput, wait } from './query.ts'

const ledgerQuery = z.object({
  from: instant.optional(),
  to: instant.optional(),
  cursor: z.string().max(255).default(''),
  limit: limit.refine(n => n <= 100, 'is at most 100 here: every reading of a VM is looked at'),
  wait,
})

const spanMsMax = 93 * 86_400_000
/** Named of one VM, newest last; its own page has them all. */
const gapsMax = 20

/** What was not seen, and why: the seconds of all VMs, gaps and oddities VM by VM, and what later invoices corrected. */
export function ledgerRoutes(app: FastifyInstance, o: ReadContext) {
  app.get('/v1/customers/:id/ledger', async (request): Promise<CustomerLedger> => {
    const id = paramId(request)
    mustActFor(request, id)
    const query = parseInput(ledgerQuery, request.query)
    const isComplete = await o.isComplete(query.wait)
    const customer = await mustLoad(o, id)
    const nowMs = o.clock.now()
    const fromMs = query.from ?? periodAt(customer, nowMs).from * hourMs
    const toMs = query.to ?? Math.max(nowMs, fromMs + 1)
    if (toMs <= fromMs) throw badRequest('INVALID_SPAN', 'to must be after from.')
    if (toMs - fromMs > spanMsMax)
      throw badRequest('SPAN_TOO_LONG', `The span is longer than ${spanMsMax / 86_400_000} days; ask for less.`)
    const policies = await loadPolicies(o.reader, id, [fromMs, toMs])
    const edgesMs = edgesFor('meter', fromMs, toMs, policies)
    const policyOf = (span: number) => policyAt(policies, edgesMs[span] ?? fromMs)
    const expired = await expiryOf(o, id, fromMs)
    const complete = expired === null && isComplete
    const ns = (ms: number) => BigInt(ms) * 1_000_000n
    const usage = await loadVmUsage(o.reader, id, edgesMs.map(ns), o.rules)
    const later = usage.filter(({ vmId }) => vmId > query.cursor).sort((a, b) => (a.vmId < b.vmId ? -1 : 1))
    const page = later.slice(0, query.limit)
    const vms: LedgerVm[] = []
    for (const vm of page) {
      const span = { fromNs: ns(fromMs), toNs: ns(toMs), nowNs: ns(nowMs) }
      const report = await loadVmReport(o.reader, { customerId: id, vmId: vm.vmId, rules: o.rules, ...span })
      const of = (kind: string) => report?.notes.filter(note => note.kind === kind) ?? []
      const gaps = of('gap')
      vms.push({
        vmId: vm.vmId,
        ...ledgerRows([vm], policyOf),
        gaps: gaps.slice(-gapsMax).map(gap => ({
          from: timeOf(gap.fromNs) ?? '',
          to: timeOf(gap.toNs) ?? '',
          rule: gap.rule ?? '',
        })),
        gapCount: gaps.length,
        conflicts: of('conflict').length,
        falls: of('fall').length,
        restartsUnproven: of('restart_unproven').length,
      })
    }
    return {
      customerId: id,
      from: rfc3339(fromMs),
      to: rfc3339(toMs),
      asOf: rfc3339(nowMs),
      complete,
      ...(expired ?? {}),
      ledger: ledgerRows(usage, policyOf),
      vms,
      adjustments: await listAdjustments(o.sql, id, { fromMs, toMs }),
      nextCursor: later.length > page.length ? (page.at(-1)?.vmId ?? null) : null,
    }
  })
}
