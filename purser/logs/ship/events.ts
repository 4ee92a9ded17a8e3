// Bytes of a log file as events: lines, stack traces joined to the line they belong to.
//
// The same bytes from the same place always give the same events, whenever they are read: a resend after a crash has to
// have the body of the first attempt.

import { RE2JS } from 're2js'

/** Whether a line goes on with the event before it. */
export type Continuation = (line: string, state: TraceState) => boolean

/** What the lines so far say about the next one. */
export interface TraceState {
  inPythonTrace: boolean
}

export const singleLines: Continuation = () => false

/** Java, JavaScript, Python, Go, Ruby, .NET: indented lines, and the few words that begin a line inside a trace. */
export const stackTraces: Continuation = (line, state) => {
  if (line.startsWith('Traceback (most recent call last):')) {
    state.inPythonTrace = true
    return true
  }
  if (/^(?:During handling of the above exception|The above exception was the direct cause)/.test(line)) return true
  if (/^[ \t]/.test(line)) return true
  if (state.inPythonTrace) {
    // The exception itself stands unindented behind its frames.
    if (line === '') return true
    state.inPythonTrace = false
    return /^[A-Za-z_][\w.]*(?::|$)/.test(line)
  }
  return /^(?:Caused by: |Suppressed: |\.\.\. \d+ more|at [\w$.<]|goroutine \d+ \[|\}$|\)$)/.test(line)
}

/** A line is a new event when the expression matches it. */
export function startsAt(pattern: string): Continuation {
  const compiled = RE2JS.compile(pattern)
  return line => !compiled.test(line)
}

/** Offsets in the bytes given. */
export interface LogEvent {
  from: number
  to: number
  text: string
}

const eventBytesMax = 200 * 1024
const eventLinesMax = 1_000

/**
 * Whole lines as events; the last one may still grow. `isEnd` makes an event of a last line without its line feed too.
 * What is longer than an event may be is cut into several.
 */
export function splitEvents(bytes: Buffer, continues: Continuation, isEnd: boolean): LogEvent[] {
  const events: LogEvent[] = []
  const state: TraceState = { inPythonTrace: false }
  let open: LogEvent | undefined
  let lines = 0
  for (let at = 0; at < bytes.length; ) {
    const feed = bytes.indexOf(0x0a, at)
    let to = feed < 0 ? bytes.length : feed + 1
    if (to - at > eventBytesMax) to = at + eventBytesMax
    else if (feed < 0 && !isEnd) break
    const text = bytes.toString('utf8', at, to).replace(/\r?\n$/, '')
    if (open && lines < eventLinesMax && to - open.from <= eventBytesMax && continues(text, state)) {
      open.text += `\n${text}`
      open.to = to
      lines++
    } else {
      // A trace that begins the bytes has no line to belong to.
      if (!open) continues(text, state)
      else if (!text.startsWith('Traceback')) state.inPythonTrace = false
      open = { from: at, to, text }
      lines = 1
      events.push(open)
    }
    at = to
  }
  return events
}

/** What the service reads: a JSON line as it is, everything else as a message with what can be read off it. */
export function bodyOf(events: readonly LogEvent[], file: string): string {
  return events
    .filter(({ text }) => text.trim() !== '')
    .map(({ text }) =>
      isJsonObject(text) ? text : JSON.stringify({ ...readOff(text), message: text.trimEnd(), file }),
    )
    .map(line => `${line}\n`)
    .join('')
}

function isJsonObject(text: string): boolean {
  if (!text.startsWith('{') || text.includes('\n')) return false
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

const levelWord = /\b(TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|CRITICAL|FATAL|PANIC)\b/i
const leadingTime = /^\[?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d))/

function readOff(text: string): { timestamp?: string; level?: string } {
  const time = leadingTime.exec(text)?.[1]
  const level = levelWord.exec(text.slice(0, 80))?.[1]
  return { ...(time ? { timestamp: time.replace(' ', 'T') } : {}), ...(level ? { level: level.toUpperCase() } : {}) }
}
