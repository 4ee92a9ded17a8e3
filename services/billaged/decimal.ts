// Exact decimals with up to nine fractional digits, kept as whole billionths ("e9"): 1.5 is 1_500_000_000n.
// Quantities of every meter are such numbers, so VM counters and event values are rated by the same code.

export const e9 = 1_000_000_000n

/** |v| < 10²⁷, as the specification bounds event values (G28). */
const wholeDigitsMax = 27

/** Parses a JSON number's text, exponents included. Null when it is not a number, or not one we can keep exactly. */
export function parseDecimal(text: string): bigint | null {
  const match = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d{1,3}))?$/.exec(text)
  if (match === null || text.length > 100) return null
  const [, sign, whole = '', fraction = '', exponent = '0'] = match
  const digits = whole + fraction
  // Where the decimal point stands after moving it nine places right.
  const shift = Number(exponent) - fraction.length + 9
  if (shift < 0 && !/^0*$/.test(digits.slice(shift))) return null
  const scaled = shift < 0 ? digits.slice(0, shift) : digits + '0'.repeat(shift)
  const value = BigInt(scaled === '' ? '0' : scaled)
  if (value >= 10n ** BigInt(wholeDigitsMax + 9)) return null
  return sign === '-' ? -value : value
}

/** What `formatDecimal` wrote, however large: sums know no bound. A month of a few hundred VMs' memory has more
 *  byte-nanoseconds than any one event may carry. */
export function readDecimal(text: string): bigint {
  const [, sign, whole, fraction = ''] = /^(-?)(\d+)(?:\.(\d{1,9}))?$/.exec(text) ?? []
  if (whole === undefined) throw new Error(`BUG: a stored quantity reads ${text}`)
  const magnitude = BigInt(whole) * e9 + BigInt(fraction.padEnd(9, '0'))
  return sign === '-' ? -magnitude : magnitude
}

/** Plain decimal without trailing zeros. */
export function formatDecimal(valueE9: bigint): string {
  const magnitude = valueE9 < 0n ? -valueE9 : valueE9
  const fraction = `${magnitude % e9}`.padStart(9, '0').replace(/0+$/, '')
  return `${valueE9 < 0n ? '-' : ''}${magnitude / e9}${fraction === '' ? '' : `.${fraction}`}`
}
