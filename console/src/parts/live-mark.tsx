import { useNow } from '../live/clock.ts'
import type { LiveState } from '../live/use-stream.ts'

/** Whether what is shown moves by itself, in a word and a dot. */
export function LiveMark({ state }: { state: LiveState }) {
  if (state.status === 'off') return null
  return (
    <span
      className="live"
      data-status={state.status}
      role="status"
      data-testid="live"
      title={'error' in state ? state.error.message : undefined}
    >
      <i className="dot" />
      {state.status === 'waiting' ? <Waiting retryAtMs={state.retryAtMs} /> : words[state.status]}
    </span>
  )
}

const words = { live: 'Live', connecting: 'Connecting', refused: 'Not live', paused: 'Paused' }

function Waiting({ retryAtMs }: { retryAtMs: number }) {
  const seconds = Math.max(0, Math.round((retryAtMs - useNow()) / 1000))
  return <>{seconds === 0 ? 'Reconnecting' : `Reconnecting in ${seconds} s`}</>
}
