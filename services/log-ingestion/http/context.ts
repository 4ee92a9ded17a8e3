// What the query and admin routes are given.

import { isUnavailable, type Sql } from '#platform/postgres'
import type { Logger } from '#platform/telemetry'
import type { Clock } from '#platform/time'
import { storeUnavailable } from '../errors.ts'
import type { IntakeMetrics } from '../pipeline/metrics.ts'
import type { TailHub } from '../pipeline/tail-hub.ts'
import type { Receipts } from '../receipt.ts'
import type { Store } from '../store/store.ts'
import type { Access } from './caller.ts'
import type { Gate } from './gate.ts'

export interface QueryContext {
  access: Access
  gate: Gate
  clock: Clock
  log: Logger
  metrics: IntakeMetrics
  hub: TailHub
  receipts: Receipts
  replica: string
  /** What is stored, whichever sink holds it; undefined until the database was there once. */
  store: () => Store | undefined
  /** The pool for reading; as above. */
  reads: () => Sql | undefined
  /** Everything accepted before this time can be found. */
  watermarkUs: () => bigint
  intake: () => IntakeState
}

export interface IntakeState {
  startedMonotonicMs: number
  pendingRows: number
  storedRows: number
  flushes: number
  failures: number
  isWriterHealthy: boolean
  problem: string | undefined
  batchRows: number
  flushIntervalMs: number
  isRateLimited: boolean
  rateLimitRps: number
}

/** Runs work on the stored entries; an absent database is a 503 that says so. */
export async function withReads<T>(context: QueryContext, work: (store: Store) => Promise<T>): Promise<T> {
  return await reading(context, context.store(), work)
}

/** The same for tables beside them: totals, ranges, settings. */
export async function withSql<T>(context: QueryContext, work: (sql: Sql) => Promise<T>): Promise<T> {
  return await reading(context, context.reads(), work)
}

async function reading<P, T>(context: QueryContext, part: P | undefined, work: (part: P) => Promise<T>): Promise<T> {
  if (part === undefined) throw storeUnavailable(context.intake().problem ?? 'it was not reached yet')
  try {
    return await work(part)
  } catch (error) {
    if (isUnavailable(error)) throw storeUnavailable(error instanceof Error ? error.message : String(error))
    throw error
  }
}
