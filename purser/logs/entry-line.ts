// An entry as one line for people.

import type { Terminal } from '../terminal.ts'

export interface ShownEntry {
  timestamp: string
  service: string
  level: string
  message: string
  metadata: unknown
}

export function entryLine(entry: ShownEntry, t: Terminal): string {
  const { timestamp, service, level, message, metadata } = entry
  const paint = /^(ERROR|CRITICAL|FATAL)$/.test(level) ? t.red : /^WARN/.test(level) ? t.yellow : t.green
  const more = metadata === null || metadata === undefined ? '' : ` ${t.dim(JSON.stringify(metadata))}`
  // Trailing zeros are trimmed in answers; lines that stand below each other read better with all three digits.
  const time = timestamp.replace(/(\.\d+)?Z$/, (_, fraction: string = '.') => `${fraction.padEnd(4, '0')}Z`)
  return `${t.dim(time)} ${paint(level.padEnd(5))} ${t.bold(service)} ${message}${more}`
}

/** JSON whose numbers keep their digits when they are written again. */
export function parseExact(text: string): unknown {
  return JSON.parse(text, (_, value: unknown, context?: { source?: string }) =>
    typeof value === 'number' && context?.source !== undefined ? rawJson(context.source) : value,
  )
}

/** Not in the types yet: a value that JSON.stringify writes as it is. */
function rawJson(source: string): unknown {
  return 'rawJSON' in JSON && typeof JSON.rawJSON === 'function' ? JSON.rawJSON(source) : Number(source)
}
