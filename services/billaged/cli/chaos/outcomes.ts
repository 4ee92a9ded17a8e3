import { appendFileSync, existsSync, readFileSync } from 'node:fs'
import { UsageError } from '../args.ts'
import type { Sum } from './run.ts'
import type { Fault } from './scenario.ts'

export interface Outcome {
  seed: number
  fault: Fault
  /** Kills that came before it. */
  crashes: number
  sum: Sum
}

/** What came of each seed; with a file, also of earlier runs: a line each, written as soon as it is known. */
export function openOutcomes(path: string) {
  const known = new Map<number, Outcome>()
  const text = path !== '' && existsSync(path) ? readFileSync(path, 'utf8') : ''
  for (const [i, line] of text.split('\n').entries()) if (line !== '') add(read(line, `${path}, line ${i + 1}`))

  function add(outcome: Outcome) {
    known.set(outcome.seed, outcome)
  }
  return {
    has: (seed: number) => known.has(seed),
    add(outcome: Outcome) {
      add(outcome)
      const plain = (_: string, value: unknown) => (typeof value === 'bigint' ? `${value}` : value)
      if (path !== '') appendFileSync(path, `${JSON.stringify(outcome, plain)}\n`)
    },
    between: (from: number, to: number) =>
      [...known.values()].filter(({ seed }) => seed >= from && seed < to).toSorted((a, b) => a.seed - b.seed),
  }
}

function read(line: string, where: string): Outcome {
  try {
    const { sum, ...outcome } = JSON.parse(line)
    const amounts = Object.entries<string | number>(sum).map(([name, value]) => [
      name,
      name === 'seeds' ? value : BigInt(value),
    ])
    return { ...outcome, sum: Object.fromEntries(amounts) }
  } catch {
    throw new UsageError(`${where} is not what -resume wrote; name another file`)
  }
}
