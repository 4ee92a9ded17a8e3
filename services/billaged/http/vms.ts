import type { FastifyInstance, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { rfc3339 } from '#platform/time'
import type { VmDetail, VmTimeline } from '../api.ts'
import { badRequest, notFound } from '../errors.ts'
import { hourMs, periodAt } from '../rating/periods.ts'
import { loadVmReport, type VmReport } from '../store/vm-report.ts'
import { quantity, vmMeterNames } from '../usage/quantity.ts'
import { mustActFor } from './authorize.ts'
import { conflictRoutes } from './conflicts.ts'
import type { ReadContext } from './context.ts'
import { mustLoad } from './customers.ts'
import { ledgerRoutes } from './ledger.ts'
import { timeOf } from './meters.ts'
import { instant, parseInput, wait } from './query.ts'

const params = z.object({ customer: z.string().min(1).max(255), vm: z.string().min(1).max(255) })
const spanQuery = z.object({ from: instant.optional(), to: instant.optional(), wait })

/** Longest span one answer folds reading by reading. */
const spanMsMax = 93 * 86_400_000

/** One VM: totals, lives, and each thing that lowered its bill; and the strip of how its time is known. */
export function vmRoutes(app: FastifyInstance, o: ReadContext) {
  conflictRoutes(app, o)
  ledgerRoutes(app, o)

  app.get('/v1/vms/:customer/:vm', async (request): Promise<VmDetail> => {
    const { report, head } = await load(request)
    const of = (kind: string) => report.notes.filter(note => note.kind === kind)
    const times = (kind: string) => of(kind).map(({ fromNs, toNs }) => ({ from: must(fromNs), to: must(toNs) }))
    return {
      ...head,
      totals: {
        ...Object.fromEntries(vmMeterNames.map(meter => [meter, `${quantity(report.cell, meter, 'zero')}`])),
        vm_memory_peak: `${report.peakBytes}`,
      },
      lives: report.lives.map(({ startNs, stopNs, endBy }) => ({
        start: must(startNs),
        stop: stopNs === null ? null : must(stopNs),
        endBy,
      })),
      hosts: report.instances,
      conflicts: of('conflict').length,
      glitches: of('glitch').length,
      conflictsAt: times('conflict').map(({ from }) => from),
      falls: times('fall'),
      restartsUnproven: times('restart_unproven'),
      gaps: of('gap').map(({ fromNs, toNs, rule = '' }) => ({
        from: must(fromNs),
        to: must(toNs),
        kind: 'unmeasured',
        rule,
      })),
    }
  })

  app.get('/v1/vms/:customer/:vm/timeline', async (request): Promise<VmTimeline> => {
    const { report, head } = await load(request)
    const strip = report.timeline.map(({ fromNs, toNs, kind }) => ({ from: must(fromNs), to: must(toNs), kind }))
    return { ...head, strip }
  })

  async function load(request: FastifyRequest): Promise<{ report: VmReport; head: Head }> {
    const { customer, vm } = parseInput(params, request.params)
    mustActFor(request, customer)
    const query = parseInput(spanQuery, request.query)
    const complete = await o.isComplete(query.wait)
    const settings = await mustLoad(o, customer)
    const nowMs = o.clock.now()
    const fromMs = query.from ?? periodAt(settings, nowMs).from * hourMs
    const toMs = query.to ?? Math.max(nowMs, fromMs + 1)
    if (toMs <= fromMs) throw badRequest('INVALID_SPAN', 'to must be after from.')
    if (toMs - fromMs > spanMsMax)
      throw badRequest('SPAN_TOO_LONG', `The span is longer than ${spanMsMax / 86_400_000} days; ask for less.`)
    const ns = (ms: number) => BigInt(ms) * 1_000_000n
    const report = await loadVmReport(o.reader, {
      customerId: customer,
      vmId: vm,
      fromNs: ns(fromMs),
      toNs: ns(toMs),
      rules: o.rules,
      nowNs: ns(nowMs),
    })
    if (report === null) throw notFound(`VM ${vm} of customer ${customer}`)
    const head = {
      customerId: customer,
      vmId: vm,
      from: rfc3339(fromMs),
      to: rfc3339(toMs),
      asOf: rfc3339(nowMs),
      complete,
    }
    return { report, head }
  }
}

type Head = Pick<VmDetail, 'customerId' | 'vmId' | 'from' | 'to' | 'asOf' | 'complete'>

function must(ns: bigint): string {
  return timeOf(ns) ?? ''
}
