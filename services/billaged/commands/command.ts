import { parseArgs } from 'node:util'
import type { Command } from '#platform/lifecycle'
import type { Config } from '../config.ts'
import { type Client, createClient, Refused, UsageError } from './client.ts'

/** What a verb works with: its words, its flags, the service, and where results go. */
export interface Call {
  words: readonly string[]
  flags: Readonly<Record<string, string | undefined>>
  isOn(name: string): boolean
  isJson: boolean
  client: Client
  /** Bytes of a document, as they are. */
  write(document: string | Buffer): void
  /** A result: the value with --json, otherwise the lines. */
  print(value: unknown, lines: readonly string[]): void
}

export const exitOk = 0
export const exitFailure = 1
export const exitUsage = 2
/** Blocked, or something does not match. */
export const exitBlocked = 3

export interface Verb {
  summary: string
  usage: string
  /** Flags that take a value. */
  options?: readonly string[]
  switches?: readonly string[]
  run(call: Call): Promise<number>
}

export interface Output {
  result(text: string | Buffer): void
  /** What is said about it. */
  talk(text: string): void
}

const terminal: Output = {
  result: text => void process.stdout.write(text),
  talk: text => void process.stderr.write(text),
}

/** An admin verb as runMain wants it. */
export function command(verb: Verb): Command<Config> & { verb: Verb } {
  return { summary: verb.summary, verb, run: (args, { config }) => runVerb(verb, args, config, terminal) }
}

/** One or two dashes, `--json`, `-server`, `-key` and exit codes, the same for every verb. */
export async function runVerb(verb: Verb, args: readonly string[], config: Config, out: Output): Promise<number> {
  try {
    const { values, positionals } = parse(verb, args)
    const isOn = (name: string) => values[name] === true
    if (isOn('help')) {
      out.result(`Usage: billaged ${verb.usage}\n`)
      return exitOk
    }
    const flag = (name: string) => (typeof values[name] === 'string' ? values[name] : undefined)
    return await verb.run({
      words: positionals,
      flags: Object.fromEntries((verb.options ?? []).map(name => [name, flag(name)])),
      isOn,
      isJson: isOn('json'),
      client: createClient(config, { server: flag('server'), key: flag('key') }),
      write: out.result,
      print(value, lines) {
        out.result(isOn('json') ? `${JSON.stringify(value, null, 2)}\n` : lines.map(line => `${line}\n`).join(''))
      },
    })
  } catch (error) {
    return report(verb, error, out)
  }
}

function parse(verb: Verb, args: readonly string[]) {
  const spelled = args.map(arg => (/^-[a-z][a-z-]+(=|$)/.test(arg) ? `-${arg}` : arg))
  const text = { type: 'string' } as const
  const on = { type: 'boolean' } as const
  try {
    return parseArgs({
      args: spelled,
      allowPositionals: true,
      options: {
        ...Object.fromEntries([...(verb.options ?? []), 'server', 'key'].map(name => [name, text])),
        ...Object.fromEntries([...(verb.switches ?? []), 'json', 'help'].map(name => [name, on])),
      },
    })
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error))
  }
}

function report(verb: Verb, error: unknown, out: Output): number {
  const message = error instanceof Error ? error.message : String(error)
  out.talk(`billaged: ${message}\n`)
  if (error instanceof UsageError) {
    out.talk(`Usage: billaged ${verb.usage}\n`)
    return exitUsage
  }
  return error instanceof Refused && error.status === 409 ? exitBlocked : exitFailure
}

export function required(value: string | undefined, name: string): string {
  if (value === undefined || value === '') throw new UsageError(`${name} is missing`)
  return value
}
