// What a run has to say: sentences and a table for people, with --json one object a line for programs.

export type Figures = Record<string, string | number>

const style = { isJson: false }

export function reportAsJson(): void {
  style.isJson = true
}

/** `name` tells a program which figures these are. */
export function report(name: string, figures: Figures, text: string): void {
  process.stdout.write(style.isJson ? `${JSON.stringify({ name, ...figures })}\n` : `${text}\n`)
}

/** Of measured times, in milliseconds with one decimal. `sorted` ascending. */
export function timeAt(sorted: readonly number[], share: number): number {
  return Math.round((sorted[Math.floor((sorted.length - 1) * share)] ?? 0) * 10) / 10
}
