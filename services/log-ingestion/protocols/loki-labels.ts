// Labels as Loki's protobuf carries them: `{app="shop", env="prod"}`, values quoted the way Go quotes.

/** Null when the text is not a set of labels. */
export function parseLabels(text: string): [string, string][] | null {
  const labels: [string, string][] = []
  let at = skipSpace(text, 0)
  if (text[at++] !== '{') return null
  at = skipSpace(text, at)
  if (text[at] === '}') return skipSpace(text, at + 1) === text.length ? labels : null
  for (;;) {
    const start = at
    while (at < text.length && isNameCode(text.charCodeAt(at))) at++
    const name = text.slice(start, at)
    at = skipSpace(text, at)
    if (name === '' || text[at] !== '=') return null
    const value = quoted(text, skipSpace(text, at + 1))
    if (value === null) return null
    labels.push([name, value.text])
    at = skipSpace(text, value.end)
    if (text[at] === '}') return skipSpace(text, at + 1) === text.length ? labels : null
    if (text[at] !== ',') return null
    at = skipSpace(text, at + 1)
  }
}

function skipSpace(text: string, at: number): number {
  while (text[at] === ' ' || text[at] === '\t') at++
  return at
}

/** Letters, digits, `_`, `:`, and what OpenTelemetry adds: `.`, `-`, `/`. */
function isNameCode(code: number): boolean {
  return (
    (code >= 0x61 && code <= 0x7a) ||
    (code >= 0x41 && code <= 0x5a) ||
    (code >= 0x2d && code <= 0x3a) ||
    code === 0x5f ||
    code >= 0x80
  )
}

function quoted(text: string, at: number): { text: string; end: number } | null {
  const quote = text[at]
  if (quote !== '"' && quote !== '`') return null
  let out = ''
  let from = at + 1
  for (let i = from; i < text.length; i++) {
    const char = text[i]
    if (char === quote) return { text: out + text.slice(from, i), end: i + 1 }
    if (char !== '\\' || quote === '`') continue
    const decoded = unescapeGo(text, i + 1)
    if (decoded === null) return null
    out += text.slice(from, i) + decoded.text
    from = decoded.end
    i = from - 1
  }
  return null
}

const simple: Readonly<Record<string, string>> = {
  n: '\n',
  r: '\r',
  t: '\t',
  a: '\x07',
  b: '\b',
  f: '\f',
  v: '\v',
  '\\': '\\',
  '"': '"',
  "'": "'",
}
const hexDigits: Readonly<Record<string, number>> = { x: 2, u: 4, U: 8 }

function unescapeGo(text: string, at: number): { text: string; end: number } | null {
  const letter = text[at] ?? ''
  const plain = Object.hasOwn(simple, letter) ? simple[letter] : undefined
  if (plain !== undefined) return { text: plain, end: at + 1 }
  const count = Object.hasOwn(hexDigits, letter) ? hexDigits[letter] : undefined
  if (count === undefined) return null
  const digits = text.slice(at + 1, at + 1 + count)
  const code = /^[0-9a-fA-F]+$/.test(digits) && digits.length === count ? Number.parseInt(digits, 16) : -1
  if (code < 0 || code > 0x10ffff) return null
  return { text: String.fromCodePoint(code).toWellFormed(), end: at + 1 + count }
}
