// The guide's table as the place where entries go.

import { copyBinary, type Sql } from '#platform/postgres'
import { eachRow, type PendingRecord, type RowsToStore, type Sink } from '../sink.ts'
import { defaultTenant } from '../tenant.ts'
import { BinaryRows } from './binary-rows.ts'
import { type HashedGroup, hashGroups, linkGroups, RowGroups } from './chain.ts'
import { addTenantColumn } from './logs-table.ts'
import { dayOf, type Partitions } from './partitions.ts'

export function rowsSink({
  sql,
  partitions,
  isChained = false,
}: {
  sql: Sql
  partitions: Partitions
  /** Whether each commit leaves a link of evidence. */
  isChained?: boolean
}): Sink {
  let hasTenantColumn = false
  return {
    kind: 'rows',
    async prepare(rows) {
      const hasTenant = rows.records.some(({ record }) => record.tenant !== defaultTenant)
      if (hasTenant && !hasTenantColumn) {
        await addTenantColumn(sql)
        hasTenantColumn = true
      }
      const groups = isChained ? new RowGroups() : undefined
      const { encoded, days } = encode(rows, hasTenant, groups)
      await partitions.ensure(days)
      const chunks = encoded.finish()
      let hashed: HashedGroup[] = []
      return {
        async write(tx) {
          await copyBinary(tx, { into: 'public.logs', columns: encoded.columns, chunks })
          if (groups) hashed = await hashGroups(tx, groups.all)
        },
        link: async tx => {
          if (groups) await linkGroups(tx, hashed)
        },
        totals: undefined,
      }
    },
    forget() {
      partitions.forget()
      hasTenantColumn = false
    },
  }
}

function encode(
  rows: RowsToStore,
  hasTenant: boolean,
  groups: RowGroups | undefined,
): { encoded: BinaryRows; days: Set<number> } {
  const encoded = new BinaryRows({ hasTenant })
  const days = new Set<number>()
  eachRow(rows, (walk, id, pending) => {
    encoded.add(walk, id, pending.record.receivedUs, tenantMark(pending))
    days.add(dayOf(walk.seconds))
    groups?.add(pending.record.tenant, id, walk.seconds, walk.nanos)
  })
  return { encoded, days }
}

function tenantMark({ record }: PendingRecord): string | null {
  return record.tenant === defaultTenant ? null : record.tenant
}
