/** JSON text in which every number that JSON.parse would round is a string instead, so that a decoder that takes
 *  "int64 as string or number" loses no digit. A double holds 15 significant decimal digits for certain, so shorter
 *  tokens stay as they are; a long token whose exact value is whole (`9007199254740993.0`, `9.007199254740993e15`)
 *  becomes its plain digits, any other long token is quoted as written. Text that is not JSON stays not JSON.
 *
 *  A `google.protobuf.Value` field would see a string where such a number stood; none of our messages has one. */
export function quoteLongNumbers(json: string): string {
  if (!mayHoldLongNumber.test(json)) return json
  let out = ''
  let copied = 0
  let at = 0
  while (at < json.length) {
    const c = json.charCodeAt(at)
    if (c === quote) at = afterString(json, at)
    else if (c === minus || (c >= zero && c <= nine)) {
      const end = afterNumber(json, at)
      const quoted = quotedIfLong(json, at, end)
      if (quoted !== null) {
        out += json.slice(copied, at) + quoted
        copied = end
      }
      at = end
    } else at++
  }
  return copied === 0 ? json : out + json.slice(copied)
}

/** A TextDecoder for Connect-ES: JSON bytes to text that survives JSON.parse. Refuses bytes that are not UTF-8. */
export const exactJsonDecoder = {
  decode: (input?: Uint8Array): string => quoteLongNumbers(utf8.decode(input)),
}

const utf8 = new TextDecoder('utf-8', { fatal: true })

// Sixteen digits in a row that do not follow a quote, or an exponent: most bodies have neither and are done here.
const mayHoldLongNumber = /(?:^|[^"\d.])[\d.]{16,}|\d[eE]/
const numberGrammar = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/
const [quote, backslash, minus, zero, nine] = [0x22, 0x5c, 0x2d, 0x30, 0x39]

/** Any number of so few decimal digits survives the trip through a double. */
const digitsAlwaysExact = 15

/** The longest whole number written out in full. Far beyond any 64-bit field; without a bound "1e999999999" would. */
const wholeDigitsMax = 64

function afterString(json: string, start: number): number {
  let end = json.indexOf('"', start + 1)
  while (end !== -1 && isEscaped(json, end)) end = json.indexOf('"', end + 1)
  return end === -1 ? json.length : end + 1
}

function isEscaped(json: string, at: number): boolean {
  let first = at
  while (json.charCodeAt(first - 1) === backslash) first--
  return (at - first) % 2 === 1
}

function afterNumber(json: string, start: number): number {
  let end = start + 1
  while (end < json.length && isNumberCharacter(json.charCodeAt(end))) end++
  return end
}

// 0-9 . + - e E
function isNumberCharacter(c: number): boolean {
  return (c >= zero && c <= nine) || c === 0x2e || c === 0x2b || c === minus || c === 0x65 || c === 0x45
}

function quotedIfLong(json: string, start: number, end: number): string | null {
  const token = json.slice(start, end)
  if (token.length <= digitsAlwaysExact && !/e/i.test(token)) return null
  // A number may not be a key; quoting it there would mend a broken document.
  if (!numberGrammar.test(token) || /^\s*:/.test(json.slice(end, end + 64))) return null
  const [mantissa = '', exponent = '0'] = token.replace(/^-/, '').toLowerCase().split('e')
  const [whole = '', fraction = ''] = mantissa.split('.')
  const digits = (whole + fraction).replace(/^0+/, '')
  const scale = Number(exponent) - fraction.length
  if (digits.length + Math.max(scale, 0) <= digitsAlwaysExact) return null
  const value = wholeValue(digits, scale)
  return value === null ? `"${token}"` : `"${token.startsWith('-') && value !== '0' ? '-' : ''}${value}"`
}

/** digits × 10^scale as plain digits, or null when it is not a whole number or too long to write out. */
function wholeValue(digits: string, scale: number): string | null {
  if (digits === '') return '0'
  if (digits.length + Math.max(scale, 0) > wholeDigitsMax) return null
  if (scale >= 0) return digits + '0'.repeat(scale)
  return /^0*$/.test(digits.slice(scale)) ? digits.slice(0, scale) || '0' : null
}
