// COPY … TO STDOUT in binary: the way out for large bytea, which a query would send as hex text, twice the bytes and a
// conversion at either end.

import { Buffer } from 'node:buffer'
import type { Tx } from './sql.ts'

const signatureBytes = 11

/**
 * Rows of `query`, field by field, as the server's binary format has them; null is SQL NULL. All of the answer is held in
 * memory: bound it in the query. COPY takes no parameters, so whatever goes into the text must be made of numbers.
 */
export async function copyOut(tx: Tx, query: string): Promise<(Buffer | null)[][]> {
  const copy = tx.unsafe(`copy (${query}) to stdout (format binary)`)
  const collected = collect(copy)
  collected.catch(() => {})
  await copy.readable()
  return parseRows(await collected)
}

/**
 * All of the answer, taken from the driver (postgres.js 3.4.9) where it hands pieces to its stream. As a stream it pauses the
 * socket for good when a full one gets its last piece, and an error right behind the first piece finds no listener yet and
 * ends the process. copy-out.test.ts fails if an update changes what this relies on.
 */
function collect(query: object): Promise<Buffer> {
  const resolve: unknown = Reflect.get(query, 'resolve')
  if (typeof resolve !== 'function')
    throw new Error('BUG: the postgres driver changed; copy-out.ts relies on query.resolve')
  const { promise, resolve: done, reject } = Promise.withResolvers<Buffer>()
  const chunks: Buffer[] = []
  Object.assign(query, {
    resolve(stream: object) {
      Object.assign(stream, {
        push(chunk: Buffer | null) {
          if (chunk === null) done(Buffer.concat(chunks))
          // The driver reuses nothing of what it hands over.
          else chunks.push(chunk)
          return true
        },
        destroy: reject,
      })
      resolve.call(query, null)
    },
  })
  return promise
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
