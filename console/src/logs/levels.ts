// Levels in order of severity, and the class that colours each. The order of ranks is the query language's, so
// `level>=warn` and the histogram's stacking agree. Colours differ in lightness too, and a level is always also a word.

export interface Level {
  name: string
  rank: number
  tone: 'debug' | 'info' | 'warn' | 'error' | 'fatal'
}

const levels: readonly Level[] = [
  { name: 'TRACE', rank: 1, tone: 'debug' },
  { name: 'DEBUG', rank: 5, tone: 'debug' },
  { name: 'INFO', rank: 9, tone: 'info' },
  { name: 'WARN', rank: 13, tone: 'warn' },
  { name: 'WARNING', rank: 13, tone: 'warn' },
  { name: 'ERROR', rank: 17, tone: 'error' },
  { name: 'CRITICAL', rank: 18, tone: 'fatal' },
  { name: 'FATAL', rank: 21, tone: 'fatal' },
]

export const tones = ['debug', 'info', 'warn', 'error', 'fatal'] as const
export type Tone = (typeof tones)[number]

export const toneLabels: Record<Tone, string> = {
  debug: 'Debug',
  info: 'Info',
  warn: 'Warn',
  error: 'Error',
  fatal: 'Fatal',
}

/** What a click on a tone's legend asks for. */
export const toneQueries: Record<Tone, string> = {
  debug: 'level<=debug',
  info: 'level:info',
  warn: 'level:warn',
  error: 'level:error',
  fatal: 'level>=critical',
}

/** A level nobody defined is shown as it came, coloured as information. */
export function levelOf(name: string): Level {
  const upper = name.toUpperCase()
  return levels.find(level => level.name === upper) ?? { name: upper, rank: 9, tone: 'info' }
}

/** Counts per tone from counts per level as a histogram bucket carries them (`{"INFO": "3", "WARNING": "1"}`). */
export function countsByTone(by: Readonly<Record<string, string>> | undefined, total: number): Record<Tone, number> {
  const counts: Record<Tone, number> = { debug: 0, info: 0, warn: 0, error: 0, fatal: 0 }
  if (!by) return { ...counts, info: total }
  for (const [level, count] of Object.entries(by)) counts[levelOf(level).tone] += Number(count)
  return counts
}
