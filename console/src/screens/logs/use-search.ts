import { useEffect, useEffectEvent, useRef, useState } from 'react'
import type { ApiError } from '../../api/http.ts'
import { type SearchAnswer, searchLogs } from '../../api/logs.ts'
import { asApiError } from '../../live/use-resource.ts'

const pageEntries = 100
/** Entries kept on one page; further back a narrower range is quicker than scrolling. */
const entriesMax = 5_000

export interface Search {
  entries: SearchAnswer['logs']
  cursor: string | null
  isPartial: boolean
  /** The page holds as many as it may; the cursor would go on. */
  isFull: boolean
  isLoading: boolean
  error: ApiError | null
  more(): void
}

type State = Omit<Search, 'more'>

/** How soon a service that is away is asked again. Milliseconds. */
const retryMs = 5_000

/** Pages of one search, newest first, by cursor: entries that arrive meanwhile neither repeat nor shift them. */
export function useSearch(o: { query: string; from: string; to: string }): Search {
  const [found, setFound] = useState<State>({
    entries: [],
    cursor: null,
    isPartial: false,
    isFull: false,
    isLoading: true,
    error: null,
  })
  const running = useRef<AbortController | null>(null)

  async function load(cursor: string | null): Promise<void> {
    running.current?.abort()
    const abort = new AbortController()
    running.current = abort
    setFound(before => ({ ...before, isLoading: true }))
    try {
      const answer = await searchLogs(
        { q: o.query, from: o.from, to: o.to, limit: pageEntries, ...(cursor === null ? {} : { cursor }) },
        abort.signal,
      )
      if (abort.signal.aborted) return
      setFound(before => {
        const entries = cursor === null ? answer.logs : [...before.entries, ...answer.logs]
        return {
          entries,
          cursor: answer.cursor,
          isFull: entries.length >= entriesMax,
          isPartial: answer.partial,
          isLoading: false,
          error: null,
        }
      })
    } catch (cause) {
      if (!abort.signal.aborted) setFound(before => ({ ...before, isLoading: false, error: asApiError(cause) }))
    }
  }

  const start = useEffectEvent(() => void load(null))
  // biome-ignore lint/correctness/useExhaustiveDependencies: another question starts from the first page
  useEffect(() => {
    start()
    return () => running.current?.abort()
  }, [o.query, o.from, o.to])

  const again = useEffectEvent(() => void load(found.cursor))
  const isAway = found.error?.kind === 'away'
  useEffect(() => {
    if (!isAway) return
    const timer = setInterval(() => again(), retryMs)
    return () => clearInterval(timer)
  }, [isAway])

  return { ...found, more: () => void load(found.cursor) }
}
