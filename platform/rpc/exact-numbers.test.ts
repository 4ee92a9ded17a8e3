import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { exactJsonDecoder, quoteLongNumbers } from './exact-numbers.ts'

const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })

/** A 64-bit integer in the spellings JSON allows: plain, with zero decimals, with an exponent either way. */
const spelled = fc.tuple(int64, fc.nat(4), fc.nat(6)).map(([value, style, shift]) => {
  const sign = value < 0n ? '-' : ''
  const digits = `${value < 0n ? -value : value}`
  if (style === 1) return { value, text: `${value}.${'0'.repeat(shift + 1)}` }
  if (style === 2) return { value, text: `${sign}${digits[0]}.${digits.slice(1) || '0'}e${digits.length - 1}` }
  if (style === 3 && value !== 0n) return { value, text: `${value}${'0'.repeat(shift)}E-${shift}` }
  if (style === 4 && value !== 0n) {
    const zeros = /0*$/.exec(digits)?.[0].length ?? 0
    return { value, text: `${sign}${digits.slice(0, digits.length - zeros)}e+${zeros}` }
  }
  return { value, text: `${value}` }
})

test('64-bit integers keep every digit through JSON.parse, however they are written and wherever they stand', () => {
  const entry = fc.tuple(fc.string(), spelled, fc.constantFrom('', ' ', '\n\t'))
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 8 }), entries => {
      const json = `[${entries.map(([s, n, gap]) => `{"s":${JSON.stringify(s)},${gap}"n":${gap}${n.text}${gap}}`).join()}]`
      const parsed: { s: string; n: string | number }[] = JSON.parse(quoteLongNumbers(json))
      for (const [i, [s, n]] of entries.entries()) {
        assert.equal(parsed[i]?.s, s)
        assert.equal(BigInt(parsed[i]?.n ?? ''), n.value)
      }
    }),
  )
})

test('any JSON means the same afterwards: strings untouched, numbers equal as doubles', () => {
  fc.assert(
    fc.property(fc.json(), json => {
      const unquote = (_: string, value: unknown, context?: { source?: string }) =>
        context?.source === undefined ? value : context.source.replace(/^"|"$/g, '')
      const before = JSON.stringify(JSON.parse(json, unquote))
      const after = JSON.stringify(JSON.parse(quoteLongNumbers(json), unquote))
      const numbers = (text: string) => text.replace(/"-?\d[\d.eE+-]*"/g, t => `${Number(t.slice(1, -1))}`)
      assert.equal(numbers(after), numbers(before))
    }),
  )
})

test('text that is not JSON stays not JSON', () => {
  for (const text of [
    '{12345678901234567890:1}',
    '{"a":01234567890123456789}',
    '{"a":1234567890123456.}',
    '{"a":--1234567890123456}',
    '{"a":"1234567890123456',
    '[1234567890123456 1234567890123456]',
    '[1234567890123456-1]',
  ])
    assert.throws(() => JSON.parse(quoteLongNumbers(text)), text)
})

test('a huge exponent costs nothing', () => {
  assert.equal(quoteLongNumbers('[1e999999999,1e-999999999]'), '["1e999999999",1e-999999999]')
})

test('bytes that are not UTF-8 are refused instead of being replaced', () => {
  assert.throws(() => exactJsonDecoder.decode(Uint8Array.of(0x22, 0xff, 0x22)))
})
