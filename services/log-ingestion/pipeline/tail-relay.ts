// Records from replica to replica by Redis, for tails that should not wait for a commit. Only what somebody listens for is
// sent, and only what joins on exactly is used: whatever is lost here is read from the store after its commit.
//
//   message = replica (16 B) · segment (16 B) · rows of the replica before the tenant's next record is due (u64) · record
//
// The number says which record of the same tenant came before: a reader that has seen so far has missed nothing.

import { segmentIdBytes, segmentIdFrom } from '#platform/journal/position'
import { type LogRecord, readRecord, rowsBeforeOf } from '../record.ts'
import type { SharedRedis } from '../redis.ts'
import type { AcceptedRecord } from './acceptance.ts'

export interface Relayed {
  replica: string
  segment: string
  /** Running total behind the record of this tenant before; undefined: not known, the sender has just begun. */
  before: { segment: string; rows: bigint } | undefined
  record: LogRecord
  bytes: number
}

export interface TailRelay {
  /** Every record of this replica, in order. */
  accepted(accepted: AcceptedRecord, tenant: string): void
  /** Tells of a tenant's records on other replicas until the function is called. */
  listen(tenant: string): () => void
  close(): void
}

const headBytes = 16 + 16 + 16 + 8
const demandChannel = 'tail demand'
/** Who listens says so this often, and is believed this long. */
const announceEveryMs = 2_000
const demandMs = 3 * announceEveryMs
const tenantsMax = 10_000

export function createTailRelay(o: {
  redis: SharedRedis
  replica: string
  now: () => number
  onRecord: (relayed: Relayed) => void
}): TailRelay {
  const { redis, now } = o
  const replicaBytes = segmentIdBytes(o.replica)
  /** Behind the last record of each tenant. */
  const ends = new Map<string, { segment: Buffer; rows: bigint }>()
  const demandedUntil = new Map<string, number>()
  /** Who listens has not had the time to say so to a replica that has just begun. */
  const anybodyUntil = now() + demandMs
  const listening = new Map<string, { count: number; close: () => void }>()

  const demand = redis.subscribe(demandChannel, message => {
    if (demandedUntil.size >= tenantsMax) demandedUntil.clear()
    demandedUntil.set(message.toString(), now() + demandMs)
  })
  const announce = (tenant: string) => void redis.publish(demandChannel, Buffer.from(tenant))
  const announcing = setInterval(() => {
    for (const tenant of listening.keys()) announce(tenant)
  }, announceEveryMs)
  announcing.unref()

  const receive = (message: Buffer) => {
    if (message.length <= headBytes || message.subarray(0, 16).equals(replicaBytes)) return
    const rows = message.readBigUInt64LE(48)
    const beforeSegment = message.subarray(32, 48)
    o.onRecord({
      replica: segmentIdFrom(message.subarray(0, 16)),
      segment: segmentIdFrom(message.subarray(16, 32)),
      before: beforeSegment.every(byte => byte === 0) ? undefined : { segment: segmentIdFrom(beforeSegment), rows },
      record: readRecord(message.subarray(headBytes)),
      bytes: message.length,
    })
  }

  return {
    accepted({ segment, payload, rows }, tenant) {
      const before = ends.get(tenant)
      const segmentBytes = segmentIdBytes(segment)
      if (ends.size >= tenantsMax) ends.clear()
      ends.set(tenant, { segment: segmentBytes, rows: rowsBeforeOf(payload) + BigInt(rows) })
      if ((demandedUntil.get(tenant) ?? anybodyUntil) < now()) return
      const head = Buffer.alloc(headBytes)
      replicaBytes.copy(head, 0)
      segmentBytes.copy(head, 16)
      if (before) {
        before.segment.copy(head, 32)
        head.writeBigUInt64LE(before.rows, 48)
      }
      redis.publish(`tail ${tenant}`, Buffer.concat([head, payload]))
    },
    listen(tenant) {
      const known = listening.get(tenant)
      if (known) known.count++
      else {
        const { close } = redis.subscribe(`tail ${tenant}`, receive, () => announce(tenant))
        listening.set(tenant, { count: 1, close })
      }
      return () => {
        const all = listening.get(tenant)
        if (!all || --all.count > 0) return
        all.close()
        listening.delete(tenant)
      }
    },
    close() {
      clearInterval(announcing)
      demand.close()
      for (const { close } of listening.values()) close()
      listening.clear()
    },
  }
}
