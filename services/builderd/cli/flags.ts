// Command lines of builderd and builderd-cli: flags before or after the command, one dash or two.

import { type ParseArgsOptionsConfig, parseArgs } from 'node:util'

export class UsageError extends Error {}

/** @throws UsageError with a sentence for the person at the terminal */
export function parseFlags<const O extends ParseArgsOptionsConfig>(args: readonly string[], options: O) {
  // The guides write long flags with one dash as well as two.
  const twoDashes = args.map(arg => (/^-[a-z][a-z-]+(=|$)/.test(arg) ? `-${arg}` : arg))
  try {
    return parseArgs({ args: twoDashes, options, allowPositionals: true, strict: true })
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error))
  }
}
