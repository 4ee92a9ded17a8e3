// Opening the SQLite file: identity, pragmas, schema.

import { closeSync, openSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { foreignDatabase, newerSchema, StartError, unusableDatabase } from '../errors.ts'
import { mendFor } from './lock.ts'

export interface DatabaseOptions {
  path: string
  /** `storage.max_bytes`: SQLite itself refuses to grow past it. */
  bytesMax: number
  /** `storage.wal_checkpoint_size_mb` in bytes: what the WAL file is cut back to after a checkpoint. */
  walBytesMax: number
}

export const pageBytes = 4_096

/** "PSMC": file(1) and we ourselves recognise the file by it. */
const applicationId = 0x50534d43

/** The caller holds the lock. @throws StartError */
export function openDatabase({ path, bytesMax, walBytesMax }: DatabaseOptions): DatabaseSync {
  prepareFile(path)
  const db = openOrExplain(path)
  try {
    const isNew = identify(db, path)
    // Both only take effect before the first table exists.
    if (isNew) db.exec(`PRAGMA page_size = ${pageBytes}; PRAGMA auto_vacuum = INCREMENTAL`)
    db.exec(`
      PRAGMA journal_mode = WAL;
      PRAGMA synchronous = FULL;
      PRAGMA cache_size = -4096;
      PRAGMA mmap_size = 0;
      PRAGMA temp_store = MEMORY;
      PRAGMA journal_size_limit = ${walBytesMax};
    `)
    if (pragma(db, 'journal_mode') !== 'wal') throw foreignDatabase(path, 'cannot use a write-ahead log')
    if (isNew) db.exec(`PRAGMA application_id = ${applicationId}`)
    migrate(db, path)
    db.exec(`PRAGMA max_page_count = ${Math.max(Math.floor(bytesMax / pageBytes), 64)}`)
    return db
  } catch (error) {
    db.close()
    if (error instanceof StartError) throw error
    throw unusableDatabase(path, sqliteMessage(error), 'Move the file aside to start with an empty one.')
  }
}

/** SQLite gives the WAL the main file's mode, so the main file is made first, readable to its owner and group only. */
function prepareFile(path: string) {
  try {
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory())
      throw unusableDatabase(path, 'a folder is in its place', 'storage.path must name a file.')
    closeSync(openSync(path, 'a', 0o640))
  } catch (error) {
    if (error instanceof StartError) throw error
    throw unusableDatabase(path, sqliteMessage(error), mendFor(error))
  }
}

function openOrExplain(path: string): DatabaseSync {
  try {
    return new DatabaseSync(path, { timeout: 5_000 })
  } catch (error) {
    throw unusableDatabase(path, sqliteMessage(error), mendFor(error))
  }
}

/** True for an empty file. @throws StartError for one that is not ours. */
function identify(db: DatabaseSync, path: string): boolean {
  const tables = db
    .prepare(`SELECT name FROM sqlite_schema WHERE type = 'table'`)
    .all()
    .map(row => String(row.name))
  if (tables.length === 0) return true
  if (Number(pragma(db, 'application_id')) === applicationId) return false
  if (tables.includes('metrics') && tables.includes('schema_version'))
    throw foreignDatabase(
      path,
      'was written by the older program; importing it (metrics-collector import-legacy) is not built yet',
    )
  throw foreignDatabase(path, 'is an SQLite database of some other program')
}

const migrationsFolder = new URL('../migrations/', import.meta.url)

/** Forward only, each step in one transaction, so that an interrupted start repeats it. */
function migrate(db: DatabaseSync, path: string) {
  const files = readdirSync(migrationsFolder)
    .filter(name => /^\d{4}-.*\.sql$/.test(name))
    .sort()
  const found = Number(pragma(db, 'user_version'))
  if (found > files.length) throw newerSchema(path, found, files.length)
  for (const [index, name] of files.entries()) {
    if (index < found) continue
    const sql = readFileSync(new URL(name, migrationsFolder), 'utf8')
    transaction(db, () => db.exec(`${sql};\nPRAGMA user_version = ${index + 1}`))
  }
}

/** Runs `work` between BEGIN and COMMIT. Nothing in it may wait: no transaction stays open across an await. */
export function transaction<T>(db: DatabaseSync, work: () => T): T {
  db.exec('BEGIN IMMEDIATE')
  try {
    const result = work()
    db.exec('COMMIT')
    return result
  } catch (error) {
    // After SQLITE_FULL or an I/O error SQLite may have rolled back by itself.
    if (db.isTransaction) db.exec('ROLLBACK')
    throw error
  }
}

export function pragma(db: DatabaseSync, name: string): string | number | bigint | null {
  const value = Object.values(db.prepare(`PRAGMA ${name}`).get() ?? {})[0]
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'bigint' ? value : null
}

/** SQLite's own words with its result code, e.g. `database or disk is full (SQLITE_FULL, 13)`. */
export function sqliteMessage(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if ('errcode' in error && typeof error.errcode === 'number') {
    const name = codeNames[error.errcode & 0xff]
    return `${error.message} (${name === undefined ? '' : `${name}, `}${error.errcode})`
  }
  return error.message
}

const codeNames: Readonly<Record<number, string>> = {
  5: 'SQLITE_BUSY',
  8: 'SQLITE_READONLY',
  10: 'SQLITE_IOERR',
  11: 'SQLITE_CORRUPT',
  13: 'SQLITE_FULL',
  14: 'SQLITE_CANTOPEN',
  26: 'SQLITE_NOTADB',
}
