// What the console sees the moment it happens. Listeners are bounded: one that reads too slowly misses events and is
// told how many.

import type { LiveEvent } from '../api.ts'

export interface LiveHub {
  emit(event: LiveEvent): void
  listen(): LiveListener
  readonly listeners: number
}

export interface LiveListener {
  /** Takes what is queued; empty when nothing is. */
  take(): LiveEvent[]
  close(): void
}

const queueMax = 500
export const listenersMax = 100

export function createLiveHub(): LiveHub {
  const queues = new Set<{ events: LiveEvent[]; missed: number }>()
  return {
    emit(event) {
      for (const queue of queues) {
        if (queue.events.length < queueMax) queue.events.push(event)
        else queue.missed += 1
      }
    },
    listen() {
      const queue: { events: LiveEvent[]; missed: number } = { events: [], missed: 0 }
      queues.add(queue)
      return {
        take() {
          const events = queue.events.splice(0)
          if (queue.missed > 0) events.push({ event: 'gap', data: { missed: queue.missed } })
          queue.missed = 0
          return events
        },
        close: () => void queues.delete(queue),
      }
    },
    get listeners() {
      return queues.size
    },
  }
}
