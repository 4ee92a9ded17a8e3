// Reads server-sent events as they come.

export interface SseEvent {
  event: string
  data: string
  id?: string
}

export interface SseReader {
  /** So far. */
  readonly events: readonly SseEvent[]
  /** Resolves with all events so far as soon as `isEnough`. */
  until(isEnough: (events: readonly SseEvent[]) => boolean, timeoutMs?: number): Promise<SseEvent[]>
  close(): void
}

export async function openSse(url: string, headers: Record<string, string>): Promise<SseReader> {
  const abort = new AbortController()
  const response = await fetch(url, { headers, signal: abort.signal })
  if (response.status !== 200 || !response.body) throw new Error(`${response.status}: ${await response.text()}`)
  const events: SseEvent[] = []
  const waiters = new Set<() => void>()
  const read = async () => {
    let rest = ''
    for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
      const blocks = (rest + chunk).split('\n\n')
      rest = blocks.pop() ?? ''
      for (const block of blocks) {
        const fields = Object.fromEntries(
          block.split('\n').map(line => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]),
        )
        if (fields.event !== undefined)
          events.push({ event: fields.event, data: fields.data ?? '', ...(fields.id ? { id: fields.id } : {}) })
      }
      for (const wake of waiters) wake()
    }
  }
  read().catch(() => {})
  return {
    events,
    until: (isEnough, timeoutMs = 60_000) =>
      new Promise((resolve, reject) => {
        const timer = setTimeout(
          () => reject(new Error(`no such events within ${timeoutMs} ms: ${JSON.stringify(events.slice(-5))}`)),
          timeoutMs,
        )
        const look = () => {
          if (!isEnough(events)) return
          clearTimeout(timer)
          waiters.delete(look)
          resolve([...events])
        }
        waiters.add(look)
        look()
      }),
    close: () => abort.abort(),
  }
}
