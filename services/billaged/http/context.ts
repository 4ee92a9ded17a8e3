import type { Sql } from '#platform/postgres'
import type { Actor } from '#platform/tenancy/tenancy'
import type { Clock } from '#platform/time'
import type { CloseContext } from '../close/context.ts'
import type { Meter } from '../events/meter.ts'
import { othersAreBehind } from '../store/replica.ts'
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

/** Whether all that was acknowledged is folded, for reads that work with what a close works with. */
export async function isFolded(
  o: Pick<CloseContext, 'sql' | 'replica' | 'acknowledgedEnd' | 'waitUntilFolded'>,
): Promise<boolean> {
  return (await o.waitUntilFolded(o.acknowledgedEnd(), 0)) && !(await othersAreBehind(o.sql, o.replica))
}
