import { useEffect, useEffectEvent, useRef, useState } from 'react'
import { type Entry, searchLogs, type TailEntry, type TailGap, tailAddress } from '../api/logs.ts'
import { dataOf, type LiveState, useStream } from '../live/use-stream.ts'

/** A line of log, or the honest note that lines are missing here (null: nobody knows how many). `atMs` is when it came to
 *  this page. */
export type TailItem =
  | { kind: 'entry'; key: string; entry: Entry; isNew: boolean; atMs: number }
  | { kind: 'gap'; key: string; missed: number | null; atMs: number }

export interface Tail {
  /** Newest first. */
  items: readonly TailItem[]
  state: LiveState
  clear(): void
}

interface TailOptions {
  query: string
  /** Items kept; older ones are one search away. */
  keep: number
  /** Stored lines to begin with, so that a quiet system does not look like an empty one. */
  before: number
}

/** Entries as they are accepted, newest first. Events are gathered per frame: a burst of thousands is one render. */
export function useTail({ query, keep, before }: TailOptions): Tail {
  const [items, setItems] = useState<readonly TailItem[]>([])
  const waiting = useRef<TailItem[]>([])
  const frame = useRef(0)
  const count = useRef(0)

  const seed = useEffectEvent(async (signal: AbortSignal) => {
    const { logs } = await searchLogs({ q: query, limit: before }, signal)
    if (!signal.aborted) setItems(live => [...live, ...olderThan(live, logs)].slice(0, keep))
  })

  // biome-ignore lint/correctness/useExhaustiveDependencies: another query starts with an empty screen
  useEffect(() => {
    const abort = new AbortController()
    setItems([])
    waiting.current = []
    // Without the stored lines the tail is still the tail; what is wrong with the service, the stream itself will say.
    seed(abort.signal).catch(() => undefined)
    return () => {
      abort.abort()
      cancelAnimationFrame(frame.current)
    }
  }, [query])

  const state = useStream('log-ingestion', tailAddress(query), event => {
    const item = itemFrom(event.event, dataOf<unknown>(event), count.current++)
    if (!item) return
    waiting.current.push(item)
    // Of a burst longer than the screen keeps, only the newest part can still be seen.
    if (waiting.current.length > keep) waiting.current.splice(0, waiting.current.length - keep)
    if (waiting.current.length > 1) return
    frame.current = requestAnimationFrame(() => {
      const added = waiting.current.reverse()
      waiting.current = []
      setItems(shown => [...added, ...shown].slice(0, keep))
    })
  })

  return { items, state, clear: () => setItems([]) }
}

/** Stored entries that the stream has not brought already. Its events have no id, so they are compared by content. */
function olderThan(live: readonly TailItem[], stored: readonly (Entry & { id?: string })[]): TailItem[] {
  const seen = new Set(live.map(item => (item.kind === 'entry' ? contentOf(item.entry) : '')))
  return stored
    .filter(entry => !seen.has(contentOf(entry)))
    .map(entry => ({
      kind: 'entry',
      key: `s${entry.id}`,
      entry,
      isNew: false,
      atMs: Date.parse(entry.created_at ?? entry.timestamp),
    }))
}

function contentOf({ timestamp, service, level, message }: Entry): string {
  return JSON.stringify([Date.parse(timestamp), service, level, message])
}

function itemFrom(event: string, data: unknown, n: number): TailItem | null {
  if (typeof data !== 'object' || data === null) return null
  const atMs = Date.now()
  if (event === 'log') return { kind: 'entry', key: `t${n}`, entry: data as TailEntry, isNew: true, atMs }
  if (event === 'gap') return { kind: 'gap', key: `g${n}`, missed: (data as TailGap).dropped, atMs }
  return null
}
