// Rooted globs of requests: `*` and `?` inside a part, `**` over parts, `[a-z]`, and `!` in front to take back.
// Matched by dynamic programming instead of regular expressions, whose backtracking a request could abuse.

import { FieldError } from '../errors.ts'

/** Whether a path (no leading slash) matches; the last pattern that matches decides. */
export type PathMatcher = (path: string) => boolean

const patternsMax = 256
const patternBytesMax = 1_024

/** @throws FieldError */
export function compileGlobs(patterns: readonly string[], field: string): PathMatcher {
  if (patterns.length > patternsMax)
    throw new FieldError(field, `${field} has ${patterns.length} patterns; at most ${patternsMax} are taken`)
  const compiled = patterns.map(pattern => {
    if (pattern.length > patternBytesMax || pattern === '' || pattern.includes('\0'))
      throw new FieldError(
        field,
        `${field} has a pattern that is empty, has a NUL or is longer than ${patternBytesMax} bytes`,
      )
    const isTakenBack = pattern.startsWith('!')
    // Trees hold names as latin1 bytes, requests are UTF-8.
    const bytes = Buffer.from(isTakenBack ? pattern.slice(1) : pattern, 'utf8').toString('latin1')
    return { isTakenBack, parts: bytes.split('/').filter(part => part !== '') }
  })
  return path => {
    const parts = path.split('/')
    return compiled.findLast(glob => matchParts(glob.parts, parts))?.isTakenBack === false
  }
}

/** Row i, column j: the first i parts of the glob match the first j of the path. */
function matchParts(glob: readonly string[], path: readonly string[]): boolean {
  let row = [true, ...path.map(() => false)]
  for (const part of glob) {
    const next: boolean[] = [part === '**' && row[0] === true]
    for (const [j, name] of path.entries())
      next.push(part === '**' ? row[j + 1] === true || next[j] === true : row[j] === true && matchPart(part, name))
    row = next
  }
  return row.at(-1) === true
}

function matchPart(glob: string, name: string): boolean {
  const tokens = [...glob.matchAll(/\[(!?)([^\]]+)\]|[\s\S]/g)]
  let row = [true, ...Array.from(name, () => false)]
  for (const [text, negated, set] of tokens) {
    const next: boolean[] = [text === '*' && row[0] === true]
    for (let j = 0; j < name.length; j++)
      next.push(
        text === '*'
          ? row[j + 1] === true || next[j] === true
          : row[j] === true &&
              (text === '?' ||
                (set === undefined ? text === name[j] : inSet(set, name[j] ?? '') !== (negated === '!'))),
      )
    row = next
  }
  return row.at(-1) === true
}

function inSet(set: string, char: string): boolean {
  for (let i = 0; i < set.length; i++) {
    const from = set[i] ?? ''
    const isRange = set[i + 1] === '-' && i + 2 < set.length
    const to = isRange ? (set[i + 2] ?? '') : from
    if (char >= from && char <= to) return true
    if (isRange) i += 2
  }
  return false
}
