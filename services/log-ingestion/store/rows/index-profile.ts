// The indexes of public.logs, changed on request while entries come in: new ones are made without keeping writers out,
// and only then the others go. Cut off in the middle, it goes on where it was.
//
//   fast     BRIN on timestamp, (service, timestamp), one that finds an id: what our own queries need
//   compat   the five of older installations; they cost most of the write path
//
// A primary key or unique index is never dropped: somebody may rely on it, and finding an id needs one.

import { errorCode, type Sql } from '#platform/postgres'
import { sleep } from '#platform/time'
import type { LogsTable } from './logs-table.ts'

export type IndexProfile = 'fast' | 'compat'

export interface IndexInfo {
  name: string
  definition: string
  bytes: bigint
  isUnique: boolean
}

interface Wanted {
  name: string
  on: string
  /** Any unique index that begins with id will do. */
  findsId?: true
}

const profiles: Readonly<Record<IndexProfile, readonly Wanted[]>> = {
  fast: [
    { name: 'logs_id_timestamp', on: '(id, "timestamp")', findsId: true },
    { name: 'logs_timestamp_brin', on: 'USING brin ("timestamp")' },
    { name: 'logs_service_timestamp', on: '(service, "timestamp" DESC)' },
  ],
  compat: [
    { name: 'idx_logs_timestamp', on: '("timestamp" DESC)' },
    { name: 'idx_logs_service', on: '(service)' },
    { name: 'idx_logs_level', on: '(level)' },
    { name: 'idx_logs_timestamp_service', on: '("timestamp" DESC, service)' },
    { name: 'idx_logs_metadata', on: 'USING gin (metadata)' },
  ],
}

/** Longest a drop waits for queries that use the index, and how often it tries: everybody else would queue behind it. */
const dropWaitMs = 2_000
const dropTries = 30

export async function listIndexes(sql: Sql): Promise<IndexInfo[]> {
  return await sql<IndexInfo[]>`
    select c.relname as name, pg_get_indexdef(i.indexrelid) as definition, i.indisunique as "isUnique",
           (select coalesce(sum(pg_relation_size(t.relid)), 0)::int8 from pg_partition_tree(i.indexrelid) t)
             + case when c.relkind = 'i' then pg_relation_size(i.indexrelid) else 0 end as bytes
    from pg_index i join pg_class c on c.oid = i.indexrelid
    where i.indrelid = 'public.logs'::regclass order by c.relname`
}

/** `sql` without a statement timeout: an index over a large table takes as long as it takes. Yields what it did. */
export async function* changeIndexes(
  sql: Sql,
  { kind }: Pick<LogsTable, 'kind'>,
  profile: IndexProfile,
): AsyncGenerator<string> {
  for (const wanted of profiles[profile]) {
    if (wanted.findsId && (await hasIdIndex(sql))) continue
    yield* kind === 'partitioned' ? createOnPartitions(sql, wanted) : create(sql, wanted, kind === 'hypertable')
  }
  const others = profiles[profile === 'fast' ? 'compat' : 'fast'].filter(({ findsId }) => !findsId)
  for (const { name } of others) if (await drop(sql, name, kind)) yield `dropped ${name}`
}

async function hasIdIndex(sql: Sql): Promise<boolean> {
  const rows = await sql`
    select 1 from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
    where i.indrelid = 'public.logs'::regclass and i.indisunique and i.indisvalid and a.attname = 'id'`
  return rows.length > 0
}

async function* create(sql: Sql, { name, on, findsId }: Wanted, isHypertable: boolean): AsyncGenerator<string> {
  const state = await stateOf(sql, name)
  if (state === 'valid') return
  // What an interrupted attempt left is of no use to anybody.
  if (state === 'invalid') await sql.unsafe(`drop index concurrently public.${name}`)
  if (!isHypertable)
    await sql.unsafe(`create ${findsId ? 'unique ' : ''}index concurrently ${name} on public.logs ${on}`)
  else if (findsId) await sql.unsafe(`create unique index ${name} on public.logs ${on}`)
  else await sql.unsafe(`create index ${name} on public.logs ${on} with (timescaledb.transaction_per_chunk)`)
  yield `created ${name}`
}

/** One partition after the other; the index of the table becomes valid with the last of them, and new partitions have
 *  theirs from the start. */
async function* createOnPartitions(sql: Sql, { name, on, findsId }: Wanted): AsyncGenerator<string> {
  if ((await stateOf(sql, name)) === 'valid') return
  const kind = findsId ? 'unique index' : 'index'
  await sql.unsafe(`create ${kind} if not exists ${name} on only public.logs ${on}`)
  const partitions = await sql<{ partition: string; part: string }[]>`
    select c.relname as partition, c.relname || ${`_${name.replace(/^(idx_)?logs_/, '')}`} as part
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'public.logs'::regclass and not exists (
      select from pg_inherits x join pg_index y on y.indexrelid = x.inhrelid
      where x.inhparent = ${`public.${name}`}::regclass and y.indrelid = i.inhrelid)
    order by c.relname`
  for (const { partition, part } of partitions) {
    const state = await stateOf(sql, part)
    if (state === 'invalid') await sql.unsafe(`drop index concurrently public.${part}`)
    if (state !== 'valid')
      await sql.unsafe(`create ${kind} concurrently ${part} on public.${partition} ${on}`).catch(error => {
        // Whole days go as partitions: this one has expired meanwhile.
        if (errorCode(error) !== undefinedTable) throw error
      })
    const attached = await sql.unsafe(`alter index public.${name} attach partition public.${part}`).catch(error => {
      if (errorCode(error) !== undefinedTable) throw error
      return null
    })
    if (attached) yield `created ${name} on ${partition}`
  }
}

const undefinedTable = '42P01'

async function stateOf(sql: Sql, name: string): Promise<'valid' | 'invalid' | 'none'> {
  const [row] = await sql<{ isValid: boolean }[]>`
    select indisvalid as "isValid" from pg_index where indexrelid = to_regclass(${`public.${name}`})`
  return row === undefined ? 'none' : row.isValid ? 'valid' : 'invalid'
}

async function drop(sql: Sql, name: string, kind: LogsTable['kind']): Promise<boolean> {
  if ((await stateOf(sql, name)) === 'none') return false
  if (kind === 'plain') {
    await sql.unsafe(`drop index concurrently public.${name}`)
    return true
  }
  for (let tries = 1; ; tries++) {
    try {
      await sql.begin(async tx => {
        await tx`select set_config('lock_timeout', ${String(dropWaitMs)}, true)`
        await tx.unsafe(`drop index public.${name}`)
      })
      return true
    } catch (error) {
      if (errorCode(error) !== lockNotAvailable) throw error
      if (tries >= dropTries)
        throw new Error(`${name} is in use by a long query or transaction; the rest is done, run this again later`)
      await sleep(dropWaitMs)
    }
  }
}

const lockNotAvailable = '55P03'
