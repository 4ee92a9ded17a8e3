import { Gauge, type Registry } from 'prom-client'
import { isUnavailable } from '#platform/postgres'
import { sleep } from '#platform/time'
import { announceBlocked, announceUnrated } from '../alerts/announcements.ts'
import { formatDecimal } from '../decimal.ts'
import { stopPatienceMs, waitAtMost } from '../patience.ts'
import { hourMs, periodAt } from '../rating/periods.ts'
import { type CustomerRow, listCustomers } from '../store/customers.ts'
import { countUnmeterable } from '../store/events.ts'
import { hourNs, pricePeriod } from '../store/pricing.ts'
import { closePeriod } from './close.ts'
import type { CloseContext } from './context.ts'
import { foldingBlockers, openPeriodsBefore } from './gate.ts'

// Unblocked periods close by themselves at their end + CLOSE_GRACE, and usage that no price takes is noticed while the
// month runs. Every replica sweeps; closing is the same whoever does it, so they need not agree who.

/** A blocked or finished customer is looked at again after this: data may come late, and a person may mend it. */
const lookAgainMs = 10 * 60_000
/** Rating a month of a large customer is work. For each second of it the sweep rests this many: intake comes first. */
const restPerWork = 4

/** Stands among the meters of `billaged_unrated_usage`. */
const unmeterableMeter = 'unmeterable_events'

const actor = { kind: 'system', name: 'close' } as const

export function startSweep(
  o: CloseContext,
  { graceMs, everyMs, registry }: { graceMs: number; everyMs: number; registry: Registry },
): () => Promise<void> {
  const gauges = createGauges(registry)
  // Nobody asks for these periods again soon: kept in memory they would only push out those that somebody looks at.
  const { running: _, ...reader } = o.reader
  const dueMs = new Map<string, number>()
  const unrated = new Map<string, Map<string, number>>()
  const stopping = new AbortController()
  let timer: NodeJS.Timeout | undefined
  let pass = Promise.resolve()

  async function sweep() {
    for (let after = ''; !stopping.signal.aborted; ) {
      const now = new Date(o.clock.now())
      const page = await listCustomers(o.sql, { after, limit: 200, only: null, now })
      for (const customer of page) {
        const beganMs = o.clock.monotonicMs()
        if (stopping.signal.aborted || (dueMs.get(customer.id) ?? 0) > beganMs) continue
        dueMs.set(customer.id, beganMs + lookAgainMs)
        // The machine's own time, not the service's: a clock that is set forward is no work.
        const workBeganMs = performance.now()
        // One that fails does not keep the others from closing.
        await look(customer).catch((error: unknown) => {
          if (isUnavailable(error)) throw error
          o.log.error({ err: error, customerId: customer.id }, 'cannot look after the periods of a customer')
        })
        await sleep(restPerWork * (performance.now() - workBeganMs), stopping.signal).catch(() => {})
      }
      const last = page.at(-1)
      if (last === undefined || page.length < 200) break
      after = last.id
    }
    await gauges.update(o, unrated)
  }

  async function look(customer: CustomerRow) {
    const running = periodAt(customer, o.clock.now())
    for (const period of await openPeriodsBefore(o, customer, running)) {
      if (stopping.signal.aborted || period.to * hourMs + graceMs > o.clock.now()) break
      const folding = await foldingBlockers(o)
      const by = { actor, forceReason: null }
      const outcome = await closePeriod(o, { customer, period, folding, dryRun: false, by })
      if (outcome.kind === 'finalised') o.log.info({ customerId: customer.id, invoiceId: outcome.id }, 'period closed')
      if (outcome.kind !== 'blocked') continue
      o.log.warn({ customerId: customer.id, invoiceId: outcome.id, reasons: outcome.reasons }, 'close blocked')
      const { id: invoiceId, reasons } = outcome
      await announceBlocked(o.sql, { customerId: customer.id, invoiceId, reasons, atMs: o.clock.now() })
      break
    }
    const priced = await pricePeriod(reader, o.meters, o.rules, customer.id, running, null)
    const meters = new Map<string, number>()
    for (const { meter, quantityE9 } of priced.unrated)
      meters.set(meter, (meters.get(meter) ?? 0) + Number(quantityE9) / 1e9)
    // What no meter could take is no usage, and perhaps should be: it rings with what no price took.
    const unmeterable = await countUnmeterable(o.sql, customer.id, hourNs(running.from), hourNs(running.to))
    if (unmeterable > 0) meters.set(unmeterableMeter, unmeterable)
    unrated.set(customer.id, meters)
    if (unmeterable > 0) {
      const told = { meter: unmeterableMeter, quantity: `${unmeterable}`, unit: 'events', atMs: o.clock.now() }
      await announceUnrated(o.sql, { customerId: customer.id, period: running, ...told })
    }
    for (const { meter, quantityE9, unit } of priced.unrated) {
      const quantity = formatDecimal(quantityE9)
      const told = { customerId: customer.id, period: running, meter, quantity, unit, atMs: o.clock.now() }
      await announceUnrated(o.sql, told)
    }
  }

  const schedule = () => {
    timer = setTimeout(() => {
      pass = sweep()
        .catch((error: unknown) => o.log.warn({ err: error }, 'closing is not looked after now; trying again'))
        .then(() => {
          if (!stopping.signal.aborted) schedule()
        })
    }, everyMs)
  }
  schedule()
  return async () => {
    stopping.abort()
    clearTimeout(timer)
    await waitAtMost(pass, stopPatienceMs)
  }
}

function createGauges(registry: Registry) {
  const registers = [registry]
  const invoices = new Gauge({
    name: 'billaged_invoices',
    help: 'Invoices by state, as of the last sweep.',
    labelNames: ['state'],
    registers,
  })
  const blockers = new Gauge({
    name: 'billaged_close_blockers',
    help: 'Reasons that keep ended periods open, as the last close of each found them.',
    labelNames: ['reason'],
    registers,
  })
  const unratedUsage = new Gauge({
    name: 'billaged_unrated_usage',
    help: 'Usage of running periods that no price takes, in units of the meter; looked at every ten minutes.',
    labelNames: ['meter'],
    registers,
  })
  for (const state of ['draft', 'finalised', 'void']) invoices.set({ state }, 0)
  return {
    async update(o: CloseContext, unrated: ReadonlyMap<string, ReadonlyMap<string, number>>) {
      const states = await o.sql<{ state: string; count: number }[]>`
        select state, count(*)::int4 as count from billaged.invoice group by state`
      for (const state of ['draft', 'finalised', 'void'])
        invoices.set({ state }, states.find(row => row.state === state)?.count ?? 0)
      const reasons = await o.sql<{ reason: string; count: number }[]>`
        select b ->> 'code' as reason, count(*)::int4 as count
        from billaged.invoice, jsonb_array_elements(blockers) b where state = 'draft' group by 1`
      blockers.reset()
      for (const { reason, count } of reasons) blockers.set({ reason }, count)
      unratedUsage.reset()
      for (const meters of unrated.values())
        for (const [meter, quantity] of meters) unratedUsage.inc({ meter }, quantity)
    },
  }
}
