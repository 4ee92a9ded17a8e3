// Live tails: entries go to whoever listens right after their disk ack, in the order of acceptance.
//
//   resuming ──▶ live ──▶ ended      resuming: read behind the last entry seen, at the reader's own pace: from the journal, or
//       └───────────────▶ ended      where it has let go from the store up to where the journal begins
//                                    live: a reader slower than the log fills its buffer and then loses entries; it is told
//                                    how many, at the place where they are missing; nobody else waits for it
//
// From resuming to live nothing is lost or repeated: what is accepted while the journal is read is read there as well, and
// what was read there is recognised by its position when it is published.
//
// Entries of other replicas come from the store after their commit, at the reader's pace; by Redis before it, where they
// join on to what the reader has seen (tail-relay.ts). Each event's id says how much of every replica was seen.

import { comparePositions, type Journal, type JournalPosition } from '#platform/journal'
import type { Logger } from '#platform/telemetry'
import { type Level, levelAt } from '../level.ts'
import { type Candidate, compile } from '../query/evaluate.ts'
import type { Query } from '../query/query.ts'
import { type LogRecord, RowWalk, readRecord, rowsBeforeOf } from '../record.ts'
import type { SharedRedis } from '../redis.ts'
import { compareRowPlaces, loadHeads, loadOffset, type RowPlace } from '../store/batches.ts'
import { idMin, type StoredEntry } from '../store/store.ts'
import type { View } from '../store/visibility.ts'
import type { AcceptedRecord } from './acceptance.ts'
import {
  formatOthers,
  formatOwn,
  type OwnPlace,
  openPlaces,
  othersMax,
  type SeenPlaces,
  sealPlaces,
} from './tail-place.ts'
import { createTailRelay, type Relayed } from './tail-relay.ts'
import { readStored, type Stored } from './tail-stored.ts'

/** One entry as tails see it: the table's id is drawn at the commit. */
export interface TailItem {
  seconds: number
  nanos: number
  service: string
  level: Level | string
  message: string
  metadata: string | null
}

/** How a kind of reader is told. */
export interface TailFormat {
  /** `id`: what to come back with. */
  entry(item: TailItem, id: string): string
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
  /** The function ends it. Undefined when this key, or the replica, has too many. `after` is the id of the last event the
   *  reader has seen. */
  subscribe(o: {
    tenant: string
    key: string
    query: Query
    format: TailFormat
    sink: TailSink
    after?: string
  }): (() => void) | undefined
  /** Each record, in order; those whose rows are no entries too. */
  publish(accepted: AcceptedRecord, tenant: string): void
  readonly count: number
  close(): void
}

export const tailsMax = 100
const tailsPerKeyMax = 10
const bufferBytesMax = 1024 * 1024
/** Of its buffer, what each reader has for itself. While it is read for, the reader is waited for from there on instead of
 *  being left behind. */
export const ownBufferBytes = 64 * 1024
/** The rest of the buffers of all: a hundred readers that stopped reading must not cost a hundred megabytes. Sixteen may. */
export const sharedBufferBytesMax = 16 * 1024 * 1024
const heartbeatEveryMs = 15_000
/** How long after its commit an entry of another replica may take without Redis. */
const followEveryMs = 500
/** Records of other replicas that may still be needed: by tails that read from the store just now. */
export const ringBytesMax = 8 * 1024 * 1024

interface Subscriber {
  tenant: string
  key: string
  query: Query
  matches: (entry: Candidate) => boolean
  format: TailFormat
  sink: TailSink
  dropped: number
  ended: AbortController
  /** Undefined: live. */
  resuming: { isBehind: boolean } | undefined
  /** Published records before it were read from the journal already. */
  from: JournalPosition | undefined
  /** Behind what it has seen, of this replica and of each other. */
  own: OwnPlace
  others: Map<string, RowPlace>
  othersText: string
  /** False: from now on, once it is known how far others are. */
  areOthersKnown: boolean
  /** It may have missed something of the others by then. */
  cameBack: boolean
  isFollowing: boolean
}

export function createTailHub(o: {
  journal: Journal
  replica: string
  /** Seals the ids of events; the same on all replicas. */
  placeKey: Buffer
  log: Logger
  /** Behind the last row accepted. */
  end: () => OwnPlace
  /** Undefined until the database was there once. */
  stored: () => Stored | undefined
  redis?: SharedRedis | undefined
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

  const tellUnknownGap = ({ sink, format }: Subscriber) => sink.write(format.gap(null))

  /** Bytes that readers hold beyond their own share; counted when somebody needs more, once per record. */
  let sharedBytes: number | undefined
  const takeShared = (bytes: number): boolean => {
    sharedBytes ??= [...subscribers].reduce(
      (sum, { sink }) => sum + Math.max(0, sink.bufferedBytes() - ownBufferBytes),
      0,
    )
    if (sharedBytes + bytes > sharedBufferBytesMax) return false
    sharedBytes += bytes
    return true
  }

  const send = (subscriber: Subscriber, event: string) => {
    const bytes = subscriber.sink.bufferedBytes() + event.length
    if (bytes > bufferBytesMax || (bytes > ownBufferBytes && !takeShared(event.length))) {
      subscriber.dropped++
      o.onDropped(1)
      return
    }
    tellGap(subscriber)
    subscriber.sink.write(event)
  }

  /** The reader is waited for: this entry can be read again, it need not be dropped. */
  const sendPatiently = async (subscriber: Subscriber, event: string) => {
    tellGap(subscriber)
    subscriber.sink.write(event)
    if (subscriber.sink.bufferedBytes() > ownBufferBytes) await subscriber.sink.drained()
  }

  const isEnded = (subscriber: Subscriber) => subscriber.ended.signal.aborted
  const idOf = (own: OwnPlace, others: string) => sealPlaces(o.placeKey, formatOwn(o.replica, own) + others)

  /** Behind the last row that was published; journal and count agree here, whatever is on its way. */
  let published: OwnPlace | undefined
  const end = (): OwnPlace => published ?? o.end()

  const sawOther = (subscriber: Subscriber, replica: string, place: RowPlace) => {
    subscriber.others.set(replica, place)
    subscriber.othersText = formatOthers(subscriber.others)
  }

  // Coming back

  const resume = async (subscriber: Subscriber, state: { isBehind: boolean }, seen: SeenPlaces) => {
    let at = await takeUp(subscriber, seen)
    if (!at) tellUnknownGap(subscriber)
    // What this replica accepts from now on can be shown.
    at ??= subscriber.own
    while (!isEnded(subscriber)) {
      const missing = await resumeFromJournal(subscriber, state, at)
      if (!missing || isEnded(subscriber)) return
      const reached = await resumeFromStore(subscriber, at)
      if (!reached) {
        // Neither journal nor store: damaged.
        tellUnknownGap(subscriber)
        at = missing
      } else at = reached
    }
  }

  /** Answers this replica's place; undefined when something is missing that nobody can count. */
  const takeUp = async (subscriber: Subscriber, seen: SeenPlaces): Promise<OwnPlace | undefined> => {
    if (seen.others && seen.others.size < othersMax) {
      for (const [replica, place] of seen.others) if (replica !== o.replica) sawOther(subscriber, replica, place)
      if (seen.replica !== o.replica) sawOther(subscriber, seen.replica, seen.own)
      // Those that are not named had stored nothing: all of theirs is new.
      subscriber.areOthersKnown = true
      subscriber.othersText = formatOthers(subscriber.others)
    }
    if (seen.replica === o.replica) return seen.own
    const stored = o.stored()
    if (!seen.others || !stored) return undefined
    const mine = seen.others.get(o.replica)
    if (!mine) return { segment: firstSegment, rows: 0n, offset: 0 }
    return { ...mine, offset: (await loadOffset(stored.sql, o.replica, mine)) ?? 0 }
  }

  /** Until nothing is left there; then live, in the same turn of the event loop. Answers where it goes on when what comes
   *  next is not there. */
  const resumeFromJournal = async (
    subscriber: Subscriber,
    state: { isBehind: boolean },
    from: OwnPlace,
  ): Promise<OwnPlace | undefined> => {
    let at: JournalPosition = { segment: from.segment, offset: from.offset }
    let { rows } = from
    for (let isFirst = true; !isEnded(subscriber); isFirst = false) {
      state.isBehind = false
      const read = await o.journal.read(at).catch(error => {
        // The folder was replaced by an older one.
        if (error instanceof RangeError) return undefined
        throw error
      })
      if (isEnded(subscriber)) return undefined
      if (!read) return end()
      const { batches, next } = read
      if (batches.length === 0 && !state.isBehind) {
        // All that was accepted has been read, or has gone.
        if (rows < end().rows) return { segment: next.segment, offset: next.offset, rows: end().rows }
        subscriber.own = { segment: next.segment, offset: next.offset, rows }
        subscriber.from = next
        subscriber.resuming = undefined
        return undefined
      }
      for (const batch of batches) {
        const record = readRecord(batch.payload)
        // What is missing before it may be in the store.
        if (record.rowsBefore > rows) {
          if (isFirst) return { segment: batch.segment, rows: record.rowsBefore, offset: batch.from }
          tellUnknownGap(subscriber)
        }
        const behind = record.rowsBefore + BigInt(record.rows)
        if (record.tenant === subscriber.tenant && !record.isSetAside) {
          const walk = new RowWalk(record)
          const view = o.view(subscriber.tenant)
          for (let row = record.rowsBefore + 1n; walk.next(); row++) {
            if (row <= rows) continue
            const item = itemOf(walk)
            if (!subscriber.matches(item) || !isVisible(view, item, record.receivedUs)) continue
            subscriber.own = { segment: batch.segment, rows: row, offset: batch.from }
            await sendPatiently(subscriber, subscriber.format.entry(item, idOf(subscriber.own, subscriber.othersText)))
            if (isEnded(subscriber)) return undefined
          }
        }
        if (behind > rows) rows = behind
        subscriber.own = { segment: batch.segment, rows, offset: batch.to }
      }
      at = next
    }
    return undefined
  }

  /** Up to the end of what is stored; undefined when nothing there comes behind the place. */
  const resumeFromStore = async (subscriber: Subscriber, after: OwnPlace): Promise<OwnPlace | undefined> => {
    const stored = o.stored()
    if (!stored) return undefined
    let reached: OwnPlace | undefined
    const { tenant, query, ended } = subscriber
    for await (const piece of readStored(stored, { replica: o.replica, tenant, query, after, signal: ended.signal })) {
      for (const { entry, rows } of piece.entries) {
        subscriber.own = { ...piece.behind, rows }
        await sendPatiently(
          subscriber,
          subscriber.format.entry(itemOfStored(entry), idOf(subscriber.own, subscriber.othersText)),
        )
        if (isEnded(subscriber)) return undefined
      }
      reached = piece.behind
      subscriber.own = reached
    }
    return reached
  }

  // Others

  /** Records by Redis, newest last. */
  let ring: Relayed[] = []
  let ringBytes = 0

  /** Shows it when it joins on exactly to what the reader has seen of that replica. */
  const take = (subscriber: Subscriber, { replica, segment, before, record }: Relayed) => {
    const seen = subscriber.others.get(replica)
    const behind = { segment, rows: record.rowsBefore + BigInt(record.rows) }
    if (!seen || compareRowPlaces(seen, behind) >= 0) return
    // Totals run on from segment to segment; a place in a later one is behind this record, which was ruled out above.
    const joinsOn = (before && compareRowPlaces(seen, before) >= 0) || seen.rows >= record.rowsBefore
    if (!joinsOn) return
    if (!record.isSetAside) showRecord(subscriber, replica, record, segment, seen)
    sawOther(subscriber, replica, behind)
  }

  const showRecord = (subscriber: Subscriber, replica: string, record: LogRecord, segment: string, seen: RowPlace) => {
    const walk = new RowWalk(record)
    const view = o.view(subscriber.tenant)
    for (let rows = record.rowsBefore + 1n; walk.next(); rows++) {
      if (compareRowPlaces({ segment, rows }, seen) <= 0) continue
      const item = itemOf(walk)
      if (!subscriber.matches(item) || !isVisible(view, item, record.receivedUs)) continue
      sawOther(subscriber, replica, { segment, rows })
      send(subscriber, subscriber.format.entry(item, idOf(subscriber.own, subscriber.othersText)))
    }
  }

  const relay = o.redis
    ? createTailRelay({
        redis: o.redis,
        replica: o.replica,
        now: () => performance.now(),
        onRecord(relayed) {
          ring.push(relayed)
          ringBytes += relayed.bytes
          if (ringBytes > ringBytesMax) {
            const half = ring.slice(Math.ceil(ring.length / 2))
            ringBytes = half.reduce((sum, { bytes }) => sum + bytes, 0)
            ring = half
          }
          sharedBytes = undefined
          for (const subscriber of subscribers)
            if (!subscriber.isFollowing && subscriber.tenant === relayed.record.tenant) take(subscriber, relayed)
        },
      })
    : undefined

  /** What the others have stored since, one replica after the other. */
  const follow = async (subscriber: Subscriber, stored: Stored, heads: ReadonlyMap<string, RowPlace>) => {
    const { tenant, query, ended } = subscriber
    for (const [replica, head] of heads) {
      const after = subscriber.others.get(replica)
      if (after && compareRowPlaces(after, head) >= 0) continue
      for await (const piece of readStored(stored, { replica, tenant, query, after, signal: ended.signal })) {
        for (const { entry, rows } of piece.entries) {
          sawOther(subscriber, replica, { segment: piece.behind.segment, rows })
          await sendPatiently(
            subscriber,
            subscriber.format.entry(itemOfStored(entry), idOf(subscriber.own, subscriber.othersText)),
          )
          if (isEnded(subscriber)) return
        }
        sawOther(subscriber, replica, { segment: piece.behind.segment, rows: piece.behind.rows })
      }
    }
  }

  let isPolling = false
  const poll = async () => {
    // Nobody tails before the service has started, and until then there is nothing to ask.
    if (subscribers.size === 0 || isPolling) return
    const stored = o.stored()
    if (!stored) return
    isPolling = true
    try {
      const heads = await loadHeads(stored.sql)
      heads.delete(o.replica)
      for (const subscriber of subscribers) {
        if (subscriber.isFollowing) continue
        if (!subscriber.areOthersKnown) {
          subscriber.areOthersKnown = true
          if (subscriber.cameBack && heads.size > 0) tellUnknownGap(subscriber)
          subscriber.others = new Map(heads)
          subscriber.othersText = formatOthers(heads)
          continue
        }
        subscriber.isFollowing = true
        void follow(subscriber, stored, heads)
          .catch(error => {
            if (!isEnded(subscriber))
              o.log.debug({ err: error }, 'a tail does not see other replicas yet; trying again')
          })
          .finally(() => {
            subscriber.isFollowing = false
            sharedBytes = undefined
            for (const relayed of ring)
              if (!isEnded(subscriber) && relayed.record.tenant === subscriber.tenant) take(subscriber, relayed)
          })
      }
    } catch (error) {
      o.log.debug({ err: error }, 'tails do not see other replicas yet; trying again')
    } finally {
      isPolling = false
    }
  }
  const polling = setInterval(() => void poll(), followEveryMs)
  polling.unref()

  const heartbeats = setInterval(() => {
    for (const subscriber of subscribers) {
      if (subscriber.sink.bufferedBytes() >= bufferBytesMax) continue
      tellGap(subscriber)
      subscriber.sink.write(subscriber.format.heartbeat())
    }
  }, heartbeatEveryMs)
  heartbeats.unref()

  return {
    subscribe({ tenant, key, query, format, sink, after }) {
      const ofKey = [...subscribers].filter(other => other.key === key).length
      if (subscribers.size >= tailsMax || ofKey >= tailsPerKeyMax) return undefined
      const subscriber: Subscriber = {
        tenant,
        key,
        query,
        matches: compile(query),
        format,
        sink,
        dropped: 0,
        ended: new AbortController(),
        resuming: undefined,
        from: undefined,
        own: end(),
        others: new Map(),
        othersText: '',
        areOthersKnown: false,
        cameBack: after !== undefined,
        isFollowing: false,
      }
      subscribers.add(subscriber)
      const seen = after === undefined ? undefined : openPlaces(o.placeKey, after)
      if (after !== undefined && !seen) tellUnknownGap(subscriber)
      if (seen) {
        const state = { isBehind: false }
        subscriber.resuming = state
        // Until it is known whose places these are, nobody else may say where the others are.
        subscriber.isFollowing = true
        resume(subscriber, state, seen)
          .catch(error => {
            if (isEnded(subscriber)) return
            o.log.warn({ err: error }, 'a tail could not be resumed; it goes on live')
            tellUnknownGap(subscriber)
            subscriber.own = end()
            subscriber.resuming = undefined
          })
          .finally(() => {
            subscriber.isFollowing = false
            void poll()
          })
      } else void poll()
      const stopListening = relay?.listen(tenant)
      return () => {
        subscriber.ended.abort()
        subscribers.delete(subscriber)
        stopListening?.()
        if (subscribers.size === 0) {
          ring = []
          ringBytes = 0
        }
      }
    },

    publish(accepted, tenant) {
      relay?.accepted(accepted, tenant)
      published = placeBehind(accepted)
      if (subscribers.size === 0) return
      const position = { segment: accepted.segment, offset: accepted.from }
      const listening: Subscriber[] = []
      for (const subscriber of subscribers) {
        if (subscriber.resuming) subscriber.resuming.isBehind = true
        else {
          if (subscriber.from && comparePositions(position, subscriber.from) < 0) continue
          subscriber.from = undefined
          listening.push(subscriber)
        }
      }
      if (listening.length === 0) return
      const record = readRecord(accepted.payload)
      const ours = record.isSetAside ? [] : listening.filter(subscriber => subscriber.tenant === tenant)
      const { segment, from: offset } = accepted
      if (ours.length > 0) {
        sharedBytes = undefined
        const walk = new RowWalk(record)
        /** Of one format, and one state of the others: what most readers share. */
        const texts = new Map<TailFormat, { others: string; text: string }>()
        const view = o.view(tenant)
        for (let rows = record.rowsBefore + 1n; walk.next(); rows++) {
          const item = itemOf(walk)
          if (!isVisible(view, item, accepted.receivedUs)) continue
          texts.clear()
          for (const subscriber of ours) {
            if (!subscriber.matches(item)) continue
            const { format, othersText: others } = subscriber
            const known = texts.get(format)
            const text =
              known?.others === others ? known.text : format.entry(item, idOf({ segment, rows, offset }, others))
            texts.set(format, { others, text })
            send(subscriber, text)
          }
        }
      }
      for (const subscriber of listening) subscriber.own = published
    },

    get count() {
      return subscribers.size
    },

    close() {
      clearInterval(polling)
      clearInterval(heartbeats)
      relay?.close()
    },
  }
}

function placeBehind({ segment, to, rows, payload }: AcceptedRecord): OwnPlace {
  return { segment, rows: rowsBeforeOf(payload) + BigInt(rows), offset: to }
}

/** Before every segment. */
const firstSegment = '00000000-0000-7000-8000-000000000000'

/** Tails see no more than searches do. The id is not known here yet, so a deletion by id takes it for the lowest. */
function isVisible({ fromNs, isVisible }: View, item: TailItem & Candidate, createdUs: bigint): boolean {
  if (fromNs !== null && item.timestampNs < fromNs) return false
  if (isVisible === null) return true
  const { timestampNs, service, level, message, metadata } = item
  const entry: StoredEntry = { id: idMin, timestampNs, service, level, message, metadata, createdUs }
  return isVisible(entry)
}

/** Texts are made when a query or a format asks for them, and then kept for the next one that does. */
function itemOf(walk: RowWalk): TailItem & Candidate {
  let message: string | undefined
  let metadata: string | null | undefined
  const { seconds, nanos } = walk
  return {
    id: undefined,
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

function itemOfStored({ timestampNs, service, level, message, metadata }: StoredEntry): TailItem {
  const nanos = ((timestampNs % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n
  return {
    seconds: Number((timestampNs - nanos) / 1_000_000_000n),
    nanos: Number(nanos),
    service,
    level,
    message,
    metadata,
  }
}
