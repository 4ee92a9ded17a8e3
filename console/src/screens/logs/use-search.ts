import { useEffect, useEffectEvent, useRef, useState } from 'react'
import type { ApiError } from '../../api/http.ts'
import { type LogEntry, searchLogs } from '../../api/logs.ts'
import { asApiError } from '../../live/use-resource.ts'

const pageEntries = 100
/** Entries kept on one page; further back a narrower range is quicker than scrolling. */
const entriesMax = 5_000

interface Found {
  entries: LogEntry[]
  cursor: string | null
  isPartial: boolean
  isLoading: boolean
  error: ApiError | null
}

/** Pages of one search, newest first, by cursor: entries that arrive meanwhile neither repeat nor shift them. */
export function useSearch(o: { query: string; from: string; to: string }): Found & { more(): void } {
  const [found, setFound] = useState<Found>({
    entries: [],
    cursor: null,
    isPartial: false,
    isLoading: true,
    error: null,
  })
  const running = useRef<AbortController | null>(null)

  async function load(cursor: string | null): Promise<void> {
    running.current?.abort()
    const abort = new AbortController()
    running.current = abort
    setFound(before => ({ ...before, isLoading: true, error: null }))
    try {
      const answer = await searchLogs(
        { q: o.query, from: o.from, to: o.to, limit: pageEntries, ...(cursor === null ? {} : { cursor }) },
        abort.signal,
      )
      if (abort.signal.aborted) return
      setFound(before => {
        const entries = cursor === null ? answer.logs : [...before.entries, ...answer.logs]
        const isFull = entries.length >= entriesMax
        return {
          entries,
          cursor: isFull ? null : answer.cursor || null,
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

  return { ...found, more: () => void load(found.cursor) }
}
