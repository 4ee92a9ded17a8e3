// Plain SQL files, applied once, in order, by whichever replica comes first.
//
// Each owner has a schema and keeps <schema>.migration(version, name, checksum, applied_at) in it. Every file runs in a
// transaction of its own together with its row, so a crash leaves it applied or not. Replicas take turns by an advisory
// lock that ends with the transaction (a pooler cannot leak it). Files write schema-qualified names. Nothing here drops
// anything: going back one version of the program means running on a newer schema, which is allowed and logged.

import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import type { Logger } from '#platform/telemetry'
import { errorCode } from './errors.ts'
import type { Sql, Tx } from './sql.ts'

export interface Migration {
  version: number
  name: string
  text: string
  checksum: string
}

export interface MigrateOptions {
  schema: string
  /** `new URL('./migrations/', import.meta.url)`, files NNNN-name.sql. */
  folder: URL
  log: Logger
}

/** Longest a migration waits for a table that someone else holds; queries queue behind it meanwhile. */
const lockTimeout = '30s'

/** @throws {Error} when an applied file was changed, a right is missing, or a file fails; the message names the file */
export async function migrate(sql: Sql, { schema, folder, log }: MigrateOptions): Promise<{ applied: string[] }> {
  if (!/^[a-z_][a-z0-9_]{0,62}$/.test(schema)) throw new Error(`BUG: ${schema} is not a plain schema name`)
  const files = await readMigrations(folder)
  const applied: string[] = []
  for (;;) {
    const startedAt = performance.now()
    const name = await sql
      .begin(tx => applyNext(tx, schema, files, log))
      .catch(error => explainRights(sql, schema, error))
    if (name === null) return { applied }
    applied.push(name)
    log.info({ schema, migration: name, durationMs: Math.round(performance.now() - startedAt) }, 'migration applied')
  }
}

/** Applies the first file that is missing, or returns null. */
async function applyNext(tx: Tx, schema: string, files: Migration[], log: Logger): Promise<string | null> {
  // The key space of advisory locks is shared by the whole database: a hash of a text that only we would choose.
  await tx`select set_config('statement_timeout', '0', true)`
  await tx`select pg_advisory_xact_lock(hashtextextended(${`purser.migrate:${schema}`}, 0))`
  await tx`select set_config('lock_timeout', ${lockTimeout}, true)`
  await createLedger(tx, schema)
  const rows = await tx<{ version: number; name: string; checksum: string }[]>`
    select version, name, checksum from ${tx(schema)}.migration order by version`
  const done = new Map(rows.map(row => [row.version, row]))

  for (const file of files) {
    const row = done.get(file.version)
    if (row && row.checksum !== file.checksum) {
      throw new Error(
        `migration ${file.name} of schema ${schema} was changed after it was applied here (as ${row.name}). ` +
          'Restore the file, and put the change into a new one.',
      )
    }
  }
  const known = new Set(files.map(file => file.version))
  const newer = rows.filter(row => !known.has(row.version)).map(row => row.name)
  const next = files.find(file => !done.has(file.version))
  if (!next) {
    if (newer.length > 0) {
      log.warn(
        { schema, migrations: newer },
        'the database is newer than this program; the last version before may run on it',
      )
    }
    return null
  }
  await tx.unsafe(next.text).catch(error => {
    throw describeFailure(next, schema, error)
  })
  await tx`insert into ${tx(schema)}.migration ${tx({ version: next.version, name: next.name, checksum: next.checksum })}`
  return next.name
}

async function createLedger(tx: Tx, schema: string): Promise<void> {
  // "if not exists" would ask for the right to create even when there is nothing to create.
  const [found] = await tx<{ schema: boolean; table: boolean }[]>`
    select exists(select from pg_namespace where nspname = ${schema}) as schema,
           to_regclass(${`${schema}.migration`}) is not null as table`
  if (!found?.schema) await tx`create schema ${tx(schema)}`
  if (!found?.table) {
    await tx`
      create table ${tx(schema)}.migration (
        version int primary key,
        name text not null,
        checksum text not null,
        applied_at timestamptz not null default now()
      )`
  }
}

export async function readMigrations(folder: URL): Promise<Migration[]> {
  const names = (await readdir(folder)).filter(name => name.endsWith('.sql')).sort()
  const files = await Promise.all(
    names.map(async name => {
      const match = /^(\d{4})-[a-z0-9-]+\.sql$/.exec(name)
      if (!match) throw new Error(`BUG: migration ${name} is not named NNNN-name.sql`)
      // A checkout with other line endings is the same migration.
      const text = (await readFile(new URL(name, folder), 'utf8')).replaceAll('\r\n', '\n')
      return { version: Number(match[1]), name, text, checksum: createHash('sha256').update(text).digest('hex') }
    }),
  )
  files.forEach((file, i) => {
    const before = files[i - 1]
    if (before?.version === file.version) throw new Error(`BUG: ${before.name} and ${file.name} share a number`)
  })
  return files
}

function describeFailure(file: Migration, schema: string, error: unknown): Error {
  if (!(error instanceof Error)) return new Error(`migration ${file.name} of schema ${schema} failed`)
  const position = 'position' in error ? Number(error.position) : Number.NaN
  const line = Number.isInteger(position) ? ` line ${file.text.slice(0, position).split('\n').length}` : ''
  const message = `migration ${file.name} of schema ${schema}${line}: ${error.message}`
  return Object.assign(new Error(message, { cause: error }), { code: errorCode(error) })
}

async function explainRights(sql: Sql, schema: string, error: unknown): Promise<never> {
  if (errorCode(error) !== '42501') throw error
  const [who] = await sql<{ role: string; database: string; hasSchema: boolean }[]>`
    select quote_ident(current_user) as role, quote_ident(current_database()) as database,
           exists(select from pg_namespace where nspname = ${schema}) as "hasSchema"`
  const grant = who?.hasSchema
    ? `GRANT USAGE, CREATE ON SCHEMA ${schema} TO ${who.role}`
    : `GRANT CREATE ON DATABASE ${who?.database} TO ${who?.role}`
  throw new Error(
    `role ${who?.role} may not set up schema ${schema}: ${error instanceof Error ? error.message : error}. ` +
      `As the owner of the database run: ${grant}; then start again.`,
    { cause: error },
  )
}
