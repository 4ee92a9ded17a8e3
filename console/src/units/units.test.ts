import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { formatBytes, formatBytesPerSecond } from './bytes.ts'
import { formatCount, formatCountShort, formatPercent, formatPerSecond } from './counts.ts'
import { formatDuration, formatDurationShort, goDuration } from './duration.ts'
import { formatMoney, formatMoneyExact, nanoFrom, nanoFromUsd, shareOf } from './money.ts'
import { formatQuantity } from './quantity.ts'
import {
  formatClock,
  formatClockMs,
  formatDay,
  formatMinute,
  formatMoment,
  formatMonth,
  formatRelative,
  parseMoment,
} from './time.ts'

test('money is shown to the cent above a dollar, and never as nothing when it is something', () => {
  const cases: [bigint, string][] = [
    [0n, '$0.00'],
    [1n, '$0.000000001'],
    [412_345n, '$0.00041'],
    [9_999_999n, '$0.0100'],
    [12_345_678n, '$0.012'],
    [994_000_000n, '$0.994'],
    [999_999_999n, '$1.00'],
    [12_345_000_000n, '$12.35'],
    [1_234_567_890_000_000_000n, '$1,234,567,890.00'],
    [-412_345n, '−$0.00041'],
  ]
  for (const [nano, text] of cases) assert.equal(formatMoney(nano), text)
  fc.assert(fc.property(fc.bigInt({ min: 1n, max: 10n ** 20n }), n => assert.match(formatMoney(n), /[1-9]/)))
})

test('an amount in another currency says so', () => {
  assert.equal(formatMoney(12_345_000_000n, 'EUR'), '€12.35')
  assert.equal(formatMoneyExact(-1n, 'CHF'), '−CHF 0.000000001')
  assert.equal(formatMoney(0n, 'CHF'), 'CHF 0.00')
})

test('the exact text of an amount is the amount, far beyond what a double holds', () => {
  assert.equal(formatMoneyExact(9_007_199_254_740_993_000_000_001n), '$9,007,199,254,740,993.000000001')
  assert.equal(formatMoneyExact(-500_000_000n), '−$0.50')
  fc.assert(
    fc.property(fc.bigInt({ min: -(10n ** 24n), max: 10n ** 24n }), n => {
      const text = formatMoneyExact(n).replaceAll(',', '').replace('$', '').replace('−', '-')
      assert.equal(nanoFromUsd(text), n)
    }),
  )
})

test('amounts from the wire are whole nano-dollars or decimal dollars, and anything else is refused', () => {
  assert.equal(nanoFrom('50000000000'), 50_000_000_000n)
  assert.equal(nanoFromUsd('0.000000001'), 1n)
  for (const bad of ['', '1.5', 'NaN', '1e9', '0x1f', ' 1']) assert.throws(() => nanoFrom(bad), RangeError)
  for (const bad of ['', '1e9', '0.0000000001', '.5', '$1']) assert.throws(() => nanoFromUsd(bad), RangeError)
})

test('a bar is never longer than its track, also when the budget is zero', () => {
  assert.equal(shareOf(1n, 4n), 0.25)
  assert.equal(shareOf(0n, 0n), 0)
  assert.equal(shareOf(1n, 0n), 1)
  fc.assert(fc.property(fc.bigInt(), fc.bigInt(), (a, b) => shareOf(a, b) >= 0 && shareOf(a, b) <= 1))
})

test('bytes, counts, shares and spans keep a readable number of digits', () => {
  assert.deepEqual([0, 1023, 1024, 1_310_720, 107_374_182_400n].map(formatBytes), [
    '0 B',
    '1023 B',
    '1.00 KiB',
    '1.25 MiB',
    '100 GiB',
  ])
  assert.equal(formatBytesPerSecond(2048), '2.00 KiB/s')
  assert.deepEqual([0, 999, 12_480n, -1234567].map(formatCount), ['0', '999', '12,480', '-1,234,567'])
  assert.deepEqual([0, 0.25, 999, 1000, 12_480, 999_999].map(formatCountShort), [
    '0',
    '0.3',
    '999',
    '1.0 k',
    '12.5 k',
    '1.0 M',
  ])
  assert.deepEqual([0, 0.24, 12.34, 1234].map(formatPerSecond), ['0/s', '0.2/s', '12/s', '1.2 k/s'])
  assert.deepEqual([0, 0.034, 0.72, 1, Number.NaN].map(formatPercent), ['0 %', '3.4 %', '72 %', '100 %', '–'])
  assert.deepEqual([0, 420, 999.7, 4_200, 59_990, 72_000, 3_600_000, 11_100_000, 187_200_000].map(formatDuration), [
    '0 ms',
    '420 ms',
    '1 s',
    '4.2 s',
    '1 m',
    '1 m 12 s',
    '1 h',
    '3 h 05 m',
    '2 d 04 h',
  ])
  assert.deepEqual([12_000, 600_000, 86_400_000, 9 * 86_400_000].map(formatDurationShort), [
    '12 s',
    '10 min',
    '24 h',
    '9 d',
  ])
  assert.deepEqual([250, 5000, 300_000, 7_200_000].map(goDuration), ['250ms', '5s', '5m', '2h'])
})

test('times are shown in the zone asked for', () => {
  const ms = Date.UTC(2026, 10, 1, 23, 3, 7, 48)
  assert.equal(formatClock(ms, 'UTC'), '23:03:07')
  assert.equal(formatClockMs(ms, 'UTC'), '23:03:07.048')
  assert.equal(formatMinute(ms, 'Asia/Tokyo'), '08:03')
  assert.equal(formatDay(ms, 'Asia/Tokyo'), '2 Nov')
  assert.equal(formatMoment(ms, 'UTC'), '1 Nov 2026, 23:03:07')
  assert.equal(formatMonth(ms, 'UTC'), 'November 2026')
  assert.equal(formatRelative(ms - 12_000, ms), '12 s ago')
  assert.equal(formatRelative(ms + 9 * 86_400_000, ms), 'in 9 d')
  assert.equal(formatRelative(ms, ms), 'now')
  assert.equal(parseMoment('2026-11-01T23:03:07.048Z'), ms)
  assert.equal(parseMoment('soon'), null)
})

test('a usage quantity is divided exactly, once, for the eye', () => {
  assert.equal(formatQuantity('123000000000000', 'ns', 'vm_cpu'), '34.2 core-h')
  assert.equal(formatQuantity('3600000000000', 'ns', 'vm_alive'), '1.000 h')
  assert.equal(formatQuantity((3_600_000_000_000n * 1_073_741_824n * 12n).toString(), 'byte-ns'), '12.0 GiB-h')
  assert.equal(formatQuantity('1073741824', 'bytes'), '1.00 GiB')
  assert.equal(formatQuantity('412345', 'nano_usd'), '$0.00041')
  assert.equal(formatQuantity('1243', 'ms'), '1.2 s')
  assert.equal(formatQuantity('5400000', 'ms'), '90.0 min')
  assert.equal(formatQuantity('12480', 'requests'), '12,480')
  assert.equal(formatQuantity('not a number', 'ns'), 'not a number')
})
