// Flags and words of a subcommand; what makes no sense is Misuse, with what would.

import { parseArgs } from 'node:util'
import { Misuse } from './main.ts'

type Options = NonNullable<NonNullable<Parameters<typeof parseArgs>[0]>['options']>

/** A query may begin with `-` (`-health`), so words behind `--` and single-dash words are words. */
export function readFlags<const O extends Options>(args: readonly string[], options: O) {
  const words: string[] = []
  const flags: string[] = []
  let isPlain = false
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] ?? ''
    if (isPlain || !arg.startsWith('--')) words.push(arg)
    else if (arg === '--') isPlain = true
    else {
      flags.push(arg)
      const option = options[arg.slice(2)]
      if (option?.type === 'string' && !arg.includes('=')) flags.push(args[++i] ?? '')
    }
  }
  try {
    const { values } = parseArgs({ args: flags, options, strict: true })
    return { values, words }
  } catch (error) {
    throw new Misuse(error instanceof Error ? error.message : String(error))
  }
}

export function countFlag(name: string, text: string | undefined, standard: number, max: number): number {
  if (text === undefined) return standard
  const n = /^\d{1,12}$/.test(text) ? Number(text) : Number.NaN
  if (!(n >= 1 && n <= max)) throw new Misuse(`--${name} must be a whole number from 1 to ${max} (got "${text}")`)
  return n
}
