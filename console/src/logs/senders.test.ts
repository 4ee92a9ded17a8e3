import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sendersOf } from './senders.ts'

const hour = (key: string, accepted: number, pending = 0, bytes = accepted * 100) => ({
  hour: '2026-01-15T12:00:00Z',
  key,
  tenant: 'public',
  replica: 'r',
  accepted: String(accepted),
  pending: String(pending),
  bytes: String(bytes),
  stored: '0',
  quarantined: '0',
  duplicates: '0',
  damaged: '0',
  deleted: '0',
  expired: '0',
})

test('hours and replicas of a key add up, pending rows count, the largest is first, what is nobody’s is not a key', () => {
  const senders = sendersOf({ rows: [hour('a', 5, 2), hour('b', 100), hour('a', 1), hour('', 3)], atMs: 0 }, null)
  assert.deepEqual(
    senders.map(({ key, rows, bytes, rowsPerSecond }) => [key, rows, bytes, rowsPerSecond]),
    [
      ['b', 100n, 10_000n, null],
      ['a', 8n, 600n, null],
    ],
  )
})

test('rates are differences; a key that is new counts from nothing, one whose hour left the window has none', () => {
  const before = { rows: [hour('a', 10), hour('b', 50)], atMs: 1_000 }
  const now = { rows: [hour('a', 30), hour('b', 40), hour('c', 5)], atMs: 6_000 }
  assert.deepEqual(
    sendersOf(now, before).map(({ key, rowsPerSecond, bytesPerSecond }) => [key, rowsPerSecond, bytesPerSecond]),
    [
      ['b', null, null],
      ['a', 4, 400],
      ['c', 1, 100],
    ],
  )
})
