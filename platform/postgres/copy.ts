// COPY … FROM STDIN in text format: the fastest way in.
// Measured on 2 cores (busy with other work), unix socket, fsync on, rows of int8, timestamptz, 100 bytes of text and
// a small jsonb: 115 k rows/s in transactions of 1,000 rows, 170–255 k rows/s in one of 200,000.

import type { PendingQuery, Row } from 'postgres'
import { UnstorableValue } from './errors.ts'
import type { Queryable, Sql, Tx } from './sql.ts'

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json | undefined }
/** Objects and arrays are written as JSON (for json and jsonb columns). For a PostgreSQL array use `arrayLiteral`. */
export type CopyValue =
  | string
  | number
  | bigint
  | boolean
  | Date
  | Uint8Array
  | null
  | readonly Json[]
  | { readonly [key: string]: Json | undefined }

export interface CopyInput {
  /** `table` or `schema.table`. */
  into: string
  columns: readonly string[]
  rows: Iterable<readonly CopyValue[]>
}

/**
 * Writes all rows or none, and returns how many. On a pool it runs in a transaction of its own (a COPY must have its
 * connection alone: the driver would pipeline other queries into it); inside `sql.begin` it joins that transaction.
 */
export async function copyRows(sql: Sql | Tx, input: CopyInput): Promise<number> {
  return 'begin' in sql ? sql.begin(tx => copyInto(tx, input)) : copyInto(sql, input)
}

/** Large enough that a chunk costs one system call per many rows, small enough to stay out of the large-object space. */
const chunkChars = 64 * 1024

async function copyInto(tx: Queryable, input: CopyInput): Promise<number> {
  let count = 0
  await send(
    tx,
    copyStatement(input),
    textChunks(input, () => count++),
  )
  return count
}

function* textChunks({ into, columns, rows }: CopyInput, onRow: () => void): Generator<string> {
  let chunk = ''
  for (const row of rows) {
    if (row.length !== columns.length) {
      throw new Error(`BUG: a row of ${row.length} values for the ${columns.length} columns of ${into}`)
    }
    chunk += encodeRow(row, columns)
    onRow()
    if (chunk.length < chunkChars) continue
    yield chunk
    chunk = ''
  }
  yield chunk
}

/**
 * The same for rows that the caller has encoded in PostgreSQL's binary format, header and trailer included, in pieces of
 * any size: for the one write path where text would cost more than the insert.
 */
export async function copyBinary(
  sql: Sql | Tx,
  input: { into: string; columns: readonly string[]; chunks: Iterable<Uint8Array> },
): Promise<void> {
  const statement = `${copyStatement(input)} (format binary)`
  await ('begin' in sql ? sql.begin(tx => send(tx, statement, input.chunks)) : send(sql, statement, input.chunks))
}

function copyStatement({ into, columns }: { into: string; columns: readonly string[] }): string {
  return `copy ${into.split('.').map(quoteIdent).join('.')} (${columns.map(quoteIdent).join(', ')}) from stdin`
}

async function send(tx: Queryable, statement: string, chunks: Iterable<string | Uint8Array>): Promise<void> {
  const copy = tx.unsafe(statement)
  const ended = outcome(copy)
  const stream = await copy.writable()
  // 'close' and not 'finish': on closing the driver sends a last message, which must not meet a following COPY.
  stream.on('close', ended.resolve)
  stream.on('error', ended.reject)
  try {
    for (const chunk of chunks) {
      if (chunk.length > 0 && !stream.write(chunk)) await Promise.race([ended.promise, drained(stream)])
    }
    stream.end()
  } catch (error) {
    // Tell the server to forget the rows and wait for its word, so that the connection is usable for the ROLLBACK.
    stream.destroy(error instanceof Error ? error : new Error(String(error)))
    await ended.server
    throw error
  }
  await ended.promise
}

/**
 * How a COPY ended. The driver (postgres.js 3.4.9) resolves the query when the server is ready for data and tells
 * nobody about an error that the server reports after the last byte, such as a duplicate key: its stream then never
 * finishes. The query's own `reject` is still called, so that is where we listen. copy.test.ts fails if an update of the
 * driver changes this.
 */
function outcome(query: PendingQuery<(Row & Iterable<Row>)[]>) {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const server = Promise.withResolvers<void>()
  const original: unknown = Reflect.get(query, 'reject')
  if (typeof original !== 'function')
    throw new Error('BUG: the postgres driver changed; copy.ts relies on query.reject')
  Object.assign(query, {
    reject(error: unknown) {
      original.call(query, error)
      reject(error)
      server.resolve()
    },
  })
  // Someone waits for `promise` in every path but the one that throws first.
  promise.catch(() => undefined)
  return {
    promise,
    server: server.promise,
    resolve: () => resolve(),
    reject: (error: unknown) => reject(error),
  }
}

function drained(stream: { once(event: 'drain', listener: () => void): unknown }): Promise<void> {
  return new Promise(resolve => {
    stream.once('drain', () => resolve())
  })
}

function encodeRow(row: readonly CopyValue[], columns: readonly string[]): string {
  let line = ''
  for (let i = 0; i < row.length; i++) {
    if (i > 0) line += '\t'
    line += encodeValue(row[i] ?? null, columns[i] ?? '')
  }
  return `${line}\n`
}

/** One field of the text format, escaped. Exported for its property test. @throws {UnstorableValue} */
export function encodeValue(value: CopyValue, column: string): string {
  switch (typeof value) {
    case 'string':
      return escapeText(value, column)
    case 'bigint':
      return value.toString()
    case 'number':
      return Object.is(value, -0) ? '-0' : String(value)
    case 'boolean':
      return value ? 't' : 'f'
  }
  if (value === null) return '\\N'
  if (value instanceof Date) return encodeDate(value, column)
  if (value instanceof Uint8Array) {
    // `\x` of bytea's hex form, its backslash escaped for COPY.
    return `\\\\x${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex')}`
  }
  return escapeText(JSON.stringify(value), column)
}

const special = /[\\\n\r\t\0]/
const specialAll = /[\\\n\r\t]/g
const escapes: Record<string, string> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' }

/** Lone surrogates become U+FFFD on their way to UTF-8, which is all PostgreSQL can store. */
function escapeText(text: string, column: string): string {
  if (!special.test(text)) return text
  if (text.includes('\0')) {
    throw new UnstorableValue(`column ${column}: text with a NUL character cannot be stored by PostgreSQL; replace it`)
  }
  return text.replace(specialAll, character => escapes[character] ?? character)
}

function encodeDate(date: Date, column: string): string {
  const year = date.getUTCFullYear()
  if (Number.isNaN(year) || year < 1 || year > 9999) {
    throw new UnstorableValue(`column ${column}: a time outside the years 1…9999 cannot be stored`)
  }
  return date.toISOString()
}

function quoteIdent(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}
