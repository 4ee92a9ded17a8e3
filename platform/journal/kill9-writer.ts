// The program that journal.test.ts kills: appends without end, releases, and prints what was acknowledged.
//
//   node kill9-writer.ts <dir> <life>      prints "<id> <segment> <from> <sequence>" per acknowledged append
//
// A payload is its id, a colon, and filler that follows from the id, so that the reader can check every byte.

import { writeSync } from 'node:fs'
import { createLog } from '#platform/telemetry'
import { type JournalPosition, openJournal } from '../journal.ts'

const appenders = 6
/** The newest that are never released; what was before goes, and its files are written again. */
export const keptAppends = 100

/** The payload of an id: reproducible, 0 B to 300 KiB, mostly small. */
export function payloadOf(id: string): Buffer {
  let hash = 2166136261
  for (const char of id) hash = Math.imul(hash ^ char.charCodeAt(0), 16777619) >>> 0
  const lengthBytes = hash % 16 === 0 ? hash % 300_000 : hash % 2_000
  return Buffer.concat([Buffer.from(`${id}:`), Buffer.alloc(lengthBytes, String(hash))])
}

async function main(dir: string, life: string): Promise<void> {
  const log = createLog({ service: 'kill9-writer', level: 'silent', format: 'json' })
  const journal = await openJournal({ dir, bytesMax: 2 ** 32, segmentBytes: 1024 * 1024, readers: ['test'], log })
  let next = 0
  const places: JournalPosition[] = []
  const appendForEver = async () => {
    for (;;) {
      const id = `${life}-${next++}`
      const { segment, from, sequence } = await journal.append(payloadOf(id))
      // Synchronous: the line is out before the next thing happens, or it was no promise.
      writeSync(1, `${id} ${segment} ${from} ${sequence}\n`)
      places.push({ segment, offset: from })
      const worked = places.length > keptAppends ? places.shift() : undefined
      if (worked) journal.release('test', worked)
    }
  }
  await Promise.all(Array.from({ length: appenders }, appendForEver))
}

if (import.meta.main) {
  const [dir, life] = process.argv.slice(2)
  if (dir === undefined || life === undefined) throw new Error('usage: kill9-writer.ts <dir> <life>')
  await main(dir, life)
}
