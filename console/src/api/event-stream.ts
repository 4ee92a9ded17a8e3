import { ApiError, announce, failureFrom, type Service, unreachable } from './http.ts'
import { takeStreamSlot } from './stream-slots.ts'

// Server-sent events over fetch instead of EventSource, because a refused stream must show the service's own sentence
// (a query error with its position), and EventSource hides status and body.
//
// States: connecting → live → (cut, silent, refused for now) waiting → connecting …
//         connecting → refused: the request itself is wrong; trying again cannot help until it changes
//         any → paused while the page is hidden, so that background tabs hold none of the browser's six connections.

export interface StreamEvent {
  event: string
  data: string
  id: string | null
}

export type StreamState =
  | { status: 'connecting' }
  | { status: 'live' }
  | { status: 'waiting'; retryAtMs: number; error: ApiError }
  | { status: 'refused'; error: ApiError }
  | { status: 'paused' }

interface StreamOptions {
  service: Service
  address: string
  onEvent: (event: StreamEvent) => void
  onState: (state: StreamState) => void
}

/** Services send a heartbeat every 15 s. Three missed in a row means a dead connection, not a quiet one. */
const silenceMsMax = 45_000
const retryMsFirst = 1_000
const retryMsMax = 15_000
/** How long a hidden page keeps its streams: switching tabs and back should not blink. */
const hiddenGraceMs = 10_000

export function openEventStream({ service, address, onEvent, onState }: StreamOptions): { close(): void } {
  let lastId: string | null = null
  let failures = 0
  let retryMs = retryMsFirst
  let attempt: AbortController | null = null
  let timer: ReturnType<typeof setTimeout> | undefined
  let isClosed = false

  async function connect(): Promise<void> {
    const mine = new AbortController()
    attempt = mine
    onState({ status: 'connecting' })
    const release = await takeStreamSlot()
    if (attempt !== mine) return release?.()
    try {
      if (!release) throw allTaken(service)
      const response = await fetch(address, {
        credentials: 'same-origin',
        headers: { accept: 'text/event-stream', ...(lastId === null ? {} : { 'last-event-id': lastId }) },
        signal: mine.signal,
      })
      if (!response.ok) {
        const failure = await failureFrom(service, response)
        announce(failure)
        throw failure
      }
      if (!response.body) throw unreachable(service)
      failures = 0
      onState({ status: 'live' })
      await readEvents(response.body, mine)
      throw new ApiError({ service, status: 0, kind: 'away', message: `${service} ended the stream.` })
    } catch (cause) {
      if (isClosed || attempt !== mine) return
      fail(cause instanceof ApiError ? cause : unreachable(service))
    } finally {
      release?.()
    }
  }

  async function readEvents(body: ReadableStream<Uint8Array>, mine: AbortController): Promise<void> {
    const parser = createEventParser({
      onEvent: event => {
        if (event.id !== null) lastId = event.id
        onEvent(event)
      },
      onRetry: ms => {
        retryMs = Math.min(Math.max(ms, 100), retryMsMax)
      },
    })
    const decoder = new TextDecoder()
    const reader = body.getReader()
    for (;;) {
      const silence = setTimeout(() => mine.abort(), silenceMsMax)
      const { done, value } = await reader.read().finally(() => clearTimeout(silence))
      if (attempt !== mine || done) return
      parser.feed(decoder.decode(value, { stream: true }))
    }
  }

  function fail(error: ApiError): void {
    attempt = null
    if (['invalid', 'forbidden', 'missing', 'unimplemented', 'signed-out'].includes(error.kind)) {
      onState({ status: 'refused', error })
      return
    }
    const waitMs = error.retryAfterS === null ? retryDelayMs(failures++, retryMs) : error.retryAfterS * 1000
    onState({ status: 'waiting', retryAtMs: Date.now() + waitMs, error })
    timer = setTimeout(connect, waitMs)
  }

  function stop(): void {
    clearTimeout(timer)
    const running = attempt
    attempt = null
    running?.abort()
  }

  let hideTimer: ReturnType<typeof setTimeout> | undefined
  let isPaused = false
  function onVisibility(): void {
    clearTimeout(hideTimer)
    if (document.hidden) {
      hideTimer = setTimeout(() => {
        isPaused = true
        stop()
        onState({ status: 'paused' })
      }, hiddenGraceMs)
    } else if (isPaused) {
      isPaused = false
      void connect()
    }
  }
  document.addEventListener('visibilitychange', onVisibility)
  void connect()

  return {
    close() {
      isClosed = true
      clearTimeout(hideTimer)
      document.removeEventListener('visibilitychange', onVisibility)
      stop()
    },
  }
}

function allTaken(service: Service): ApiError {
  return new ApiError({
    service,
    status: 0,
    kind: 'busy',
    message: 'Other windows of this console hold all live connections the browser allows. Close or hide one of them.',
    retryAfterS: 5,
  })
}

/** Doubling from `firstMs`, at most 15 s, with a fifth of jitter so that many tabs do not return as one. */
export function retryDelayMs(failures: number, firstMs: number, random = Math.random()): number {
  return Math.min(retryMsMax, firstMs * 2 ** Math.min(failures, 10) * (0.8 + 0.4 * random))
}

/** Largest event kept; a line of log with all its metadata is below 1.1 MiB. Longer ones are dropped whole. */
const eventCharsMax = 2 * 1024 * 1024

/** The parser of the HTML standard (§9.2.6), fed with text in any split. */
export function createEventParser({
  onEvent,
  onRetry,
}: {
  onEvent: (event: StreamEvent) => void
  onRetry?: (ms: number) => void
}) {
  let buffer = ''
  let isFirst = true
  let data: string[] = []
  let dataChars = 0
  let event = ''
  let id: string | null = null

  return {
    feed(text: string): void {
      buffer += text
      if (isFirst && buffer !== '') {
        isFirst = false
        if (buffer.startsWith('\uFEFF')) buffer = buffer.slice(1)
      }
      let from = 0
      for (;;) {
        const end = lineEnd(buffer, from)
        if (end === null) break
        readLine(buffer.slice(from, end.at))
        from = end.next
      }
      buffer = buffer.slice(from)
      if (buffer.length > eventCharsMax) buffer = ''
    },
  }

  function readLine(line: string): void {
    if (line === '') {
      dispatch()
      return
    }
    const colon = line.indexOf(':')
    if (colon === 0) return
    const field = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1)
    if (field === 'data') {
      dataChars += value.length
      if (dataChars <= eventCharsMax) data.push(value)
    } else if (field === 'event') event = value
    else if (field === 'id' && !value.includes('\0')) id = value
    else if (field === 'retry' && /^\d{1,9}$/.test(value)) onRetry?.(Number(value))
  }

  function dispatch(): void {
    if (data.length > 0 && dataChars <= eventCharsMax) onEvent({ event: event || 'message', data: data.join('\n'), id })
    data = []
    dataChars = 0
    event = ''
  }
}

/** A CR at the very end may be the first half of CRLF: wait for the next character before calling it a line. */
function lineEnd(text: string, from: number): { at: number; next: number } | null {
  for (let at = from; at < text.length; at++) {
    const char = text.charCodeAt(at)
    if (char === 10) return { at, next: at + 1 }
    if (char !== 13) continue
    if (at + 1 >= text.length) return null
    return { at, next: text.charCodeAt(at + 1) === 10 ? at + 2 : at + 1 }
  }
  return null
}
