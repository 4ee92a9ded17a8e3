// Live tails: entries go to whoever listens right after their disk ack, in the order of acceptance.
//
//   resuming ──▶ live ──▶ ended      resuming: read from the journal behind the last entry seen, at the reader's own pace
//       └───────────────▶ ended      live: a reader slower than the log fills its buffer and then loses entries; it is told
//                                    how many, at the place where they are missing; nobody else waits for it
//
// From resuming to live nothing is lost or repeated: what is accepted while the journal is read is read there as well, and
// what was read there is recognised by its position when it is published.

import { comparePositions, type Journal, type JournalPosition } from '#platform/journal'
import type { Logger } from '#platform/telemetry'
import { type Level, levelAt } from '../level.ts'
import { type Candidate, compile } from '../query/evaluate.ts'
import type { Query } from '../query/query.ts'
import { RowWalk, readRecord } from '../record.ts'
import { idMin, type StoredEntry } from '../store/store.ts'
import type { View } from '../store/visibility.ts'
import type { Accepted } from './acceptance.ts'

/** One entry as tails see it, with its place in the journal: the table's id is drawn at the commit. */
export interface TailItem {
  place: string
  seconds: number
  nanos: number
  service: string
  level: Level
  message: string
  metadata: string | null
}

/** How a kind of reader is told. */
export interface TailFormat {
  entry(item: TailItem): string
  /** Null: nobody can say how many. */
  gap(dropped: number | null): string
  heartbeat(): string
}

export interface TailSink {
  /** Bytes handed over that the reader has not taken yet. */
  bufferedBytes(): number
  write(text: string): void
  /** Resolves when the reader has taken what was written, or is gone. */
  drained(): Promise<void>
}

export interface TailHub {
  /** The function ends it. Undefined when this key, or the replica, has too many. `after` is the place of the last entry
   *  the reader has seen. */
  subscribe(o: {
    tenant: string
    key: string
    query: Query
    format: TailFormat
    sink: TailSink
    after?: string
  }): (() => void) | undefined
  publish(accepted: Accepted, tenant: string): void
  heartbeat(): void
  readonly count: number
}

const tailsMax = 100
const tailsPerKeyMax = 10
const bufferBytesMax = 1024 * 1024
/** While resuming, the reader is waited for instead of being left behind. */
const resumeBufferBytes = 256 * 1024

interface Subscriber {
  tenant: string
  key: string
  matches: (entry: Candidate) => boolean
  format: TailFormat
  sink: TailSink
  dropped: number
  isEnded: boolean
  /** Undefined: live. */
  resuming: { isBehind: boolean } | undefined
  /** Published records before it were read from the journal already. */
  from: JournalPosition | undefined
}

export function createTailHub(o: {
  journal: Journal
  log: Logger
  /** What deletions and retention leave to be seen, now. */
  view: (tenant: string) => View
  onDropped: (rows: number) => void
}): TailHub {
  const subscribers = new Set<Subscriber>()

  const tellGap = (subscriber: Subscriber) => {
    if (subscriber.dropped === 0) return
    subscriber.sink.write(subscriber.format.gap(subscriber.dropped))
    subscriber.dropped = 0
  }

  const send = (subscriber: Subscriber, event: string) => {
    if (subscriber.sink.bufferedBytes() + event.length > bufferBytesMax) {
      subscriber.dropped++
      o.onDropped(1)
      return
    }
    tellGap(subscriber)
    subscriber.sink.write(event)
  }

  /** From the journal until nothing is left there; then live, in the same turn of the event loop. */
  const resume = async (subscriber: Subscriber, state: { isBehind: boolean }, after: Place) => {
    let at: JournalPosition = { segment: after.segment, offset: after.offset }
    let rowsBefore: bigint | undefined
    for (let isFirst = true; !subscriber.isEnded; isFirst = false) {
      state.isBehind = false
      const { batches, next } = await o.journal.read(at)
      if (subscriber.isEnded) return
      const [first] = batches
      // The place itself must still be there to be sure that nothing is missing behind it.
      const isThere = first?.segment === after.segment && first.from === after.offset
      if (isFirst && !isThere) subscriber.sink.write(subscriber.format.gap(null))
      if (!first && !state.isBehind) {
        subscriber.from = at
        subscriber.resuming = undefined
        return
      }
      for (const batch of batches) {
        const record = readRecord(batch.payload)
        if (rowsBefore !== undefined && record.rowsBefore !== rowsBefore)
          subscriber.sink.write(subscriber.format.gap(null))
        rowsBefore = record.rowsBefore + BigInt(record.rows)
        if (record.tenant !== subscriber.tenant || record.isSetAside) continue
        const seen = isFirst && isThere && batch === first ? after.row : -1
        const walk = new RowWalk(record)
        const view = o.view(subscriber.tenant)
        for (let row = 0; walk.next(); row++) {
          if (row <= seen) continue
          const item = itemOf(walk, `${batch.segment}:${batch.from}:${row}`)
          if (!subscriber.matches(item) || !isVisible(view, item, record.receivedUs)) continue
          subscriber.sink.write(subscriber.format.entry(item))
          if (subscriber.sink.bufferedBytes() > resumeBufferBytes) await subscriber.sink.drained()
          if (subscriber.isEnded) return
        }
      }
      at = next
    }
  }

  return {
    subscribe({ tenant, key, query, format, sink, after }) {
      const ofKey = [...subscribers].filter(other => other.key === key).length
      if (subscribers.size >= tailsMax || ofKey >= tailsPerKeyMax) return undefined
      const subscriber: Subscriber = {
        tenant,
        key,
        matches: compile(query),
        format,
        sink,
        dropped: 0,
        isEnded: false,
        resuming: undefined,
        from: undefined,
      }
      subscribers.add(subscriber)
      const place = after === undefined ? undefined : placeOf(after)
      if (after !== undefined && !place) sink.write(format.gap(null))
      if (place) {
        const state = { isBehind: false }
        subscriber.resuming = state
        resume(subscriber, state, place).catch(error => {
          if (subscriber.isEnded) return
          // A RangeError: the place is of a journal that was replaced.
          if (!(error instanceof RangeError)) o.log.warn({ err: error }, 'a tail could not be resumed; it goes on live')
          sink.write(format.gap(null))
          subscriber.resuming = undefined
        })
      }
      return () => {
        subscriber.isEnded = true
        subscribers.delete(subscriber)
      }
    },

    publish(accepted, tenant) {
      if (subscribers.size === 0) return
      const position = { segment: accepted.segment, offset: accepted.from }
      const listening: Subscriber[] = []
      for (const subscriber of subscribers) {
        if (subscriber.resuming) subscriber.resuming.isBehind = true
        else if (subscriber.tenant === tenant) {
          if (subscriber.from && comparePositions(position, subscriber.from) < 0) continue
          subscriber.from = undefined
          listening.push(subscriber)
        }
      }
      if (listening.length === 0) return
      const walk = new RowWalk(readRecord(accepted.payload))
      const texts = new Map<TailFormat, string>()
      const view = o.view(tenant)
      for (let row = 0; walk.next(); row++) {
        const item = itemOf(walk, `${accepted.segment}:${accepted.from}:${row}`)
        if (!isVisible(view, item, accepted.receivedUs)) continue
        texts.clear()
        for (const subscriber of listening) {
          if (!subscriber.matches(item)) continue
          const { format } = subscriber
          const text = texts.get(format) ?? format.entry(item)
          texts.set(format, text)
          send(subscriber, text)
        }
      }
    },

    heartbeat() {
      for (const subscriber of subscribers) {
        if (subscriber.sink.bufferedBytes() >= bufferBytesMax) continue
        tellGap(subscriber)
        subscriber.sink.write(subscriber.format.heartbeat())
      }
    },

    get count() {
      return subscribers.size
    },
  }
}

/** A row of a record of the journal. */
interface Place {
  segment: string
  offset: number
  row: number
}

function placeOf(id: string): Place | undefined {
  const match = /^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}):(\d{1,15}):(\d{1,9})$/.exec(id)
  const [, segment, offset, row] = match ?? []
  return segment === undefined ? undefined : { segment, offset: Number(offset), row: Number(row) }
}

/** Tails see no more than searches do. The id is not known here yet, so a deletion by id takes it for the lowest. */
function isVisible({ fromNs, isVisible }: View, item: TailItem & Candidate, createdUs: bigint): boolean {
  if (fromNs !== null && item.timestampNs < fromNs) return false
  if (isVisible === null) return true
  const { timestampNs, service, level, message, metadata } = item
  const entry: StoredEntry = { id: idMin, timestampNs, service, level, message, metadata, createdUs }
  return isVisible(entry)
}

/** Texts are made when a query or a format asks for them, and then kept for the next one that does. */
function itemOf(walk: RowWalk, place: string): TailItem & Candidate {
  let message: string | undefined
  let metadata: string | null | undefined
  const { seconds, nanos } = walk
  return {
    id: undefined,
    place,
    seconds,
    nanos,
    timestampNs: BigInt(seconds) * 1_000_000_000n + BigInt(nanos),
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
