// Live tails: entries go to whoever listens right after their disk ack, in the order of acceptance.
//
// A reader that is slower than the log fills its buffer and then loses entries. It is told how many, at the place where
// they are missing; nobody else waits for it.

import { levelAt } from '../level.ts'
import { type Candidate, compile } from '../query/evaluate.ts'
import type { Query } from '../query/query.ts'
import { RowWalk, readRecord } from '../record.ts'
import { formatMoment } from '../rfc3339.ts'
import type { Accepted } from './acceptance.ts'

export interface TailSink {
  /** Bytes handed over that the reader has not taken yet. */
  bufferedBytes(): number
  write(text: string): void
}

export interface TailHub {
  /** The function ends it. Undefined when this key, or the replica, has too many. */
  subscribe(o: { tenant: string; key: string; query: Query; sink: TailSink }): (() => void) | undefined
  publish(accepted: Accepted, tenant: string): void
  heartbeat(): void
  readonly count: number
}

const tailsMax = 100
const tailsPerKeyMax = 10
const bufferBytesMax = 1024 * 1024

interface Subscriber {
  tenant: string
  key: string
  matches: (entry: Candidate) => boolean
  sink: TailSink
  dropped: number
}

export function createTailHub(o: { onDropped: (rows: number) => void }): TailHub {
  const subscribers = new Set<Subscriber>()

  const send = (subscriber: Subscriber, event: string) => {
    if (subscriber.sink.bufferedBytes() + event.length > bufferBytesMax) {
      subscriber.dropped++
      o.onDropped(1)
      return
    }
    tellGap(subscriber)
    subscriber.sink.write(event)
  }

  const tellGap = (subscriber: Subscriber) => {
    if (subscriber.dropped === 0) return
    subscriber.sink.write(`event: gap\ndata: {"dropped":${subscriber.dropped}}\n\n`)
    subscriber.dropped = 0
  }

  return {
    subscribe({ tenant, key, query, sink }) {
      const ofKey = [...subscribers].filter(other => other.key === key).length
      if (subscribers.size >= tailsMax || ofKey >= tailsPerKeyMax) return undefined
      const subscriber = { tenant, key, matches: compile(query), sink, dropped: 0 }
      subscribers.add(subscriber)
      return () => void subscribers.delete(subscriber)
    },

    publish(accepted, tenant) {
      if (subscribers.size === 0) return
      const listening = [...subscribers].filter(subscriber => subscriber.tenant === tenant)
      if (listening.length === 0) return
      const walk = new RowWalk(readRecord(accepted.payload))
      for (let row = 0; walk.next(); row++) {
        const entry = candidateOf(walk)
        let event: string | undefined
        for (const subscriber of listening) {
          if (!subscriber.matches(entry)) continue
          event ??= eventOf(walk, entry, `${accepted.segment}:${accepted.from}:${row}`)
          send(subscriber, event)
        }
      }
    },

    heartbeat() {
      for (const subscriber of subscribers) {
        if (subscriber.sink.bufferedBytes() >= bufferBytesMax) continue
        tellGap(subscriber)
        subscriber.sink.write('event: heartbeat\ndata: {}\n\n')
      }
    },

    get count() {
      return subscribers.size
    },
  }
}

/** Texts are made when a query asks for them, and then kept for the next one that does. */
function candidateOf(walk: RowWalk): Candidate {
  let message: string | undefined
  let metadata: string | null | undefined
  return {
    id: undefined,
    timestampNs: BigInt(walk.seconds) * 1_000_000_000n + BigInt(walk.nanos),
    service: walk.service,
    level: levelAt(walk.level),
    get message() {
      message ??= walk.message
      return message
    },
    get metadata() {
      if (metadata === undefined) metadata = walk.metadata
      return metadata
    },
  }
}

/** The id of the event is the place in the journal: the table's id is drawn at the commit. */
function eventOf(walk: RowWalk, entry: Candidate, id: string): string {
  const { service, level, message } = entry
  const fixed = JSON.stringify({ timestamp: formatMoment(walk.seconds, walk.nanos), service, level, message })
  // Line feeds outside strings are white space to JSON and the end of a line to SSE.
  const metadata = entry.metadata === null ? 'null' : entry.metadata.replaceAll(/[\r\n]+/g, ' ')
  return `id: ${id}\nevent: log\ndata: ${fixed.slice(0, -1)},"metadata":${metadata}}\n\n`
}
