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

/** Walks the object at the cursor: gives each key with the cursor at the value's first byte, and the value must be read
 *  past before the next is asked for. @throws JsonSyntaxError */
export function* keysOf(cursor: Cursor, body: Buffer): Generator<string> {
  cursor.at++
  if (cursor.peek() === 0x7d) {
    cursor.at++
    return
  }
  for (;;) {
    cursor.key()
    const key = tokenText(body, cursor.from, cursor.to, cursor.hasEscape)
    cursor.peek()
    yield key
    const next = cursor.peek()
    if (next !== 0x2c && next !== 0x7d) throw cursor.unexpected('a comma or "}"')
    cursor.at++
    if (next === 0x7d) return
  }
}

const yieldEveryBytes = 256 * 1024

/** Skips a value that may be most of the body, giving way every 256 KiB. Below `levels` values are skipped in one go, so
 *  it is the level of what a body has many of. @throws JsonSyntaxError */
export function* skipLong(cursor: Cursor, body: Buffer, levels: number): Generator<void> {
  const first = cursor.peek()
  if (levels === 0 || (first !== 0x7b && first !== 0x5b)) return cursor.skip()
  let yieldedAt = cursor.at
  for (const _ of first === 0x7b ? keysOf(cursor, body) : itemsOf(cursor)) {
    if (levels === 1) cursor.skip()
    else yield* skipLong(cursor, body, levels - 1)
    if (cursor.at - yieldedAt < yieldEveryBytes) continue
    yieldedAt = cursor.at
    yield
  }
}

/** The members of an object that may be most of the body: places only. @throws JsonSyntaxError */
export function* readLongMembers(
  cursor: Cursor,
  body: Buffer,
  levels: number,
): Generator<void, Pick<Member, 'key' | 'valueFrom' | 'to'>[]> {
  const members: Pick<Member, 'key' | 'valueFrom' | 'to'>[] = []
  for (const key of keysOf(cursor, body)) {
    const valueFrom = cursor.at
    yield* skipLong(cursor, body, levels)
    members.push({ key, valueFrom, to: cursor.at })
  }
  return members
}
