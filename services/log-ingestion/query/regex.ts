// Regular expressions of users, run by RE2's automata: time grows with the text, whatever the pattern.

import { RE2JS } from 're2js'

/** Bytes of UTF-8. */
export const regexBytesMax = 1_024
/** Instructions. A step costs at most this many; repeats such as (a{100}){9} are short to write and long to run. */
const programSizeMax = 2_000

export class RegexError extends Error {}

/** Whether it occurs anywhere in a text. @throws RegexError in words for people */
export function compileRegex(pattern: string): (text: string) => boolean {
  const bytes = Buffer.byteLength(pattern)
  if (bytes > regexBytesMax)
    throw new RegexError(`the regular expression has ${bytes} bytes, at most ${regexBytesMax} are taken`)
  const compiled = parsed(pattern)
  const size = compiled.programSize()
  if (size > programSizeMax)
    throw new RegexError(
      `the regular expression unrolls to ${size} steps, at most ${programSizeMax} are taken; repeat less`,
    )
  return text => compiled.test(text)
}

function parsed(pattern: string): RE2JS {
  try {
    return RE2JS.compile(pattern)
  } catch (error) {
    const problem = error instanceof Error ? error.message.replace(/^error parsing regexp: /, '') : String(error)
    throw new RegexError(`not a regular expression of RE2 (no look-around, no back-references): ${problem}`)
  }
}

/** Matches the text itself. */
export function quoteRegex(text: string): string {
  return text.replaceAll(/[\\^$.|?*+()[\]{}/"']/g, '\\$&')
}
