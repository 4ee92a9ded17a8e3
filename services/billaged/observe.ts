import { Code } from '@connectrpc/connect'
import { codeToString } from '@connectrpc/connect/protocol-connect'
import { Counter, Gauge } from 'prom-client'
import type { Journal } from '#platform/journal'
import type { Base } from '#platform/lifecycle'
import type { Folder } from './intake/folder.ts'
import type { Intake } from './intake/intake.ts'
import type { Activity, ActivityEvents } from './usage/activity.ts'

/** Gauges over what the parts know anyway, read when somebody scrapes. */
export function observe(o: { base: Base; journal: Journal; intake: Intake; folder: Folder; activity: Activity }) {
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name,
      help,
      registers: [o.base.registry],
      collect() {
        this.set(read())
      },
    })
  gauge('billaged_active_vms', 'VMs with a recent sign of life, as this replica heard.', () => o.activity.countActive())
  gauge('billaged_resident_series', 'VMs held in memory.', () => o.activity.size())
  gauge('billaged_queue_depth', 'Journal batches that are not folded yet.', () => depth(o.intake, o.folder))
  gauge(
    'billaged_journal_oldest_seconds',
    'Age of the oldest batch that is not folded yet.',
    () => o.journal.oldestAgeMs / 1000,
  )
  countRefusals(o.base)
  gauge('billaged_fold_lag_seconds', 'How far folding is behind intake.', () =>
    o.folder.isCaughtUp() ? 0 : o.journal.oldestAgeMs / 1000,
  )
}

/** Counters of what the activity of VMs and hosts shows. */
export function observeActivity({ registry, log }: Base): ActivityEvents {
  const registers = [registry]
  const gaps = new Counter({
    name: 'billaged_gap_seconds_total',
    help: 'Seconds without readings (unmeasured) and VM-seconds without a heartbeat of their host (host_down), as heard here.',
    labelNames: ['kind'],
    registers,
  })
  for (const kind of ['unmeasured', 'host_down']) gaps.inc({ kind }, 0)
  const expired = new Counter({
    name: 'billaged_lease_expired_total',
    help: 'Hosts that fell silent for HEARTBEAT_LEASE.',
    registers,
  })
  return {
    gap: (kind, seconds) => gaps.inc({ kind }, seconds),
    leaseExpired(instanceId) {
      expired.inc()
      log.warn({ instanceId }, 'host silent: its VMs are taken for down since its last heartbeat')
    },
  }
}

/** `billaged_errors_total{code}`: every call that was not answered with success, by Connect code. */
function countRefusals({ registry }: Base) {
  new Counter({
    name: 'billaged_errors_total',
    help: 'Requests refused, by Connect code.',
    labelNames: ['code'],
    registers: [registry],
    async collect() {
      const sums = new Map<string, number>()
      for (const [name, codeOf] of sources) {
        const { values = [] } = (await registry.getSingleMetric(name)?.get()) ?? {}
        for (const { labels, value } of values) {
          const code = codeOf(labels)
          if (code !== null) sums.set(code, (sums.get(code) ?? 0) + value)
        }
      }
      this.reset()
      for (const [code, value] of sums) this.inc({ code }, value)
    },
  })
}

type Labels = Partial<Record<string, string | number>>
const sources: readonly [name: string, codeOf: (labels: Labels) => string | null][] = [
  ['rpc_server_requests_total', ({ rpc_status }) => (rpc_status === 'ok' ? null : String(rpc_status))],
  ['billaged_http_requests_total', ({ status }) => codeOfStatus[String(status)] ?? null],
]

const codeOfStatus: Readonly<Record<string, string>> = {
  400: codeToString(Code.InvalidArgument),
  401: codeToString(Code.Unauthenticated),
  403: codeToString(Code.PermissionDenied),
  404: codeToString(Code.NotFound),
  409: codeToString(Code.AlreadyExists),
  413: codeToString(Code.ResourceExhausted),
  429: codeToString(Code.ResourceExhausted),
  500: codeToString(Code.Internal),
  501: codeToString(Code.Unimplemented),
  503: codeToString(Code.Unavailable),
}

/** One `usage summary` line per interval; returns how to stop it. */
export function summarise(o: { base: Base; everyMs: number; intake: Intake; activity: Activity }) {
  let before = o.intake.totals()
  const timer = setInterval(() => {
    const now = o.intake.totals()
    o.activity.sweep()
    o.base.log.info(
      {
        activeVms: o.activity.countActive(),
        batches: now.batches - before.batches,
        samples: now.samples - before.samples,
        events: now.events - before.events,
      },
      'usage summary',
    )
    before = now
  }, o.everyMs)
  return async () => clearInterval(timer)
}

function depth(intake: Intake, folder: Folder): number {
  if (folder.isCaughtUp()) return 0
  const [last, folded] = [intake.lastSequence(), folder.lastSequence()]
  // A backlog of an earlier life is there before this one appended or folded anything.
  return last === null || folded === null ? 1 : Math.max(1, Number(last - folded))
}
