// Comparing JSON numbers by value without going through a double: 9007199254740993 is not 9007199254740992.

const numberForm = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/

export function isJsonNumber(text: string): boolean {
  return numberForm.test(text)
}

/** Negative, zero or positive as `a` is below, equal to or above `b`. Both must be JSON numbers. */
export function compareNumbers(a: string, b: string): number {
  if (isSafeInteger(a) && isSafeInteger(b)) return Number(a) - Number(b)
  const x = normalise(a)
  const y = normalise(b)
  if (x.sign !== y.sign) return x.sign - y.sign
  return x.sign * compareMagnitudes(x, y)
}

/** sign × 0.digits × 10^exponent, digits without leading or trailing zeros; zero has sign 0. */
interface Decimal {
  sign: number
  digits: string
  exponent: bigint
}

function normalise(text: string): Decimal {
  const match = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text)
  if (!match) throw new Error(`BUG: ${text} is not a JSON number`)
  const [, minus, whole = '', fraction = '', exponent = '0'] = match
  const all = whole + fraction
  const digits = all.replace(/^0+/, '')
  if (digits === '') return { sign: 0, digits: '', exponent: 0n }
  return {
    sign: minus ? -1 : 1,
    digits: digits.replace(/0+$/, ''),
    exponent: BigInt(exponent) + BigInt(whole.length - (all.length - digits.length)),
  }
}

function compareMagnitudes(x: Decimal, y: Decimal): number {
  if (x.exponent !== y.exponent) return x.exponent < y.exponent ? -1 : 1
  // Without leading zeros, digit strings after "0." order like text.
  return x.digits < y.digits ? -1 : x.digits > y.digits ? 1 : 0
}

function isSafeInteger(text: string): boolean {
  return text.length <= 15 && /^-?\d+$/.test(text)
}
