// Taking expired entries out of the guide's table: whole partitions or chunks first, then single rows.

import type { Sql } from '#platform/postgres'
import type { OnErased } from '../store.ts'
import type { RetentionRule } from '../visibility.ts'
import type { LogsTable } from './logs-table.ts'

export async function expireRows(
  _sql: Sql,
  _table: LogsTable,
  _rules: readonly RetentionRule[],
  _nowMs: number,
  _onErased: OnErased,
  _signal?: AbortSignal,
): Promise<void> {
  throw new Error('BUG: expiry of the logs table is not there yet')
}
