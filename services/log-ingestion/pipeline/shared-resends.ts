// Unmarked requests that other replicas accepted, by way of Redis, for a load balancer that sends a resend elsewhere.
//
// A claim goes in before the body is decoded, the place in the journal when it is accepted. Redis is a hint and no more:
// while it is away, or when a replica dies between the two, a resend to another replica is another entry.

import type { SharedRedis } from '../redis.ts'
import type { AcceptedPlace } from './remembered.ts'

export interface SharedResends {
  /** The place where another replica accepted it; 'ours' when nobody did and now nobody else will; undefined when Redis
   *  cannot say. Waits a little for a replica that has it in work. */
  claim(id: Uint8Array): Promise<AcceptedPlace | 'ours' | undefined>
  accepted(id: Uint8Array, place: AcceptedPlace): void
  /** It was not accepted: whoever comes next may. */
  giveUp(id: Uint8Array): void
}

/** A replica that holds a claim longer than this is gone, or as good as gone. */
const claimMs = 5_000
const lookAgainMs = 25

export function createSharedResends(o: {
  redis: SharedRedis
  replica: string
  windowMs: number
  sleep: (ms: number) => Promise<void>
}): SharedResends {
  const { client } = o.redis
  const claimed = `claimed ${o.replica}`
  const keyOf = (id: Uint8Array) => `resend:${Buffer.from(id).toString('base64url')}`
  const ignore = () => {}
  return {
    async claim(id) {
      if (!o.redis.isUp) return undefined
      try {
        for (let waitedMs = 0; waitedMs < claimMs; waitedMs += lookAgainMs) {
          const before = await client.set(keyOf(id), claimed, 'PX', claimMs, 'NX', 'GET')
          // Our own: only one of a kind is in work here, so it is of a life that ended before it could accept.
          if (before === null || before === claimed) return 'ours'
          if (!before.startsWith('claimed ')) return placeOf(before)
          await o.sleep(lookAgainMs)
        }
      } catch {
        // Away: the sender must not wait for it.
      }
      return undefined
    },
    accepted(id, { segment, from, to, rows, receivedUs }) {
      if (!o.redis.isUp) return
      const place = [segment, from, to, rows, receivedUs].join(':')
      client.set(keyOf(id), place, 'PX', o.windowMs).catch(ignore)
    },
    giveUp(id) {
      if (o.redis.isUp) client.del(keyOf(id)).catch(ignore)
    },
  }
}

function placeOf(text: string): AcceptedPlace | undefined {
  const match = /^([0-9a-f-]{36}):(\d{1,15}):(\d{1,15}):(\d{1,9}):(\d{1,19})$/.exec(text)
  if (!match) return undefined
  const [, segment = '', from, to, rows, receivedUs = ''] = match
  return { segment, from: Number(from), to: Number(to), rows: Number(rows), receivedUs: BigInt(receivedUs) }
}
