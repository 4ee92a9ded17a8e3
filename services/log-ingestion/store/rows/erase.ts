// Taking entries out of the guide's table by filter.

import type { Sql } from '#platform/postgres'
import type { ErasePlan, OnErased } from '../store.ts'

/** Chunk by chunk, each in one transaction together with what `onErased` writes; run again, it goes on. */
export async function eraseRows(
  _sql: Sql,
  _plan: ErasePlan,
  _onErased: OnErased,
  _signal?: AbortSignal,
): Promise<void> {
  throw new Error('BUG: deleting from the logs table is not there yet')
}
