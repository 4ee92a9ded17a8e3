import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { rememberWindows, type WindowRule, wholeDays, windowAt } from './window.ts'

const zones = ['UTC', 'Europe/Berlin', 'America/Sao_Paulo', 'Australia/Lord_Howe', 'Asia/Kathmandu', 'Pacific/Apia']
const at = (text: string) => Temporal.Instant.from(text).epochMilliseconds
const rule = (period: WindowRule['period'], zone = 'UTC', anchor = 1): WindowRule => ({
  period,
  zone,
  anchor,
  startsAt: null,
  endsAt: null,
})

test('an instant lies in its window, and the window ends where the next one begins', () => {
  fc.assert(
    fc.property(
      fc.constantFrom('daily' as const, 'weekly' as const, 'monthly' as const),
      fc.constantFrom(...zones),
      fc.integer({ min: 1, max: 7 }),
      fc.integer({ min: at('2000-01-01T00:00Z'), max: at('2060-01-01T00:00Z') }),
      (period, zone, anchor, instant) => {
        const window = windowAt(rule(period, zone, anchor), instant)
        assert.ok(window && window.start <= instant && instant < window.end)
        const next = windowAt(rule(period, zone, anchor), window.end)
        assert.equal(next?.start, window.end)
        // Its edges are midnights of the zone.
        const start = Temporal.Instant.fromEpochMilliseconds(window.start).toZonedDateTimeISO(zone)
        assert.equal(start.startOfDay().epochMilliseconds, window.start)
      },
    ),
  )
})

test('remembering the last window changes no answer', () => {
  const rules: Omit<WindowRule, 'zone'>[] = [
    { period: 'daily', anchor: 1, startsAt: null, endsAt: at('2026-01-05T12:00Z') },
    { period: 'monthly', anchor: 5, startsAt: at('2026-01-03T06:00Z'), endsAt: null },
    { period: 'custom', anchor: 1, startsAt: at('2026-01-02T00:00Z'), endsAt: at('2026-01-04T00:00Z') },
  ]
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat({ max: 2 }), fc.constantFrom(...zones), fc.nat({ max: 14 * 24 })), { maxLength: 40 }),
      asks => {
        const remembered = rememberWindows()
        for (const [index, zone, hours] of asks) {
          const asked = rules[index]
          const instant = at('2025-12-30T00:30Z') + hours * 3_600_000
          if (asked) assert.deepEqual(remembered(asked, zone, instant), windowAt({ ...asked, zone }, instant))
        }
      },
    ),
  )
})

test('a day in a zone that changes its clocks lasts 23 or 25 hours', () => {
  const hours = (text: string) => {
    const window = windowAt(rule('daily', 'Europe/Berlin'), at(text))
    return window ? (window.end - window.start) / 3_600_000 : 0
  }
  assert.equal(hours('2026-03-29T12:00Z'), 23)
  assert.equal(hours('2026-10-25T12:00Z'), 25)
})

test('the first instant after midnight is in the new window', () => {
  const midnight = at('2026-12-01T00:00Z')
  assert.equal(windowAt(rule('monthly'), midnight - 1)?.end, midnight)
  assert.equal(windowAt(rule('monthly'), midnight)?.start, midnight)
})

test('a custom budget covers both its days whole and is inert outside', () => {
  const { start, end } = wholeDays('2026-11-21', '2026-11-22T23:30:00Z', 'Europe/Berlin')
  // 23:30 UTC is already the 23rd in Berlin.
  assert.equal(start, at('2026-11-20T23:00Z'))
  assert.equal(end, at('2026-11-23T23:00Z'))
  const custom: WindowRule = { ...rule('custom', 'Europe/Berlin'), startsAt: start, endsAt: end }
  assert.deepEqual(windowAt(custom, start), { start, end })
  assert.equal(windowAt(custom, end), null)
  assert.equal(windowAt(custom, start - 1), null)
})

test('a date that does not exist is named', () => {
  assert.throws(() => wholeDays('2026-13-01', '2026-12-01', 'UTC'), /"2026-13-01" is not a date/)
  assert.throws(() => wholeDays('2026-02-30', '2026-12-01', 'UTC'), /2026-02-30/)
})
