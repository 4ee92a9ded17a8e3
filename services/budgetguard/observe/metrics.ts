// The families of this service. `model` is a name of the catalogue or "other"; no key, user or session is ever a label.

import { Counter, Gauge, Histogram, type Registry } from '#platform/telemetry'

export type Metrics = ReturnType<typeof createMetrics>

export interface Gauges {
  holdsOpen(): number
  heldNano(): bigint
  oldestHoldS(): number
  leasesOpenNano(): bigint
  ledgerLagS(): number
  utilization(): Iterable<{ budgetId: number; scope: string; period: string; ratio: number }>
  isDatabaseUp(): boolean
}

const fast = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1]
const slow = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600]
/** Most budgets shown one by one. */
const utilizationSeriesMax = 5_000

export function createMetrics(registry: Registry) {
  const registers = [registry]
  const counter = <T extends string>(name: string, help: string, labelNames: readonly T[] = []) =>
    new Counter<T>({ name: `budgetguard_${name}`, help, labelNames, registers })
  const histogram = <T extends string>(name: string, help: string, buckets: number[], labelNames: readonly T[] = []) =>
    new Histogram<T>({ name: `budgetguard_${name}`, help, labelNames, buckets, registers })

  return {
    requests: counter('requests_total', 'Calls of known tenants.', ['route', 'provider', 'model', 'outcome']),
    requestSeconds: histogram('request_duration_seconds', 'Whole call.', slow, ['route', 'stream']),
    overheadSeconds: histogram('overhead_seconds', 'Time added by the gateway.', fast, ['phase']),
    upstreamRequests: counter('upstream_requests_total', 'Answers of providers; code 0: none came.', [
      'provider',
      'model',
      'code',
    ]),
    firstByteSeconds: histogram('time_to_first_byte_seconds', 'From sending to the provider’s headers.', slow, [
      'provider',
    ]),
    tokens: counter('tokens_total', 'Tokens booked.', ['provider', 'model', 'class']),
    spend: counter('spend_nanousd_total', 'Nano-dollars booked.', ['provider', 'model']),
    saved: counter('saved_nanousd_total', 'Nano-dollars not spent, by what saved them.', ['by']),
    overspend: counter('overspend_nanousd_total', 'Nano-dollars booked above a hard limit. Must stay 0.'),
    overrun: counter('hold_overrun_nanousd_total', 'Nano-dollars a provider charged beyond the hold.', [
      'provider',
      'model',
      'reason',
    ]),
    lastCallOvershoot: counter('last_call_overshoot_nanousd_total', 'Overshoot of last_call budgets.'),
    holdsReaped: counter('holds_reaped_total', 'Holds ended without their owner.', ['reason']),
    secondEnds: counter('holds_second_end_total', 'Ends of holds that had ended already; ignored.'),
    leaseAcquireSeconds: histogram('lease_acquire_seconds', 'One round of taking slices.', fast),
    leaseRecalls: counter('lease_recalls_total', 'Times other processes were asked for unused slices.'),
    leasesLost: counter('leases_lost_total', 'Slices frozen because nobody renewed them.'),
    blocked: counter('budget_blocked_total', 'Calls refused for money, by scope type.', ['scope']),
    rateLimited: counter('rate_limited_total', 'Calls refused for rate.', ['kind']),
    authFailures: counter('auth_failures_total', 'Credentials refused.', ['reason']),
    ledgerRows: counter('ledger_rows_total', 'Calls folded into the ledger.', ['status']),
    priceUnknown: counter('price_unknown_total', 'Calls refused because nobody knows the price.', ['provider']),
    streamsCut: counter('streams_cut_total', 'Streams that ended early.', ['reason']),
    streamsOpen: new Gauge({ name: 'budgetguard_streams_open', help: 'Streams being relayed.', registers }),
  }
}

/** Families whose value is looked up when somebody reads them. */
export function watchGauges(registry: Registry, gauges: Gauges): void {
  const registers = [registry]
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name: `budgetguard_${name}`,
      help,
      registers,
      collect() {
        this.set(read())
      },
    })
  gauge('holds_open', 'Holds open in this process.', gauges.holdsOpen)
  gauge('holds_open_nanousd', 'Nano-dollars held by them.', () => Number(gauges.heldNano()))
  gauge('hold_oldest_seconds', 'Age of the oldest.', gauges.oldestHoldS)
  gauge('leases_open_nanousd', 'Nano-dollars in slices of this process.', () => Number(gauges.leasesOpenNano()))
  gauge('ledger_lag_seconds', 'How long the oldest unfolded record has waited.', gauges.ledgerLagS)
  new Gauge({
    name: 'budgetguard_budget_utilization_ratio',
    help: 'Spent and held share of a budget’s window, as this process sees it.',
    labelNames: ['budget_id', 'scope', 'period'],
    registers,
    collect() {
      this.reset()
      let series = 0
      for (const { budgetId, scope, period, ratio } of gauges.utilization()) {
        if (++series > utilizationSeriesMax) break
        this.labels(String(budgetId), scope, period).set(ratio)
      }
    },
  })
  new Gauge({
    name: 'budgetguard_degraded',
    help: '1 while a dependency is away.',
    labelNames: ['dependency'],
    registers,
    collect() {
      this.labels('database').set(gauges.isDatabaseUp() ? 0 : 1)
    },
  })
}
