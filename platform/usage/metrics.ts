import { Counter, Gauge, type Registry } from '../telemetry.ts'
import type { Backlog } from './table.ts'

export interface OutboxMetrics {
  sent(events: number): void
  dead(events: number): void
  lost(): void
  failed(of: 'billaged' | 'database'): void
}

export function outboxMetrics(registry: Registry, o: { backlog(): Backlog; now(): number }): OutboxMetrics {
  const registers = [registry]
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read())
      },
    })
  gauge('usage_outbox_rows', 'Usage events that billaged has not confirmed yet.', () => o.backlog().waiting)
  gauge(
    'usage_outbox_dead_rows',
    'Usage events that were refused or given up and wait for a person.',
    () => o.backlog().dead,
  )
  gauge('usage_outbox_oldest_seconds', 'Age of the oldest event that waits.', () => {
    const { oldestMs } = o.backlog()
    return oldestMs === null ? 0 : Math.max(0, o.now() - oldestMs) / 1e3
  })
  const sent = new Counter({ name: 'usage_outbox_sent_total', help: 'Usage events confirmed by billaged.', registers })
  const dead = new Counter({
    name: 'usage_outbox_dead_total',
    help: 'Usage events refused by billaged, or too old.',
    registers,
  })
  const lost = new Counter({
    name: 'usage_outbox_lost_total',
    help: 'Usage events written to the log only, because the outbox was full.',
    registers,
  })
  const failed = new Counter({
    name: 'usage_outbox_failures_total',
    help: 'Passes that ended because billaged or the database did not answer as hoped.',
    labelNames: ['of'],
    registers,
  })
  return {
    sent: events => sent.inc(events),
    dead: events => dead.inc(events),
    lost: () => lost.inc(),
    failed: of => failed.inc({ of }),
  }
}
