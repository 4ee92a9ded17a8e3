import { useEffect, useEffectEvent, useState } from 'react'
import { openEventStream, type StreamEvent, type StreamState } from '../api/event-stream.ts'
import type { Service } from '../api/http.ts'

export type LiveState = StreamState | { status: 'off' }

/** An event stream for as long as the component is shown; a null address means "off". */
export function useStream(service: Service, address: string | null, onEvent: (event: StreamEvent) => void): LiveState {
  const [state, setState] = useState<LiveState>({ status: 'off' })
  const handle = useEffectEvent(onEvent)
  useEffect(() => {
    if (address === null) {
      setState({ status: 'off' })
      return
    }
    const stream = openEventStream({ service, address, onEvent: event => handle(event), onState: setState })
    return () => stream.close()
  }, [service, address])
  return state
}

/** JSON of an event, or null when it is not what the service promised: one odd event must not end a stream. */
export function dataOf<T>(event: StreamEvent): T | null {
  try {
    return JSON.parse(event.data) as T
  } catch {
    return null
  }
}
