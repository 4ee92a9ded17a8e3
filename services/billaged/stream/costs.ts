import type { Logger } from '#platform/telemetry'
import { sleep } from '#platform/time'
import type { CostGap, CostSnapshot } from '../alerts/api.ts'
import { alertView } from '../alerts/watch.ts'
import type { ReadContext } from '../http/context.ts'
import { stopPatienceMs, waitAtMost } from '../patience.ts'
import { periodAt } from '../rating/periods.ts'
import { lastAlertNo, listAlerts } from '../store/budgets.ts'
import { loadCustomer } from '../store/customers.ts'
import { forecastPeriod } from '../store/pricing.ts'
import { gapsOf, type Snapshot, snapshotOf } from './snapshot.ts'

// The live cost of customers somebody looks at: measured and rated once for all its readers, however many.

export interface CostEvent {
  event: 'cost' | 'alert' | 'gap'
  /** Alerts are numbered; a reader that comes back with the number of the last one misses none. */
  id: bigint
  data: unknown
}

export type CostReader = (event: CostEvent) => void

export interface CostHub {
  /** Returns how to stop; null when there are too many readers. `after`: the last alert that the reader has. */
  subscribe(customerId: string, after: bigint | null, reader: CostReader): (() => void) | null
  close(): Promise<void>
}

export const readersMax = 500
export const readersPerCustomerMax = 20
const lookEveryMs = 2_000
/** Measuring a month of a large customer is work. For each second of it the watch rests this many. */
const restPerWork = 4
/** A cost that stays is told again this often, for readers that show its age. */
const repeatEveryMs = 15_000
/** What is spent an hour is the slope over so much of the past. */
const slopeMs = 10 * 60_000
const slopeMsMin = 5_000
const alertsMax = 1_000

interface Watched {
  readers: Set<CostReader>
  stopping: AbortController
  watching: Promise<void>
  last: { cost: CostSnapshot; atMs: number } | null
  alertNo: bigint | null
}

export function createCostHub(o: ReadContext & { log: Logger }): CostHub {
  const watched = new Map<string, Watched>()
  let readers = 0
  let isClosed = false

  function watch(customerId: string): Watched {
    const stopping = new AbortController()
    const one: Watched = { readers: new Set(), stopping, watching: Promise.resolve(), last: null, alertNo: null }
    one.watching = watchLoop(customerId, one)
    watched.set(customerId, one)
    return one
  }

  async function watchLoop(customerId: string, one: Watched) {
    const { signal } = one.stopping
    const look = createLook(o, customerId)
    while (!signal.aborted) {
      const beganMs = o.clock.monotonicMs()
      try {
        await tell(customerId, one, look)
      } catch (error) {
        if (!signal.aborted) o.log.warn({ err: error, customerId }, 'the live cost cannot be read now; trying again')
      }
      const restMs = Math.max(lookEveryMs, restPerWork * (o.clock.monotonicMs() - beganMs))
      await sleep(restMs, signal).catch(() => {})
    }
  }

  async function tell(customerId: string, one: Watched, look: ReturnType<typeof createLook>) {
    one.alertNo ??= await lastAlertNo(o.sql, customerId)
    const { cost, gaps } = await look()
    const alerts = await listAlerts(o.sql, { customerId, after: one.alertNo, from: null, limit: alertsMax })
    for (const alert of alerts) {
      one.alertNo = alert.no
      send(one, { event: 'alert', id: alert.no, data: alertView(alert) })
    }
    for (const gap of gaps) send(one, { event: 'gap', id: one.alertNo, data: gap })
    const nowMs = o.clock.monotonicMs()
    const isNew = one.last === null || !isSame(one.last.cost, cost) || nowMs - one.last.atMs >= repeatEveryMs
    if (!isNew) return
    one.last = { cost, atMs: nowMs }
    send(one, { event: 'cost', id: one.alertNo, data: cost })
  }

  return {
    subscribe(customerId, after, reader) {
      const one = watched.get(customerId)
      if (isClosed || readers >= readersMax || (one?.readers.size ?? 0) >= readersPerCustomerMax) return null
      const shared = one ?? watch(customerId)
      readers++
      shared.readers.add(reader)
      if (after !== null) void replay(customerId, after, reader)
      // The others have it; a new reader gets what is known and needs not wait for the next look.
      if (shared.last !== null) reader({ event: 'cost', id: shared.alertNo ?? 0n, data: shared.last.cost })
      return () => {
        if (!shared.readers.delete(reader)) return
        readers--
        if (shared.readers.size > 0) return
        shared.stopping.abort()
        if (watched.get(customerId) === shared) watched.delete(customerId)
      }
    },
    async close() {
      isClosed = true
      const all = [...watched.values()]
      for (const one of all) one.stopping.abort()
      await waitAtMost(Promise.all(all.map(one => one.watching)), stopPatienceMs)
    },
  }

  async function replay(customerId: string, after: bigint, reader: CostReader) {
    try {
      const missed = await listAlerts(o.sql, { customerId, after, from: null, limit: alertsMax })
      for (const alert of missed) reader({ event: 'alert', id: alert.no, data: alertView(alert) })
    } catch (error) {
      o.log.warn({ err: error, customerId }, 'missed alerts could not be read')
    }
  }
}

function send(one: Watched, event: CostEvent) {
  for (const reader of one.readers) reader(event)
}

/** One look at a customer's running period; remembers what the slope and the growth of gaps are told from. */
function createLook(o: ReadContext, customerId: string): () => Promise<{ cost: CostSnapshot; gaps: CostGap[] }> {
  let past: { atMs: number; totalNano: bigint }[] = []
  let periodFrom = -1
  let known: ReturnType<typeof gapsOf> | null = null
  return async () => {
    const nowMs = o.clock.now()
    const customer = await loadCustomer(o.sql, customerId, new Date(nowMs))
    if (customer === null) throw new Error(`customer ${customerId} is gone`)
    const period = periodAt(customer, nowMs)
    const forecast = await forecastPeriod(o.reader, o.meters, o.rules, customerId, period, nowMs)
    if (period.from !== periodFrom) {
      periodFrom = period.from
      past = []
      known = null
    }
    const snapshot: Snapshot = snapshotOf(customerId, period, forecast)
    const gapsNow = gapsOf(forecast)
    const gaps: CostGap[] = []
    if (known !== null)
      for (const [vmId, gap] of gapsNow) {
        const before = known.get(vmId)
        if (gap.unmeasuredNs === (before?.unmeasuredNs ?? 0n) && gap.hostDownNs === (before?.hostDownNs ?? 0n)) continue
        gaps.push({ customerId, vmId, unmeasuredNs: `${gap.unmeasuredNs}`, hostDownNs: `${gap.hostDownNs}` })
      }
    known = gapsNow
    past = past.filter(point => nowMs - point.atMs <= slopeMs)
    const [oldest] = past
    const spanMs = oldest === undefined ? 0 : nowMs - oldest.atMs
    const nanoPerHour =
      oldest === undefined || spanMs < slopeMsMin
        ? null
        : ((BigInt(snapshot.totalNano) - oldest.totalNano) * 3_600_000n) / BigInt(Math.trunc(spanMs))
    past.push({ atMs: nowMs, totalNano: BigInt(snapshot.totalNano) })
    const cost = {
      ...snapshot,
      asOf: new Date(nowMs).toISOString(),
      nanoPerHour: nanoPerHour === null ? null : `${nanoPerHour}`,
      budgetNano: customer.budgetNano,
    }
    return { cost, gaps }
  }
}

/** What only follows the clock is no news. */
function isSame(a: CostSnapshot, b: CostSnapshot): boolean {
  const plain = ({ asOf, forecastNano, nanoPerHour, ...rest }: CostSnapshot) => JSON.stringify(rest)
  return plain(a) === plain(b)
}
