import { useEffect, useEffectEvent, useRef, useState } from 'react'
import type { ApiError } from '../../api/http.ts'
import { type SearchAnswer, searchLogs } from '../../api/logs.ts'
import { asApiError } from '../../live/use-resource.ts'

/** The first answer is to be quick; whoever asks for more wants much. */
const pageEntries = 100
const morePageEntries = 1_000
/** Entries kept on one page; further back a narrower range is quicker than scrolling. */
const entriesMax = 20_000

export interface Search {
  entries: SearchAnswer['logs']
  cursor: string | null
  isPartial: boolean
  /** The page holds as many as it may; the cursor would go on. */
  isFull: boolean
  isLoading: boolean
  /** What is here answers the question before; the new one is on its way. */
  isOld: boolean
  error: ApiError | null
  more(): void
}

interface State extends Omit<Search, 'more' | 'isOld'> {
  /** The question that this belongs to; '' before the first answer. */
  question: string
}

/** How soon a service that is away is asked again. Milliseconds. */
const retryMs = 5_000

/** Pages of one search, newest first, by cursor: entries that arrive meanwhile neither repeat nor shift them. Those of the
 *  question before stay until the next one has an answer. */
export function useSearch(o: { query: string; from: string; to: string }): Search {
  const question = `${o.from} ${o.to} ${o.query}`
  const [found, setFound] = useState<State>({
    question: '',
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
        {
          ...{ q: o.query, from: o.from, to: o.to },
          ...(cursor === null ? { limit: pageEntries } : { limit: morePageEntries, cursor }),
        },
        abort.signal,
      )
      if (abort.signal.aborted) return
      setFound(before => {
        const entries = cursor === null ? answer.logs : [...before.entries, ...answer.logs]
        return {
          question,
          entries,
          cursor: answer.cursor,
          isFull: entries.length >= entriesMax,
          isPartial: answer.partial,
          isLoading: false,
          error: null,
        }
      })
    } catch (cause) {
      if (abort.signal.aborted) return
      const error = asApiError(cause)
      setFound(before =>
        before.question === question
          ? { ...before, isLoading: false, error }
          : { question, entries: [], cursor: null, isPartial: false, isFull: false, isLoading: false, error },
      )
    }
  }

  const start = useEffectEvent(() => void load(null))
  // biome-ignore lint/correctness/useExhaustiveDependencies: another question starts from the first page
  useEffect(() => {
    start()
    return () => running.current?.abort()
  }, [o.query, o.from, o.to])

  const isOther = found.question !== question
  const more = () => void load(isOther ? null : found.cursor)
  const again = useEffectEvent(more)
  const error = isOther ? null : found.error
  const isAway = error?.kind === 'away'
  useEffect(() => {
    if (!isAway) return
    const timer = setInterval(() => again(), retryMs)
    return () => clearInterval(timer)
  }, [isAway])

  const isLoading = found.isLoading || isOther
  return { ...found, isLoading, isOld: isOther && found.question !== '', error, more }
}
