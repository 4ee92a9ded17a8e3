// Money is a whole number of nano-dollars (10⁻⁹ USD) from the price to the invoice line.
//
// Only mulDiv and allocate divide, and both say where the remainder goes. Nothing here or above it converts an
// amount to a JavaScript number.

export type NanoUsd = bigint & { readonly __unit: 'nanoUsd' }

export const nanoPerUsd = 1_000_000_000n

/** The largest amount parsed from outside, in USD: far above any budget, far below int8. */
const usdMax = 9_000_000_000n

/** Marks a bigint as nano-dollars. The caller vouches for the unit. */
export function nano(n: bigint): NanoUsd {
  return n as NanoUsd
}

/**
 * A decimal USD amount, `"12.345678901"`, to nano-dollars. Non-negative, at most 9 fraction digits and 9 000 000 000.
 * @throws RangeError that names the value and the bound
 */
export function parseUsd(text: string): NanoUsd {
  const match = /^(\d{1,20})(?:\.(\d{1,40}))?$/.exec(text)
  if (!match) throw new RangeError(`"${clip(text)}" is not an amount; write plain decimal USD such as "12.50"`)
  const [, whole = '', fraction = ''] = match
  const digits = fraction.replace(/0+$/, '')
  if (digits.length > 9)
    throw new RangeError(`"${clip(text)}" has ${digits.length} fraction digits; at most 9 are kept (nano-dollars)`)
  const amount = BigInt(whole) * nanoPerUsd + BigInt(digits.padEnd(9, '0'))
  if (amount > usdMax * nanoPerUsd) throw new RangeError(`"${clip(text)}" is above the largest amount, ${usdMax} USD`)
  return nano(amount)
}

/** Plain decimal USD without trailing zeros: `12.5`, `0.000000001`, `-3`. */
export function formatUsd(amount: bigint): string {
  const sign = amount < 0n ? '-' : ''
  const abs = amount < 0n ? -amount : amount
  const fraction = (abs % nanoPerUsd).toString().padStart(9, '0').replace(/0+$/, '')
  return `${sign}${abs / nanoPerUsd}${fraction && `.${fraction}`}`
}

export type Rounding = 'floor' | 'ceil' | 'halfEven'

/**
 * a × b ÷ c, exact until the one division at the end. `floor` goes toward −∞, `ceil` toward +∞, `halfEven` to the
 * nearest and on a tie to the even neighbour.
 */
export function mulDiv(a: bigint, b: bigint, c: bigint, rounding: Rounding): bigint {
  if (c === 0n) throw new RangeError('BUG: division by zero')
  const [dividend, divisor] = c < 0n ? [-(a * b), -c] : [a * b, c]
  const truncated = dividend / divisor
  const floor = dividend % divisor < 0n ? truncated - 1n : truncated
  const rest = dividend - floor * divisor
  if (rest === 0n) return floor
  switch (rounding) {
    case 'floor':
      return floor
    case 'ceil':
      return floor + 1n
    case 'halfEven': {
      const twice = rest * 2n
      if (twice !== divisor) return twice > divisor ? floor + 1n : floor
      return floor % 2n === 0n ? floor : floor + 1n
    }
    default:
      return rounding satisfies never
  }
}

/**
 * Splits `total` in proportion to `weights`, summing exactly to it: everyone gets the floor of their share, the
 * remaining units go one each to the largest remainders, ties to the earlier weight.
 */
export function allocate(total: bigint, weights: readonly bigint[]): bigint[] {
  if (weights.some(w => w < 0n)) throw new RangeError('BUG: a weight is negative')
  const sum = weights.reduce((a, b) => a + b, 0n)
  if (sum === 0n) throw new RangeError('BUG: nothing to share over: all weights are zero')
  const shares = weights.map(w => mulDiv(total, w, sum, 'floor'))
  let left = total - shares.reduce((a, b) => a + b, 0n)
  const byRemainder = weights
    .map((w, index) => ({ index, remainder: total * w - (shares[index] ?? 0n) * sum }))
    .sort((a, b) => (a.remainder === b.remainder ? a.index - b.index : a.remainder > b.remainder ? -1 : 1))
  for (const { index } of byRemainder) {
    if (left === 0n) break
    shares[index] = (shares[index] ?? 0n) + 1n
    left -= 1n
  }
  return shares
}

function clip(text: string): string {
  return text.length > 40 ? `${text.slice(0, 40)}…` : text
}
