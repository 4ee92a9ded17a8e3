import type { JournalPosition } from '#platform/journal'
import type { Queryable, Sql } from '#platform/postgres'
import type { Logger } from '#platform/telemetry'
import type { Actor, AuditEntry } from '#platform/tenancy/tenancy'
import type { Clock } from '#platform/time'
import type { Party } from '../api.ts'
import type { Meter } from '../events/meter.ts'
import type { Draft } from '../invoices/invoice.ts'
import type { SigningKey } from '../invoices/receipt.ts'
import type { PartReader } from '../store/series.ts'
import type { FoldRules } from '../usage/fold.ts'

/** What closing works with. */
export interface CloseContext {
  sql: Sql
  reader: PartReader
  rules: FoldRules
  meters: readonly Meter[]
  clock: Clock
  log: Logger
  /** This replica's id. */
  replica: string
  signingKey: SigningKey
  issuer: Issuer
  acknowledgedEnd(): JournalPosition
  /** What was found unreadable and is set aside, a sentence each. */
  damage(): Promise<string[]>
  waitUntilFolded(position: JournalPosition, timeoutMs: number): Promise<boolean>
  audit(entry: AuditEntry, tx?: Queryable): Promise<void>
  /** Brings what is about to be finalised to another system. A sentence says why it is not there: then it stays a draft. */
  push?: (draft: Draft) => Promise<string | null>
}

/** Who issues the invoices, and on what terms. */
export interface Issuer {
  seller: Party
  terms: string | null
  /** Files of fonts for letters that DejaVu Sans lacks. */
  fonts?: readonly string[]
}

/** Who closes, and what over. */
export interface CloseBy {
  actor: Actor
  /** Why open quarantine and unrated usage are let pass; null: they are not. */
  forceReason: string | null
}
