import { useCallback, useEffect, useEffectEvent, useState } from 'react'
import { ApiError } from '../api/http.ts'

// One panel's data: loaded, kept fresh while the page is visible, and kept on the screen (marked stale) when a refresh
// fails. Panels do not wait for each other.

export interface Resource<T> {
  /** The newest answer, also while a newer one is on its way or has failed. */
  data: T | null
  error: ApiError | null
  isLoading: boolean
  loadedAtMs: number | null
  reload(): void
}

interface Entry {
  data: unknown
  loadedAtMs: number
}

/** Last answers by key, so that going back to a screen shows it at once. Some hundred answers at most. */
const lastAnswers = new Map<string, Entry>()
const lastAnswersMax = 100
/** After a failure we look again this often at least, however seldom the panel refreshes. Milliseconds. */
const retryMs = 5_000

/**
 * @param key names the data; null means "not now". A new key starts afresh.
 * @param everyMs how often to refresh; 0 loads once and again on `reload`.
 */
export function useResource<T>(
  key: string | null,
  load: (signal: AbortSignal) => Promise<T>,
  everyMs = 0,
): Resource<T> {
  const [state, setState] = useState<{
    key: string | null
    data: T | null
    error: ApiError | null
    loadedAtMs: number | null
  }>(() => fromLast<T>(key))
  const [attempt, setAttempt] = useState(0)
  const loadNow = useEffectEvent(load)
  const shown = state.key === key ? state : fromLast<T>(key)

  // biome-ignore lint/correctness/useExhaustiveDependencies: a new attempt is what reload() asks for
  useEffect(() => {
    if (key === null) return
    const abort = new AbortController()
    let timer: ReturnType<typeof setTimeout> | undefined
    let isRunning = false

    async function run(): Promise<void> {
      if (isRunning || abort.signal.aborted || key === null) return
      isRunning = true
      clearTimeout(timer)
      let waitMs = everyMs
      try {
        const data = await loadNow(abort.signal)
        if (abort.signal.aborted) return
        const loadedAtMs = Date.now()
        remember(key, { data, loadedAtMs })
        setState({ key, data, error: null, loadedAtMs })
      } catch (cause) {
        if (abort.signal.aborted) return
        const error = asApiError(cause)
        setState(before => ({ ...(before.key === key ? before : fromLast<T>(key)), error }))
        const mayHeal = error.kind === 'away' || error.kind === 'busy' || error.kind === 'failed'
        waitMs = mayHeal ? Math.max(everyMs, (error.retryAfterS ?? 0) * 1000, retryMs) : everyMs
      } finally {
        isRunning = false
      }
      if (waitMs > 0) timer = setTimeout(() => (document.hidden ? undefined : run()), waitMs)
    }

    const onVisible = () => {
      if (!document.hidden && everyMs > 0) void run()
    }
    document.addEventListener('visibilitychange', onVisible)
    void run()
    return () => {
      abort.abort()
      clearTimeout(timer)
      document.removeEventListener('visibilitychange', onVisible)
    }
  }, [key, everyMs, attempt])

  const reload = useCallback(() => setAttempt(n => n + 1), [])
  return {
    data: shown.data,
    error: shown.error,
    isLoading: key !== null && shown.data === null && shown.error === null,
    loadedAtMs: shown.loadedAtMs,
    reload,
  }
}

/** A resource whose key is a question that people change: what was answered before stays on the screen, marked as old,
 *  until the new question has its answer or its refusal. */
export function useHeld<T>(resource: Resource<T>): Resource<T> & { isOld: boolean } {
  const [held, setHeld] = useState(resource.data)
  if (resource.data !== null && resource.data !== held) setHeld(resource.data)
  const isOld = resource.isLoading && held !== null
  return { ...resource, data: isOld ? held : resource.data, isLoading: resource.isLoading && !isOld, isOld }
}

/** Forget everything, when another person signs in. */
export function forgetAnswers(): void {
  lastAnswers.clear()
}

/** A failure of our own code must not look like a service that is away. */
export function asApiError(cause: unknown): ApiError {
  if (cause instanceof ApiError) return cause
  return new ApiError({
    service: 'budgetguard',
    status: 0,
    kind: 'failed',
    message:
      cause instanceof Error
        ? `This page could not read the answer: ${cause.message}`
        : 'This page could not read the answer.',
  })
}

function fromLast<T>(key: string | null) {
  const last = key === null ? undefined : lastAnswers.get(key)
  return { key, data: (last?.data ?? null) as T | null, error: null, loadedAtMs: last?.loadedAtMs ?? null }
}

function remember(key: string, entry: Entry): void {
  lastAnswers.delete(key)
  lastAnswers.set(key, entry)
  if (lastAnswers.size <= lastAnswersMax) return
  const oldest = lastAnswers.keys().next()
  if (!oldest.done) lastAnswers.delete(oldest.value)
}
