// COPY … TO STDOUT in binary: the way out for large bytea, which a query would send as hex text, twice the bytes and a
// conversion at either end.

import { Buffer } from 'node:buffer'
import type { Readable } from 'node:stream'
import type { Tx } from './sql.ts'

const signatureBytes = 11

/**
 * Rows of `query`, field by field, as the server's binary format has them; null is SQL NULL. All of the answer is held in
 * memory: bound it in the query. COPY takes no parameters, so whatever goes into the text must be made of numbers.
 */
export async function copyOut(tx: Tx, query: string): Promise<(Buffer | null)[][]> {
  const copy = tx.unsafe(`copy (${query}) to stdout (format binary)`)
  listenEarly(copy)
  const stream: Readable = await copy.readable()
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk)
  // The driver (postgres.js 3.4.9) pauses its socket for a full stream and forgets it when that was the last piece.
  stream._read(0)
  return parseRows(Buffer.concat(chunks))
}

/** The server may fail in the same breath in which it began: the driver then destroys the stream before we have it, and an
 *  error that nobody listens for ends the process. copy-out.test.ts fails if an update of the driver changes this. */
function listenEarly(query: object): void {
  const resolve: unknown = Reflect.get(query, 'resolve')
  if (typeof resolve !== 'function')
    throw new Error('BUG: the postgres driver changed; copy-out.ts relies on query.resolve')
  Object.assign(query, {
    resolve(stream: Readable) {
      stream.on('error', () => {})
      resolve.call(query, stream)
    },
  })
}

function parseRows(bytes: Buffer): (Buffer | null)[][] {
  const rows: (Buffer | null)[][] = []
  let at = signatureBytes + 4
  at += 4 + bytes.readInt32BE(at)
  for (;;) {
    const fields = bytes.readInt16BE(at)
    at += 2
    if (fields < 0) return rows
    const row: (Buffer | null)[] = []
    for (let i = 0; i < fields; i++) {
      const length = bytes.readInt32BE(at)
      at += 4
      row.push(length < 0 ? null : bytes.subarray(at, at + length))
      at += Math.max(0, length)
    }
    rows.push(row)
  }
}
