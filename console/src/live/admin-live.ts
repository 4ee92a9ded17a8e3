import { useEffect, useEffectEvent, useState } from 'react'
import type { LiveEvent } from '../../../services/budgetguard/api.ts'
import { liveAddress } from '../api/budgetguard.ts'
import { openEventStream, type StreamState } from '../api/event-stream.ts'
import { dataOf } from './use-stream.ts'

// One connection to /admin/live for however many panels listen: a browser has six connections per origin, and every
// stream takes one of them for good.

type Listener = { onEvent: (event: LiveEvent) => void; onState: (state: StreamState) => void }

const listeners = new Set<Listener>()
let stream: { close(): void } | null = null
let state: StreamState = { status: 'connecting' }

/** Calls, budgets and holds as they change. */
export function useAdminLive(onEvent: (event: LiveEvent) => void): StreamState {
  const [seen, setSeen] = useState<StreamState>(state)
  const handle = useEffectEvent(onEvent)
  useEffect(() => {
    const listener: Listener = { onEvent: event => handle(event), onState: setSeen }
    listeners.add(listener)
    setSeen(state)
    stream ??= open()
    return () => {
      listeners.delete(listener)
      if (listeners.size > 0) return
      stream?.close()
      stream = null
      state = { status: 'connecting' }
    }
  }, [])
  return seen
}

function open(): { close(): void } {
  return openEventStream({
    service: 'budgetguard',
    address: liveAddress,
    onEvent: event => {
      const data = dataOf<LiveEvent['data']>(event)
      if (data === null) return
      const live = { event: event.event, data } as LiveEvent
      for (const listener of listeners) listener.onEvent(live)
    },
    onState: next => {
      state = next
      for (const listener of listeners) listener.onState(next)
    },
  })
}
