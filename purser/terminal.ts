// What a person sees: colours only on a terminal that wants them.

import { prettyLine } from '#platform/telemetry'

export interface Terminal {
  isInteractive: boolean
  print(text: string): void
  bold(text: string): string
  dim(text: string): string
  green(text: string): string
  yellow(text: string): string
  red(text: string): string
}

export function openTerminal(
  out: NodeJS.WriteStream = process.stdout,
  env: Readonly<Record<string, string | undefined>> = process.env,
): Terminal {
  const isInteractive = out.isTTY === true
  const hasColour = isInteractive && env.NO_COLOR === undefined && env.TERM !== 'dumb'
  const paint = (code: number) => (text: string) => (hasColour ? `\x1b[${code}m${text}\x1b[0m` : text)
  return {
    isInteractive,
    print: text => void out.write(`${text}\n`),
    bold: paint(1),
    dim: paint(2),
    green: paint(32),
    yellow: paint(33),
    red: paint(31),
  }
}

/** A child's JSON line as a person reads it, or undefined when it is not worth their eye. */
export function lineForPeople(line: string, t: Terminal): string | undefined {
  const level = /^\{"level":"([A-Z]+)"/.exec(line)?.[1]
  if (level === undefined) return line.trim() === '' ? undefined : t.dim(line)
  if (level === 'ERROR' || level === 'FATAL') return t.red(prettyLine(line).trimEnd())
  if (level === 'WARN') return t.yellow(prettyLine(line).trimEnd())
  return undefined
}

/** Rows under headings, columns aligned. */
export function table(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = headings.map((heading, i) => Math.max(heading.length, ...rows.map(row => visibleLength(row[i] ?? ''))))
  const format = (row: readonly string[]) =>
    row
      .map((cell, i) => cell + ' '.repeat(Math.max(0, (widths[i] ?? 0) - visibleLength(cell))))
      .join('  ')
      .trimEnd()
  return [headings, ...rows].map(format).join('\n')
}

function visibleLength(text: string): number {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colour codes take no room on the screen
  return text.replace(/\x1b\[\d+m/g, '').length
}
