import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { formatDuration, type PeriodKind, parseDuration, period, sleep } from './time.ts'

const zones = [
  'UTC',
  'Europe/Berlin',
  'America/New_York',
  'America/Sao_Paulo',
  'Asia/Kathmandu',
  'Pacific/Apia',
  'Africa/Cairo',
  'Australia/Lord_Howe',
]
const instant = fc
  .integer({ min: Date.UTC(1990, 0, 1), max: Date.UTC(2045, 0, 1) })
  .map(ms => Temporal.Instant.fromEpochMilliseconds(ms))

test('a period holds its instant, is half-open and meets its neighbours without gap or overlap, in every zone', () => {
  const kinds: [PeriodKind, number][] = [
    ['daily', 1],
    ['weekly', 7],
    ['monthly', 31],
  ]
  for (const [kind, anchorMax] of kinds)
    fc.assert(
      fc.property(fc.constantFrom(...zones), fc.integer({ min: 1, max: anchorMax }), instant, (zone, anchor, at) => {
        const { start, end } = period(kind, zone, anchor, at)
        assert.ok(Temporal.Instant.compare(start, at) <= 0 && Temporal.Instant.compare(at, end) < 0)
        assert.ok(period(kind, zone, anchor, end).start.equals(end))
        assert.ok(period(kind, zone, anchor, start.subtract({ nanoseconds: 1 })).end.equals(start))
      }),
    )
})

test('a month anchored on the 31st starts on the last day of shorter months', () => {
  const at = Temporal.Instant.from('2026-02-28T12:00:00Z')
  const { start, end } = period('monthly', 'UTC', 31, at)
  assert.equal(start.toString(), '2026-02-28T00:00:00Z')
  assert.equal(end.toString(), '2026-03-31T00:00:00Z')
})

test('a day is 23 or 25 hours long when clocks change', () => {
  const hours = (text: string) => {
    const { start, end } = period('daily', 'Europe/Berlin', 1, Temporal.Instant.from(text))
    return end.since(start).total('hours')
  }
  assert.deepEqual(
    [hours('2026-03-29T10:00:00Z'), hours('2026-10-25T10:00:00Z'), hours('2026-06-01T10:00:00Z')],
    [23, 25, 24],
  )
})

test('durations read and print as Go writes them', () => {
  for (const [text, ms] of [
    ['5s', 5_000],
    ['1h30m', 5_400_000],
    ['1.5h', 5_400_000],
    ['500ms', 500],
    ['1m0s', 60_000],
    ['-2m', -120_000],
    ['0', 0],
    ['0s', 0],
  ] as const)
    assert.equal(parseDuration(text), ms, text)
  assert.deepEqual([60_000, 5_400_000, 250, 1_500, 0, 3_600_000].map(formatDuration), [
    '1m0s',
    '1h30m0s',
    '250ms',
    '1.5s',
    '0s',
    '1h0m0s',
  ])
  fc.assert(fc.property(fc.integer({ min: 0, max: 10 ** 11 }), ms => parseDuration(formatDuration(ms)) === ms))
})

test('a duration that is not one says what to write', () => {
  assert.throws(() => parseDuration('5'), /no unit.*did you mean "5s"/)
  for (const text of ['', 's', '5 s', '1d', '5sm', '1..5s', 'NaN', '1e3s', '1ns', '99999999h'])
    assert.throws(() => parseDuration(text), Error, text)
})

test('sleep ends at once when aborted', async () => {
  const stop = new AbortController()
  const sleeping = sleep(60_000, stop.signal)
  stop.abort(new Error('enough'))
  await assert.rejects(sleeping, /enough/)
  await assert.rejects(sleep(60_000, AbortSignal.abort(new Error('before'))), /before/)
})
