// Unmarked requests that other replicas accepted, by way of Redis, for a load balancer that sends a resend elsewhere.
//
//   free ──▶ claimed      before the body is decoded
//   claimed ──▶ accepted  its place in the journal, once it is there; whoever comes then gets the answer of the first
//   claimed ──▶ free      it was refused
//   claimed ──▶ claimed   by another replica, when the first one has said nothing for longer than anything takes
//
// A replica that dies between its journal and Redis leaves its claim behind. Whoever takes over cannot know whether the
// request is in that journal, so it is in doubt: it is accepted, and whose rows are stored is decided by the commits
// (store/resends.ts). In doubt are also those of our own that Redis has not confirmed to be only ours, and, after a start,
// all that is left in the journal. While Redis is away nobody claims anything, and each replica knows its own.

import { comparePositions, type JournalPosition } from '#platform/journal'
import type { SharedRedis } from '../redis.ts'
import type { PendingRecord } from '../store/sink.ts'
import type { AcceptedPlace } from './remembered.ts'

export interface SharedResends {
  /** The place where another replica accepted it; 'ours' when nobody did and now nobody else will; undefined when Redis
   *  cannot say. Waits a little for a replica that has it in work. */
  claim(id: Uint8Array): Promise<AcceptedPlace | 'ours' | undefined>
  accepted(id: Uint8Array, place: AcceptedPlace): void
  /** It was not accepted: whoever comes next may. */
  giveUp(id: Uint8Array): void
  /** Whether another replica may have accepted it too. */
  isInDoubt(pending: PendingRecord): boolean
  /** Their commit has decided. */
  committed(records: readonly PendingRecord[]): void
}

/** A replica that holds a claim longer than this is gone, or as good as gone. */
const claimMs = 5_000
const lookAgainMs = 25
/** Claimed and not yet confirmed, or in doubt: more only while Redis is slow and the database away. The oldest go. */
const doubtsMax = 200_000

const deleteOwn = `if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end`

export function createSharedResends(o: {
  redis: SharedRedis
  replica: string
  windowMs: number
  /** The end of the journal when this life began: what is before it was claimed by another one. */
  begin: JournalPosition
  sleep: (ms: number) => Promise<void>
}): SharedResends {
  const { client } = o.redis
  const claimed = `claimed ${o.replica}`
  const keyOf = (id: Uint8Array) => `resend:${Buffer.from(id).toString('base64url')}`
  const nameOf = (id: Uint8Array) => Buffer.from(id.buffer, id.byteOffset, id.length).toString('latin1')
  const ignore = () => {}
  /** True: another replica had it, or has taken it from us. */
  const doubts = new Map<string, boolean>()
  const note = (id: Uint8Array, isTaken: boolean) => {
    doubts.set(nameOf(id), isTaken)
    if (doubts.size > doubtsMax) doubts.delete(doubts.keys().next().value ?? '')
  }
  /** A claim outlives whoever made it, for as long as a resend may come. */
  const keptMs = Math.max(claimMs, o.windowMs)

  return {
    async claim(id) {
      if (!o.redis.isUp) return undefined
      try {
        for (let waitedMs = 0; ; waitedMs += lookAgainMs) {
          const before = await client.set(keyOf(id), claimed, 'PX', keptMs, 'NX', 'GET')
          // Our own: only one of a kind is in work here, so it is of a life that ended before it could accept.
          if (before === null || before === claimed) {
            note(id, false)
            return 'ours'
          }
          if (!before.startsWith('claimed ')) return placeOf(before)
          if (waitedMs >= claimMs) break
          await o.sleep(lookAgainMs)
        }
        const last = await client.set(keyOf(id), claimed, 'PX', keptMs, 'GET')
        const place = last === null ? undefined : placeOf(last)
        if (last !== null && place) {
          await client.set(keyOf(id), last, 'PX', keptMs)
          return place
        }
        note(id, true)
        return 'ours'
      } catch {
        // Away: the sender must not wait for it.
        return undefined
      }
    },
    accepted(id, { segment, from, to, rows, receivedUs }) {
      if (!o.redis.isUp) return
      const place = [segment, from, to, rows, receivedUs].join(':')
      client
        .set(keyOf(id), place, 'PX', keptMs, 'GET')
        .then(before => {
          if (before === claimed && doubts.get(nameOf(id)) === false) doubts.delete(nameOf(id))
          else note(id, true)
        })
        .catch(ignore)
    },
    giveUp(id) {
      doubts.delete(nameOf(id))
      if (o.redis.isUp) client.eval(deleteOwn, 1, keyOf(id), claimed).catch(ignore)
    },
    isInDoubt: ({ record, segment, from }) =>
      comparePositions({ segment, offset: from }, o.begin) < 0 ||
      (doubts.size > 0 && doubts.has(nameOf(record.dedupeHash))),
    committed(records) {
      if (doubts.size === 0) return
      for (const { record, whole } of records)
        if (whole === undefined || whole.rowsBefore + record.rows === whole.rows)
          doubts.delete(nameOf(record.dedupeHash))
    },
  }
}

function placeOf(text: string): AcceptedPlace | undefined {
  const match = /^([0-9a-f-]{36}):(\d{1,15}):(\d{1,15}):(\d{1,9}):(\d{1,19})$/.exec(text)
  if (!match) return undefined
  const [, segment = '', from, to, rows, receivedUs = ''] = match
  return { segment, from: Number(from), to: Number(to), rows: Number(rows), receivedUs: BigInt(receivedUs) }
}
