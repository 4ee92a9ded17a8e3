// Requests whose senders asked to hear only when their entries are in the database (`X-Ack: stored`). Commits happen in
// the order of the journal, so one position tells for all.

import { comparePositions, type JournalPosition } from '#platform/journal'
import { type Clock, sleep } from '#platform/time'
import type { AcceptedPlace } from './remembered.ts'

export interface Settlement {
  /** True as soon as everything before `position` is committed; false after `timeoutMs`, or when waiting ends. */
  reached(position: JournalPosition, timeoutMs: number): Promise<boolean>
  /** The same for a place in the journal of another replica, whose commits are not followed: the database is asked. */
  reachedElsewhere(place: AcceptedPlace, timeoutMs: number): Promise<boolean>
  committed(position: JournalPosition): void
  /** Nobody waits any longer: the service stops, and what is on disk stays there. */
  endWaiting(): void
}

const askEveryMs = 100

export function createSettlement(o: {
  clock: Clock
  /** Asks the database; rejects or says no while it is away. */
  isStored: (place: AcceptedPlace) => Promise<boolean>
}): Settlement {
  let behind: JournalPosition | undefined
  let isOver = false
  const waiting = new Set<{ position: JournalPosition; tell: (isCommitted: boolean) => void }>()
  const isReached = (position: JournalPosition) => behind !== undefined && comparePositions(position, behind) <= 0

  return {
    reached(position, timeoutMs) {
      if (isReached(position)) return Promise.resolve(true)
      if (isOver || timeoutMs <= 0) return Promise.resolve(false)
      return new Promise(resolve => {
        const waiter = {
          position,
          tell(isCommitted: boolean) {
            clearTimeout(timer)
            waiting.delete(waiter)
            resolve(isCommitted)
          },
        }
        const timer = setTimeout(() => waiter.tell(false), timeoutMs)
        waiting.add(waiter)
      })
    },
    async reachedElsewhere(place, timeoutMs) {
      const untilMs = o.clock.monotonicMs() + timeoutMs
      while (!isOver && o.clock.monotonicMs() < untilMs) {
        if (await o.isStored(place).catch(() => false)) return true
        await sleep(askEveryMs)
      }
      return false
    },
    committed(position) {
      if (behind === undefined || comparePositions(position, behind) > 0) behind = position
      for (const waiter of waiting) if (isReached(waiter.position)) waiter.tell(true)
    },
    endWaiting() {
      isOver = true
      for (const waiter of waiting) waiter.tell(false)
    },
  }
}
