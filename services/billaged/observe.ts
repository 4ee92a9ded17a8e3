import { Gauge } from 'prom-client'
import type { Journal } from '#platform/journal'
import type { Base } from '#platform/lifecycle'
import type { Folder } from './intake/folder.ts'
import type { Intake } from './intake/intake.ts'
import type { Activity } from './usage/activity.ts'

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
  gauge('billaged_queue_depth', 'Journal batches that are not folded yet.', () => depth(o.intake, o.folder))
  gauge(
    'billaged_journal_oldest_seconds',
    'Age of the oldest batch that is not folded yet.',
    () => o.journal.oldestAgeMs / 1000,
  )
  gauge('billaged_fold_lag_seconds', 'How far folding is behind intake.', () =>
    o.folder.isCaughtUp() ? 0 : o.journal.oldestAgeMs / 1000,
  )
}

/** One `usage summary` line per interval; returns how to stop it. */
export function summarise(o: { base: Base; everyMs: number; intake: Intake; activity: Activity }) {
  let before = o.intake.totals()
  const timer = setInterval(() => {
    const now = o.intake.totals()
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
