// Severity: the words entries may carry, their rank, and the one mapping from everybody else's words to ours.

/** Stored by index in journal records, so this list only ever grows at its end. */
export const levels = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'WARNING', 'ERROR', 'CRITICAL', 'FATAL'] as const
export type Level = (typeof levels)[number]

/** Ranks follow OpenTelemetry's severity numbers where it has the word; WARNING is another spelling of WARN. */
const ranks: Readonly<Record<Level, number>> = {
  TRACE: 1,
  DEBUG: 5,
  INFO: 9,
  WARN: 13,
  WARNING: 13,
  ERROR: 17,
  CRITICAL: 18,
  FATAL: 21,
}

export const errorLevels: readonly Level[] = ['ERROR', 'CRITICAL', 'FATAL']

/** Undefined for words that are none of ours, such as those of rows somebody else wrote. */
export function rankOf(level: string): number | undefined {
  return isLevel(level) ? ranks[level] : undefined
}

export function isLevel(word: string): word is Level {
  return Object.hasOwn(ranks, word)
}

export function levelAt(index: number): Level {
  const level = levels[index]
  if (level === undefined) throw new Error(`BUG: no level has index ${index}`)
  return level
}

export function levelIndex(level: Level): number {
  return levels.indexOf(level)
}

/** The native intake takes these seven in any case; TRACE comes only from protocols that know it. */
const nativeByLength: readonly (readonly Level[])[] = [
  [],
  [],
  [],
  [],
  ['INFO', 'WARN'],
  ['ERROR', 'DEBUG', 'FATAL'],
  [],
  ['WARNING'],
  ['CRITICAL'],
]

/** The index in `levels` of the word at bytes[from, to), read without case; -1 when it is not a native level. */
export function nativeLevelIndex(bytes: Uint8Array, from: number, to: number): number {
  for (const level of nativeByLength[to - from] ?? [])
    if (equalsIgnoreCase(bytes, from, level)) return levelIndex(level)
  return -1
}

function equalsIgnoreCase(bytes: Uint8Array, from: number, upper: string): boolean {
  for (let i = 0; i < upper.length; i++) {
    const byte = bytes[from + i] as number
    // Only letters are in `upper`, so clearing bit 5 compares without case; anything else cannot become a letter of it.
    if ((byte & 0xdf) !== upper.charCodeAt(i) || byte < 0x41) return false
  }
  return true
}

/** Words of syslog, pino, zap, Java and friends. Undefined means: store INFO and keep the original beside it. */
export function levelOfWord(word: string): Level | undefined {
  const upper = word.trim().toUpperCase()
  if (isLevel(upper)) return upper
  for (const [pattern, level] of synonyms) if (pattern.test(upper)) return level
  return undefined
}

const synonyms: readonly (readonly [RegExp, Level])[] = [
  [/^(EMERG|PANIC|F)/, 'FATAL'],
  [/^(ALERT$|CRIT)/, 'CRITICAL'],
  [/^(ERR|SEVERE$)/, 'ERROR'],
  [/^WARN/, 'WARN'],
  [/^(NOTICE$|INFO|OK$)/, 'INFO'],
  [/^(DEBUG|VERBOSE)$/, 'DEBUG'],
]

/** Words and numbers of all protocols but syslog's. */
export function levelOfText(text: string): Level | undefined {
  return /^\d+(\.0*)?$/.test(text) ? levelOfNumber(Number(text)) : levelOfWord(text)
}

const bySyslogSeverity = ['FATAL', 'CRITICAL', 'CRITICAL', 'ERROR', 'WARN', 'INFO', 'INFO', 'DEBUG'] as const

/** RFC 5424 severities 0…7. */
export function levelOfSyslog(severity: number): Level | undefined {
  return bySyslogSeverity[severity]
}

/** Pino and bunyan number their levels 10…60 and allow values in between. */
export function levelOfNumber(n: number): Level | undefined {
  if (!(n >= 10 && n <= 60)) return undefined
  return (['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'] as const)[Math.floor(n / 10) - 1]
}
