import assert from 'node:assert/strict'
import { test } from 'node:test'
import { JournalFull } from '#platform/journal'
import { createJournalShares } from './journal-shares.ts'

/** A journal that nobody empties, and what each key holds of it. */
function filling(bytesMax: number) {
  const held = new Map<string, number>()
  let bytes = 0
  const shares = createJournalShares({
    journalBytes: () => bytes,
    bytesMax,
    backlog: {
      journalBytesOf: key => held.get(key) ?? 0,
      get keys() {
        return held.size
      },
    },
  })
  const append = (key: string, count: number): boolean => {
    try {
      shares.claim(key, count)(true)
    } catch (error) {
      if (error instanceof JournalFull) return false
      throw error
    }
    bytes += count
    held.set(key, (held.get(key) ?? 0) + count)
    return true
  }
  return {
    append,
    held,
    claim: shares.claim,
    /** The database took so much of it. */
    drain(key: string, count: number) {
      bytes -= count
      held.set(key, (held.get(key) ?? 0) - count)
    },
    get bytes() {
      return bytes
    },
    empty() {
      bytes = 0
      held.clear()
    },
  }
}

test('alone, a key may fill nearly all of it', () => {
  const journal = filling(16_000)
  while (journal.append('a', 100));
  assert.ok(journal.bytes > 15_200 && journal.bytes <= 16_000)
})

test('a flood leaves room for those who come later, and floods share what is left', () => {
  const journal = filling(16_000)
  while (journal.append('flood', 100));
  for (const key of ['b', 'c', 'd']) assert.ok(journal.append(key, 100), key)
  assert.ok(journal.bytes <= 16_000)
  journal.empty()
  while (journal.bytes <= 8_000) journal.append('a', 100)
  let goesOn = true
  while (goesOn) goesOn = ['a', 'b', 'c'].map(key => journal.append(key, 100)).includes(true)
  const beyond = [(journal.held.get('a') ?? 0) - 8_100, journal.held.get('b') ?? 0, journal.held.get('c') ?? 0]
  assert.ok(Math.max(...beyond) - Math.min(...beyond) <= 300, String(beyond))
  journal.empty()
  assert.ok(journal.append('a', 100), 'half empty again: the shares begin anew')
})

test('a journal that stays more than half full lets a key add what the database took of it', () => {
  const journal = filling(16_000)
  while (journal.append('flood', 100));
  assert.ok(!journal.append('flood', 100))
  // What goes makes room, as much as it was and to a few hundredths of the second half at once.
  for (let i = 0; i < 100; i++) {
    journal.drain('flood', 500)
    let added = 0
    while (journal.append('flood', 100)) added += 100
    assert.ok(added >= 300 && journal.bytes <= 16_000, `${added} in round ${i}`)
  }
  assert.ok(journal.append('newcomer', 100))
})

test('what is on its way to the disk counts, and what was refused there does not', () => {
  const journal = filling(16_000)
  while (journal.bytes <= 8_000) journal.append('flood', 100)
  const waiting = []
  try {
    for (;;) waiting.push(journal.claim('newcomer', 1_000))
  } catch (error) {
    assert.ok(error instanceof JournalFull)
  }
  assert.equal(waiting.length, 3, 'half of the rest, in thousands')
  for (const settle of waiting) settle(false)
  assert.ok(journal.append('newcomer', 3_000))
})
