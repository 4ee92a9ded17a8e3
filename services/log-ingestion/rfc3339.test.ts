import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { formatMicros, formatMoment, type Moment, parseRfc3339 } from './rfc3339.ts'

function parse(text: string): Moment | null {
  const moment: Moment = { seconds: 0, nanos: 0 }
  const bytes = Buffer.from(`xx${text}yy`)
  return parseRfc3339(bytes, 2, bytes.length - 2, moment) ? moment : null
}

test('any instant of years 1…9999 in any offset reads as what it is, to the nanosecond', () => {
  const instant = fc.bigInt({ min: -62_135_596_800n, max: 253_402_300_799n })
  fc.assert(
    fc.property(
      instant,
      fc.nat({ max: 999_999_999 }),
      fc.integer({ min: -14 * 60, max: 14 * 60 }),
      (s, nanos, offset) => {
        const local = new Date((Number(s) + offset * 60) * 1_000)
        if (local.getUTCFullYear() < 1 || local.getUTCFullYear() > 9999) return
        const zone = `${offset < 0 ? '-' : '+'}${two(Math.abs(offset) / 60)}:${two(Math.abs(offset) % 60)}`
        const text = `${local.toISOString().slice(0, 19)}.${String(nanos).padStart(9, '0')}${zone}`
        assert.deepEqual(parse(text), { seconds: Number(s), nanos })
      },
    ),
  )
})

function two(n: number): string {
  return String(Math.floor(n)).padStart(2, '0')
}

test('formatting and reading are inverse, and trailing zeros are trimmed', () => {
  fc.assert(
    fc.property(fc.integer({ min: -1e9, max: 1e10 }), fc.nat({ max: 999_999_999 }), (seconds, nanos) => {
      assert.deepEqual(parse(formatMoment(seconds, nanos)), { seconds, nanos })
    }),
  )
  assert.equal(formatMoment(0, 120_000_000), '1970-01-01T00:00:00.12Z')
  assert.equal(formatMicros(-1n), '1969-12-31T23:59:59.999999Z')
  assert.equal(formatMicros(1_000_000n), '1970-01-01T00:00:01Z')
})

for (const [text, why] of [
  ['2026-01-02T03:04:05', 'an offset is needed'],
  ['2026-01-02t03:04:05Z', 'lower-case t'],
  ['2026-01-02T03:04:05z', 'lower-case z'],
  ['2026-01-02 03:04:05Z', 'a space for T'],
  ['2026-01-02T03:04:60Z', 'second 60'],
  ['2026-01-02T24:00:00Z', 'hour 24'],
  ['2026-02-29T00:00:00Z', 'no such day'],
  ['2026-13-01T00:00:00Z', 'no such month'],
  ['12026-01-01T00:00:00Z', 'five-digit year'],
  ['2026-01-02T03:04:05.Z', 'a dot without digits'],
  ['2026-01-02T03:04:05+0100', 'offset without colon'],
  ['2026-01-02T03:04:05+25:00', 'offset out of range'],
  ['2026-01-02T03:04:05Z ', 'something behind it'],
  ['', 'nothing'],
] as const)
  test(`not a time: ${JSON.stringify(text)} (${why})`, () => assert.equal(parse(text), null))

test('Go also takes a comma, a one-digit hour, and drops digits after the ninth', () => {
  assert.deepEqual(parse('2026-01-02T03:04:05,25Z'), parse('2026-01-02T03:04:05.25Z'))
  assert.deepEqual(parse('2026-01-02T3:04:05Z'), parse('2026-01-02T03:04:05Z'))
  assert.deepEqual(parse('2026-01-02T03:04:05.1234567899Z')?.nanos, 123_456_789)
  assert.equal(parse('2024-02-29T00:00:00Z')?.seconds, Date.UTC(2024, 1, 29) / 1_000)
})
