// Token buckets that replicas share: the balance is in Redis, and each replica spends from slices of at most 100 ms of
// tokens that it leases there, in one step of a script.
//
//   shared   spends its slice; a used-up one is leased anew, a stale one goes back with the next lease
//   alone    Redis is away: a bucket of its own, rate and capacity ÷ the last known number of replicas, that begins with
//            its part of what was left
//
// From alone to shared, the common bucket may hold no more than what is left here times the replicas, and debts go along:
// an outage gives nobody a second burst.

import { createHash } from 'node:crypto'
import type { Clock } from '#platform/time'
import type { SharedRedis } from '../redis.ts'
import { createLru, type Taken, type TokenLimit, type Tokens } from './tokens.ts'

export interface LeaseOptions {
  redis: Pick<SharedRedis, 'client' | 'isUp'>
  clock: Clock
  /** How many share, as last heard; at least 1. */
  replicas: () => number
  /** Unix ms that all replicas agree on; Redis's own clock unless given. */
  sharedNowMs?: () => number
}

/** A slice is what comes in during this time, and is good for as long. */
const leaseMs = 100
/** After a lease failed although Redis is there. */
const restMs = 500
const idsMax = 100_000

interface Bucket {
  limit: TokenLimit
  /** Thousandths. Shared: leased and unspent, or spent and not yet told when below zero. Alone: the balance. */
  here: number
  leasedAtMs: number
  /** How much to lease next: more the faster it goes. */
  want: number
  /** Balance in Redis when last heard of. */
  there: number
  heardAtMs: number
  deniedUntilMs: number
  asking: Promise<void> | undefined
  /** Set while alone: when `here` was last filled up. */
  aloneAtMs: number | undefined
}

export function createLeases({ redis, clock, replicas, sharedNowMs }: LeaseOptions): Tokens {
  const buckets = createLru<Bucket>(idsMax)
  let restUntilMs = 0
  const now = () => Math.floor(clock.monotonicMs())
  const canAsk = () => redis.isUp && now() >= restUntilMs

  const bucketOf = (limit: TokenLimit) => {
    const bucket = buckets.get(limit.id, () => ({
      limit,
      here: 0,
      leasedAtMs: Number.NEGATIVE_INFINITY,
      want: 0,
      there: limit.capacity * 1_000,
      heardAtMs: now(),
      deniedUntilMs: 0,
      asking: undefined,
      aloneAtMs: undefined,
    }))
    bucket.limit = limit
    return bucket
  }

  const ask = async (bucket: Bucket, needMilli: number): Promise<void> => {
    const { rate, capacity, id } = bucket.limit
    const slice = Math.max(needMilli, rate * leaseMs)
    const least = Math.max(needMilli, Math.floor(slice / 16))
    const isUsedUp = bucket.here < needMilli && now() - bucket.leasedAtMs < leaseMs
    bucket.want = isUsedUp ? Math.min(slice, bucket.want * 2) : least
    const wasAloneAtMs = bucket.aloneAtMs
    if (wasAloneAtMs !== undefined) fillAlone(bucket, needMilli)
    const before = bucket.here
    const ceiling = wasAloneAtMs === undefined ? '' : String(Math.floor(Math.max(0, before) * replicas()))
    const back = Math.floor(wasAloneAtMs === undefined ? before : Math.min(0, before))
    bucket.here = 0
    bucket.aloneAtMs = undefined
    const want = needMilli === 0 ? 0 : Math.max(least, bucket.want)
    const shared = sharedNowMs === undefined ? '' : String(Math.floor(sharedNowMs()))
    try {
      const [granted, left] = await run(redis, `bucket:${id}`, [
        rate,
        capacity * 1_000,
        back,
        want,
        ceiling,
        shared,
        needMilli,
      ])
      bucket.here += granted
      bucket.there = left
      bucket.heardAtMs = now()
      if (needMilli > 0) bucket.leasedAtMs = bucket.heardAtMs
      if (granted < needMilli) {
        const waitMs = Math.ceil((needMilli - left) / rate)
        bucket.deniedUntilMs = bucket.heardAtMs + Math.max(1, Math.min(leaseMs, waitMs))
      }
    } catch {
      bucket.here += before
      bucket.aloneAtMs = wasAloneAtMs
      restUntilMs = now() + restMs
    }
  }
  const asked = (bucket: Bucket, needMilli: number) => {
    bucket.asking ??= ask(bucket, needMilli).finally(() => {
      bucket.asking = undefined
    })
    return bucket.asking
  }

  const answer = (bucket: Bucket, allowed: boolean): Taken => {
    const { rate, capacity } = bucket.limit
    const part = bucket.aloneAtMs === undefined ? 1 : replicas()
    const left = bucket.aloneAtMs === undefined ? bucket.here + thereNow(bucket) : bucket.here
    return { allowed, milli: Math.floor(left), rate: rate / part, capacity: capacity / part }
  }
  const thereNow = ({ limit, there, heardAtMs }: Bucket) =>
    Math.min(limit.capacity * 1_000, there + (now() - heardAtMs) * limit.rate)

  const fillAlone = (bucket: Bucket, needMilli: number) => {
    const { limit } = bucket
    const part = replicas()
    const full = Math.max(needMilli, (limit.capacity * 1_000) / part)
    if (bucket.aloneAtMs === undefined) bucket.here += thereNow(bucket) / part
    else bucket.here += ((now() - bucket.aloneAtMs) * limit.rate) / part
    bucket.here = Math.min(full, bucket.here)
    bucket.aloneAtMs = now()
  }
  const takeAlone = (bucket: Bucket, needMilli: number, costMilli: number): Taken => {
    fillAlone(bucket, needMilli)
    const allowed = bucket.here >= needMilli - 1e-6
    if (allowed) bucket.here -= costMilli
    return answer(bucket, allowed)
  }
  /** Undefined: it takes a question to know. */
  const takeHere = (bucket: Bucket, needMilli: number, costMilli: number): Taken | undefined => {
    if (bucket.aloneAtMs !== undefined) return undefined
    const nowMs = now()
    if (bucket.here >= needMilli && nowMs - bucket.leasedAtMs < leaseMs) {
      bucket.here -= costMilli
      return answer(bucket, true)
    }
    return nowMs < bucket.deniedUntilMs ? answer(bucket, false) : undefined
  }
  const askAndTake = async (bucket: Bucket, needMilli: number, costMilli: number): Promise<Taken> => {
    // Others waiting for the same answer may have taken all of it; each answer serves somebody or denies all.
    for (;;) {
      await asked(bucket, needMilli)
      if (!canAsk()) return takeAlone(bucket, needMilli, costMilli)
      const taken = takeHere(bucket, needMilli, costMilli)
      if (taken) return taken
    }
  }

  return {
    take(limit, needMilli, costMilli) {
      const bucket = bucketOf(limit)
      if (!canAsk()) return takeAlone(bucket, needMilli, costMilli)
      return takeHere(bucket, needMilli, costMilli) ?? askAndTake(bucket, needMilli, costMilli)
    },
    takeNow(limit, needMilli, costMilli) {
      const bucket = bucketOf(limit)
      if (!canAsk()) return takeAlone(bucket, needMilli, costMilli)
      const taken = takeHere(bucket, needMilli, costMilli)
      if (taken) return taken
      const allowed = bucket.here + thereNow(bucket) >= needMilli
      if (allowed) bucket.here -= costMilli
      if (allowed) void asked(bucket, 0)
      return answer(bucket, allowed)
    },
    charge(limit, milli) {
      const bucket = bucketOf(limit)
      if (bucket.aloneAtMs !== undefined || !canAsk()) fillAlone(bucket, 0)
      bucket.here -= milli
      if (bucket.here < 0 && canAsk()) void asked(bucket, 0)
    },
  }
}

/** Refills by the time, takes back what was not spent, and grants what is asked for, or what there is if it is enough. */
const script = `
local rate, full, back, want = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local now = tonumber(ARGV[6])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local known = redis.call('HMGET', KEYS[1], 'milli', 'at')
local milli, at = tonumber(known[1]), tonumber(known[2])
if not milli then milli, at = full, now end
if now > at then milli = milli + (now - at) * rate end
milli = math.min(full, milli + back)
local ceiling = tonumber(ARGV[5])
if ceiling then milli = math.min(milli, ceiling) end
local granted = math.max(0, math.min(want, milli))
-- A part of a token is of no use to anybody there.
if granted < tonumber(ARGV[7]) then granted = 0 end
milli = milli - granted
redis.call('HSET', KEYS[1], 'milli', string.format('%.0f', milli), 'at', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil((full - milli) / rate) + 60000)
return { granted, milli }
`
const sha = createHash('sha1').update(script).digest('hex')

async function run(
  { client }: Pick<SharedRedis, 'client'>,
  key: string,
  args: readonly (string | number)[],
): Promise<[granted: number, left: number]> {
  const words = args.map(String)
  const answer = await client.evalsha(sha, 1, key, ...words).catch(error => {
    if (error instanceof Error && error.message.startsWith('NOSCRIPT')) return client.eval(script, 1, key, ...words)
    throw error
  })
  const [granted, left] = Array.isArray(answer) ? answer.map(Number) : []
  if (granted === undefined || left === undefined) throw new Error('BUG: the script of leases answered something else')
  return [granted, left]
}
