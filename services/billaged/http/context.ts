import type { Sql } from '#platform/postgres'
import type { Actor } from '#platform/tenancy/tenancy'
import type { Clock } from '#platform/time'
import type { Meter } from '../events/meter.ts'
import type { PartReader } from '../store/series.ts'
import type { FoldRules } from '../usage/fold.ts'

/** What the routes of /v1 work with. */
export interface ReadContext {
  sql: Sql
  reader: PartReader
  rules: FoldRules
  meters: readonly Meter[]
  clock: Clock
  /** Whether every replica has folded all it acknowledged before the call; waits for that, at most `waitMs`. Without
   *  waiting, others are believed what they said last, every two seconds. */
  isComplete(waitMs: number): Promise<boolean>
  audit(entry: { actor: Actor; action: string; object: string; before?: unknown; after?: unknown }): Promise<void>
}
