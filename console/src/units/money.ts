import { formatUsd, nanoPerUsd } from '#platform/money'

// Money stays a bigint of nano-dollars up to the text on the screen. The only Number made from an amount is the share
// of a bar, which is a length and not money.

/** An amount for a table or a headline: cents above a dollar, enough digits below it to see that it is not nothing. */
export function formatMoney(nano: bigint, currency = 'USD'): string {
  const abs = nano < 0n ? -nano : nano
  const sign = signOf(currency)
  if (abs === 0n) return `${sign}0.00`
  if (abs >= 995_000_000n) return withDigits(nano, 2, sign)
  if (abs >= 10_000_000n) return withDigits(nano, 3, sign)
  // Below a cent two significant digits tell calls apart; the exact value is one hover away.
  const leading = 10 - abs.toString().length
  return withDigits(nano, Math.min(9, leading + 1), sign)
}

/** Every digit, for titles, copies and the ledger: `$0.000412345`. */
export function formatMoneyExact(nano: bigint, currency = 'USD'): string {
  const text = formatUsd(nano < 0n ? -nano : nano)
  const [whole = '0', fraction = ''] = text.split('.')
  return `${nano < 0n ? '−' : ''}${signOf(currency)}${group(whole)}.${fraction.padEnd(2, '0')}`
}

/** A decimal string of whole nano-dollars from the wire; anything else is a broken answer, not a zero. */
export function nanoFrom(text: string): bigint {
  if (!/^-?\d{1,30}$/.test(text)) throw new RangeError(`"${text.slice(0, 40)}" is not an amount in nano-dollars`)
  return BigInt(text)
}

/** A decimal USD string from the wire (`"12.5"`, also negative) to nano-dollars. */
export function nanoFromUsd(text: string): bigint {
  const match = /^(-?)(\d{1,20})(?:\.(\d{1,9}))?$/.exec(text)
  if (!match) throw new RangeError(`"${text.slice(0, 40)}" is not a decimal USD amount`)
  const [, sign, whole = '0', fraction = ''] = match
  const abs = BigInt(whole) * nanoPerUsd + BigInt(fraction.padEnd(9, '0'))
  return sign ? -abs : abs
}

/** How much of `whole` is `part`, 0…1, for the width of a bar. A whole of zero is full as soon as anything is in it. */
export function shareOf(part: bigint, whole: bigint): number {
  if (part <= 0n) return 0
  if (whole <= 0n || part >= whole) return 1
  return Number((part * 1_000_000n) / whole) / 1_000_000
}

/** A plan may bill in any currency, always in billionths of it. */
function signOf(currency: string): string {
  const signs: Record<string, string> = { USD: '$', EUR: '€', GBP: '£', JPY: '¥' }
  return signs[currency] ?? `${currency} `
}

function withDigits(nano: bigint, digits: number, sign: string): string {
  const unit = 10n ** BigInt(9 - digits)
  const abs = nano < 0n ? -nano : nano
  const rounded = (abs + unit / 2n) / unit
  const scale = 10n ** BigInt(digits)
  const fraction = (rounded % scale).toString().padStart(digits, '0')
  return `${nano < 0n ? '−' : ''}${sign}${group((rounded / scale).toString())}.${fraction}`
}

function group(digits: string): string {
  return digits.replace(/\B(?=(\d{3})+$)/g, ',')
}
