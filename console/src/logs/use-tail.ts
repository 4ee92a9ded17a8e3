import { useEffect, useRef, useState } from 'react'
import { type Entry, type TailEntry, type TailGap, tailAddress } from '../api/logs.ts'
import { dataOf, type LiveState, useStream } from '../live/use-stream.ts'

/** A line of log, or the honest note that lines are missing here. */
export type TailItem =
  | { kind: 'entry'; key: string; entry: Entry; atMs: number }
  | { kind: 'gap'; key: string; missed: number; atMs: number }

export interface Tail {
  /** Newest first. */
  items: readonly TailItem[]
  state: LiveState
  clear(): void
}

/** Entries as they are accepted, newest first, at most `keep`. Events are gathered per frame: a burst of thousands is
 *  one render, and nothing is shown more often than the screen can. */
export function useTail(query: string | null, keep: number): Tail {
  const [items, setItems] = useState<readonly TailItem[]>([])
  const waiting = useRef<TailItem[]>([])
  const frame = useRef(0)
  const count = useRef(0)

  // biome-ignore lint/correctness/useExhaustiveDependencies: another query starts with an empty screen
  useEffect(() => {
    setItems([])
    waiting.current = []
    return () => cancelAnimationFrame(frame.current)
  }, [query])

  const state = useStream('log-ingestion', query === null ? null : tailAddress(query), event => {
    const item = itemFrom(event.event, dataOf<unknown>(event), count.current++)
    if (!item) return
    waiting.current.push(item)
    // Of a burst longer than the screen keeps, only the newest part can still be seen.
    if (waiting.current.length > keep) waiting.current.splice(0, waiting.current.length - keep)
    if (waiting.current.length > 1) return
    frame.current = requestAnimationFrame(() => {
      const added = waiting.current.reverse()
      waiting.current = []
      setItems(before => [...added, ...before].slice(0, keep))
    })
  })

  return { items, state, clear: () => setItems([]) }
}

function itemFrom(event: string, data: unknown, n: number): TailItem | null {
  if (typeof data !== 'object' || data === null) return null
  const atMs = Date.now()
  if (event === 'log') return { kind: 'entry', key: `t${n}`, entry: data as TailEntry, atMs }
  if (event === 'gap') return { kind: 'gap', key: `g${n}`, missed: (data as TailGap).dropped, atMs }
  return null
}
