// Log lines of builds. A line's number comes from its build's row, so lines are gap-free whoever writes them, and the
// number is only seen when the line is.

import { arrayLiteral, type Queryable, type Sql } from '#platform/postgres'
import type { LogLevel, LogLine } from '../build/job.ts'
import { type BuildState, buildStates } from '../build-state.ts'

export interface StoredLine extends LogLine {
  seq: bigint
  atMs: number
}

export type NewLine = LogLine & { atMs: number }

export interface Lease {
  buildId: string
  owner: string
  epoch: bigint
}

/** A build's log ends here, with one line that says so; errors go on. Bytes of messages. */
export const logBytesMax = 10 * 1024 * 1024
export const logChannel = 'builderd_log'

/**
 * Appends in order and moves what else the owner has to say. Batches of one lease are numbered from 1: one that comes
 * again, because a cut connection lost the answer, is stored once. @returns false when the lease is not the caller's
 * any more, and then nothing was written.
 */
export async function appendOwnedLines(
  sql: Sql,
  lease: Lease,
  batch: number,
  lines: readonly NewLine[],
  moved: { progress: number; step: string; runningMs: number; pulledBytes: number },
): Promise<boolean> {
  return sql.begin(async tx => {
    const [row] = await tx<{ logSeq: bigint }[]>`
      update builderd.builds
      set log_seq = log_seq + ${lines.length}, log_bytes = log_bytes + ${bytesOf(lines)}, log_batch = ${batch},
          progress = greatest(progress, ${moved.progress}), step = ${moved.step},
          running_ms = greatest(running_ms, ${moved.runningMs}), pulled_bytes = greatest(pulled_bytes, ${moved.pulledBytes})
      where build_id = ${lease.buildId} and lease_owner = ${lease.owner} and lease_epoch = ${lease.epoch}
        and log_batch = ${batch - 1}
      returning log_seq as "logSeq"`
    if (row) {
      await insertLines(tx, lease.buildId, row.logSeq - BigInt(lines.length), lines)
      return true
    }
    const [known] = await tx<{ is: boolean }[]>`
      select log_batch = ${batch} as is from builderd.builds
      where build_id = ${lease.buildId} and lease_owner = ${lease.owner} and lease_epoch = ${lease.epoch}`
    return known?.is ?? false
  })
}

/** For lines of the service itself, as part of another change of the build. */
export async function appendLines(tx: Queryable, buildId: string, lines: readonly NewLine[]): Promise<void> {
  const [row] = await tx<{ logSeq: bigint }[]>`
    update builderd.builds set log_seq = log_seq + ${lines.length} where build_id = ${buildId}
    returning log_seq as "logSeq"`
  if (row) await insertLines(tx, buildId, row.logSeq - BigInt(lines.length), lines)
}

async function insertLines(tx: Queryable, buildId: string, before: bigint, lines: readonly NewLine[]) {
  if (lines.length === 0) return
  await tx`
    insert into builderd.build_logs (build_id, seq, at, level, component, message, metadata)
    select ${buildId}, ${before} + l.n, l.at, l.level, l.component, l.message, l.metadata
    from unnest(
      ${arrayLiteral(lines.map(line => new Date(line.atMs).toISOString()))}::timestamptz[],
      ${arrayLiteral(lines.map(line => line.level))}::text[],
      ${arrayLiteral(lines.map(line => line.component))}::text[],
      ${arrayLiteral(lines.map(line => storable(line.message)))}::text[],
      ${arrayLiteral(lines.map(line => (line.metadata ? JSON.stringify(line.metadata) : null)))}::jsonb[]
    ) with ordinality as l(at, level, component, message, metadata, n)`
  await tx`select pg_notify(${logChannel}, ${buildId})`
}

/** PostgreSQL's text holds no NUL; messages quote names that might. */
function storable(message: string): string {
  return message.replaceAll('\0', '\\0')
}

function bytesOf(lines: readonly NewLine[]): number {
  return lines.reduce((sum, line) => sum + Buffer.byteLength(line.message), 0)
}

export interface LogPage {
  /** Undefined when there is no such build (any more). */
  state: BuildState | undefined
  lines: StoredLine[]
  /** The build's newest line. */
  lastSeq: bigint
}

/** Lines after `after`, with the build's state as of before they were read: a terminal state means no more will come. */
export async function loadLines(sql: Sql, buildId: string, after: bigint, limit: number): Promise<LogPage> {
  const [build] = await sql<{ state: string; logSeq: bigint }[]>`
    select state, log_seq as "logSeq" from builderd.builds where build_id = ${buildId} and deleted_at is null`
  if (!build) return { state: undefined, lines: [], lastSeq: after }
  const lines =
    build.logSeq > after
      ? await sql<LineRow[]>`
          select seq, at, level, component, message, metadata from builderd.build_logs
          where build_id = ${buildId} and seq > ${after} and seq <= ${build.logSeq} order by seq limit ${limit}`
      : []
  return { state: stateOf(build.state), lines: lines.map(toLine), lastSeq: build.logSeq }
}

/** The newest `limit` lines, oldest first. */
export async function loadLastLines(sql: Queryable, buildId: string, limit: number): Promise<StoredLine[]> {
  const rows = await sql<LineRow[]>`
    select seq, at, level, component, message, metadata from builderd.build_logs
    where build_id = ${buildId} order by seq desc limit ${limit}`
  return rows.map(toLine).reverse()
}

interface LineRow {
  seq: bigint
  at: Date
  level: LogLevel
  component: LogLine['component']
  message: string
  metadata: Record<string, string> | null
}

function toLine({ at, metadata, ...row }: LineRow): StoredLine {
  return { ...row, atMs: at.getTime(), ...(metadata && { metadata }) }
}

export function stateOf(text: string): BuildState {
  const state = buildStates.find(known => known === text)
  if (!state) throw new Error(`BUG: a build is in the state ${text}`)
  return state
}

/** Partitions for the days around `nowMs`, and away with those older than `keepDays`. */
export async function turnLogPartitions(sql: Sql, nowMs: number, keepDays: number): Promise<string[]> {
  const day = (offset: number) => new Date(nowMs + offset * 86_400_000).toISOString().slice(0, 10)
  for (const offset of [-1, 0, 1, 2]) {
    const name = partitionName(day(offset))
    const bounds = `from ('${day(offset)}T00:00:00Z') to ('${day(offset + 1)}T00:00:00Z')`
    await sql
      .unsafe(`create table if not exists builderd.${name} partition of builderd.build_logs for values ${bounds}`)
      .catch(error => {
        // Lines of that day already lie in the rest partition: they stay there, and so do the day's others.
        if (!(error instanceof Error && 'code' in error && error.code === '23514')) throw error
      })
  }
  const old = await sql<{ name: string }[]>`
    select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'builderd.build_logs'::regclass and c.relname ~ '^build_logs_[0-9]{8}$'
      and c.relname < ${partitionName(day(-keepDays))}`
  for (const { name } of old) await sql.unsafe(`drop table if exists builderd.${name}`)
  await sql`delete from builderd.build_logs_rest where at < ${new Date(nowMs - keepDays * 86_400_000)}`
  return old.map(({ name }) => name)
}

function partitionName(day: string): string {
  return `build_logs_${day.replaceAll('-', '')}`
}
