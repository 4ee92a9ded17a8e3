// Daily partitions of `logs`, made before the rows that need them.

import { errorCode, type Sql } from '#platform/postgres'
import type { LogsTable } from './logs-table.ts'

const daySeconds = 86_400

export interface Partitions {
  /** Makes the partitions of these UTC days (whole days since 1970) that are missing. */
  ensure(days: Iterable<number>): Promise<void>
  /** Forgets what is known, after somebody else dropped a partition. */
  forget(): void
}

export function openPartitions(sql: Sql, table: LogsTable): Partitions {
  if (table.kind !== 'partitioned') return { ensure: async () => {}, forget: () => {} }
  return openDailyPartitions(sql, { schema: 'public', table: 'logs', boundOf: date => `${date} 00:00:00+00` })
}

export interface DailyTable {
  schema: string
  table: string
  /** How the start of a UTC day is written for the partition key. */
  boundOf: (date: string) => string
}

export function openDailyPartitions(sql: Sql, daily: DailyTable): Partitions {
  const known = new Set<number>()
  return {
    async ensure(days) {
      for (const day of new Set(days)) {
        if (known.has(day)) continue
        await create(sql, daily, day)
        // Years of distinct days would be a leak; asking again is cheap.
        if (known.size > 10_000) known.clear()
        known.add(day)
      }
    },
    forget: () => known.clear(),
  }
}

export function dayOf(seconds: number): number {
  return Math.floor(seconds / daySeconds)
}

/**
 * Attaching takes a weaker lock than CREATE … PARTITION OF, which would stop readers and writers of the whole table.
 * A day that another partition covers already, such as the one for old entries or one made by hand, is fine.
 */
async function create(sql: Sql, daily: DailyTable, day: number): Promise<void> {
  const { schema, table, boundOf } = daily
  if (day < firstDay || (await isCovered(sql, daily, day))) return
  const date = dateOf(day)
  const name = `${table}_p${date.replaceAll('-', '')}`
  try {
    await sql.begin(async tx => {
      await tx`select pg_advisory_xact_lock(hashtextextended(${`purser.partitions:${schema}.${table}`}, 0))`
      const [row] = await tx<{ found: boolean }[]>`select to_regclass(${`${schema}.${name}`}) is not null as found`
      if (row?.found) return
      await tx.unsafe(
        `create table ${schema}.${name} (like ${schema}.${table} including defaults including constraints including storage)`,
      )
      await tx.unsafe(
        `alter table ${schema}.${table} attach partition ${schema}.${name}
         for values from ('${boundOf(date)}') to ('${boundOf(dateOf(day + 1))}')`,
      )
    })
  } catch (error) {
    // 42P17: the range overlaps one that came meanwhile.
    if (errorCode(error) !== '42P17') throw error
  }
}

/** Whether some partition takes the noon of that day; MINVALUE and MAXVALUE stand without quotes and read as null. */
async function isCovered(sql: Sql, { schema, table }: DailyTable, day: number): Promise<boolean> {
  const [row] = await sql<{ found: boolean }[]>`
    select exists(
      select from pg_inherits i join pg_class c on c.oid = i.inhrelid,
        lateral pg_get_expr(c.relpartbound, c.oid) as bound,
        lateral (select substring(bound from 'FROM \\(''([^'']*)''\\)')::timestamptz as low,
                        substring(bound from 'TO \\(''([^'']*)''\\)')::timestamptz as high) as ends,
        lateral to_timestamp(${(day + 0.5) * daySeconds}::float8) as noon
      where i.inhparent = ${`${schema}.${table}`}::regclass
        and (low is null or low <= noon) and (high is null or noon < high)) as found`
  return row?.found ?? false
}

/** 0001-01-01: PostgreSQL writes earlier years in another way, and nobody logged then. */
const firstDay = -719_162

function dateOf(day: number): string {
  return new Date(day * daySeconds * 1_000).toISOString().slice(0, 10)
}
