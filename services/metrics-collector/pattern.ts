// Regular expressions that people write in configuration and queries, run where they cannot stop the clock: some
// patterns take exponential time on some names, and this process has one thread.

import { Script } from 'node:vm'

/** Patterns and names longer than this are mistakes. */
export const patternLengthMax = 256

const timeboxMs = 50

/** Cached answers; names are interface, device and label names, of which a host has hundreds. */
const answersMax = 10_000

export interface Pattern {
  /** Whether the whole text matches. @throws Error when that cannot be told within 50 ms */
  test(text: string): boolean
  testAll(texts: readonly string[]): boolean[]
}

/** @throws Error that says what is wrong with the pattern */
export function compilePattern(source: string): Pattern {
  if (source.length > patternLengthMax)
    throw new Error(`a pattern has at most ${patternLengthMax} characters, this one ${source.length}`)
  try {
    new RegExp(`^(?:${source})$`, 's')
  } catch (error) {
    throw new Error(`is not a regular expression: ${error instanceof Error ? error.message : String(error)}`)
  }
  const literal = JSON.stringify(`^(?:${source})$`)
  const answers = new Map<string, boolean>()

  const ask = (texts: readonly string[]) => {
    if (answers.size + texts.length > answersMax) answers.clear()
    // The interpreter checks its deadline inside a match too; a plain test() could not be stopped.
    const script = new Script(`(p => ${JSON.stringify(texts)}.map(t => p.test(t)))(new RegExp(${literal}, 's'))`)
    let found: unknown
    try {
      found = script.runInThisContext({ timeout: timeboxMs })
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ERR_SCRIPT_EXECUTION_TIMEOUT')
        throw new Error(`the pattern ${source} takes longer than ${timeboxMs} ms; write it without nested repetition`)
      throw error
    }
    if (!Array.isArray(found)) throw new Error('BUG: no list of matches')
    for (const [index, text] of texts.entries()) answers.set(text, found[index] === true)
  }

  return {
    test(text) {
      if (!answers.has(text)) ask([text])
      return answers.get(text) ?? false
    },
    testAll(texts) {
      const unknown = texts.filter(text => !answers.has(text))
      if (unknown.length > 0) ask([...new Set(unknown)])
      return texts.map(text => answers.get(text) ?? false)
    },
  }
}
