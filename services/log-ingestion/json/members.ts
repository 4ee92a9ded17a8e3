// The members of one JSON object as places in the body, so that what nobody asks for is carried on as it came.

import type { Buffer } from 'node:buffer'
import { type Cursor, type KeyWatch, noteKey } from './cursor.ts'
import { tokenText } from './text.ts'

export interface Member {
  key: string
  /** With its key, for metadata. */
  from: number
  valueFrom: number
  to: number
  /** What the careful path has to look at in it. */
  notes: number
  /** Nesting of the value; 0 for a scalar. */
  deepest: number
}

/** Reads the object at the cursor and leaves it right behind. @throws JsonSyntaxError */
export function readMembers(cursor: Cursor, body: Buffer, watch: KeyWatch | null): Member[] {
  const members: Member[] = []
  cursor.at++
  if (cursor.peek() === 0x7d) {
    cursor.at++
    return members
  }
  for (;;) {
    cursor.peek()
    const from = cursor.at
    cursor.notes = 0
    cursor.key()
    const key = tokenText(body, cursor.from, cursor.to, cursor.hasEscape)
    const isWatched = watch?.(body, cursor.from, cursor.to, cursor.hasEscape) === true
    const keyNotes = cursor.notes
    cursor.peek()
    const valueFrom = cursor.at
    cursor.skip(watch)
    const notes = cursor.notes | keyNotes | (isWatched ? noteKey : 0)
    members.push({ key, from, valueFrom, to: cursor.at, notes, deepest: cursor.deepest })
    const next = cursor.peek()
    if (next !== 0x2c && next !== 0x7d) throw cursor.unexpected('a comma or "}"')
    cursor.at++
    if (next === 0x7d) return members
  }
}

/** Walks the array at the cursor: gives each index with the cursor at the item's first byte, and the item must be read
 *  past before the next is asked for. @throws JsonSyntaxError */
export function* itemsOf(cursor: Cursor): Generator<number> {
  cursor.at++
  if (cursor.peek() === 0x5d) {
    cursor.at++
    return
  }
  for (let index = 0; ; index++) {
    cursor.peek()
    yield index
    const next = cursor.peek()
    if (next !== 0x2c && next !== 0x5d) throw cursor.unexpected('a comma or "]"')
    cursor.at++
    if (next === 0x5d) return
  }
}
