import type { JournalPosition } from '#platform/journal'
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
  /** The end of what this replica has acknowledged. */
  acknowledgedEnd(): JournalPosition
  waitUntilFolded(position: JournalPosition, timeoutMs: number): Promise<boolean>
  /** Every replica has folded all it acknowledged. */
  isComplete(): Promise<boolean>
  audit(entry: { actor: Actor; action: string; object: string; before?: unknown; after?: unknown }): Promise<void>
}
