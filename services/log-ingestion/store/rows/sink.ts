// The guide's table as the place where entries go.

import { copyBinary, type Sql } from '#platform/postgres'
import { eachRow, type PendingRecord, type RowsToStore, type Sink } from '../sink.ts'
import { defaultTenant } from '../tenant.ts'
import { BinaryRows } from './binary-rows.ts'
import { addTenantColumn } from './logs-table.ts'
import { dayOf, type Partitions } from './partitions.ts'

export function rowsSink({ sql, partitions }: { sql: Sql; partitions: Partitions }): Sink {
  let hasTenantColumn = false
  return {
    kind: 'rows',
    async prepare(rows) {
      const hasTenant = rows.records.some(({ record }) => record.tenant !== defaultTenant)
      if (hasTenant && !hasTenantColumn) {
        await addTenantColumn(sql)
        hasTenantColumn = true
      }
      const { encoded, days } = encode(rows, hasTenant)
      await partitions.ensure(days)
      const chunks = encoded.finish()
      return {
        write: tx => copyBinary(tx, { into: 'public.logs', columns: encoded.columns, chunks }),
        link: async () => {},
        totals: undefined,
      }
    },
    forget() {
      partitions.forget()
      hasTenantColumn = false
    },
  }
}

function encode(rows: RowsToStore, hasTenant: boolean): { encoded: BinaryRows; days: Set<number> } {
  const encoded = new BinaryRows({ hasTenant })
  const days = new Set<number>()
  eachRow(rows, (walk, id, pending) => {
    encoded.add(walk, id, pending.record.receivedUs, tenantMark(pending))
    days.add(dayOf(walk.seconds))
  })
  return { encoded, days }
}

function tenantMark({ record }: PendingRecord): string | null {
  return record.tenant === defaultTenant ? null : record.tenant
}
