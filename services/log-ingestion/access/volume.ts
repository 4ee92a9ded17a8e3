// Limits on what requests hold, rather than on how many there are. A request passes while the balance is positive and is
// then charged all it held, so the balance may go below zero and later requests wait it off: the long-run rate is exact,
// and one large batch is not starved by a bucket it would never fit into.
//
// In thousandths, on whole milliseconds of the monotonic clock: integers, so nothing is lost to rounding.

import type { Clock } from '#platform/time'
import type { Limit, Limits } from '../rules/limits.ts'

export interface Sender {
  tenant: string
  key: string
  keyName: string
}

export type VolumeLimit = 'requests' | 'rows' | 'bytes' | 'quota'

export interface Overdrawn {
  limit: VolumeLimit
  /** Whole seconds ≥ 1 until a request passes again. */
  retryAfterS: number
}

export interface Volume {
  /** Undefined: it may pass. Takes a token of each limit on requests. */
  check(sender: Sender): Overdrawn | undefined
  charge(sender: Sender, rows: number, bytes: number): void
  /** Bytes of this UTC day that are known from elsewhere, by tenant; what was charged since `begun` is added. */
  setDay(used: ReadonlyMap<string, number>, begun: DayMark): void
  /** To be taken before the day's bytes are read. */
  mark(): DayMark
}

/** What had been charged when the reading began. */
export interface DayMark {
  day: number
  charged: ReadonlyMap<string, number>
}

/** A bucket holds what comes in during this time. */
const burstMs = 1_000
const dayMs = 86_400_000
const debtsMax = 100_000

export function createVolume(o: {
  clock: Clock
  limits: () => Limits
  /** Of each key; 0: none. */
  rowsPerSecond: () => number
  bytesPerSecond: () => number
}): Volume {
  const { clock } = o
  const debts = new Map<string, { milli: number; atMs: number }>()
  let day = Math.floor(clock.now() / dayMs)
  let charged = new Map<string, number>()
  let base: ReadonlyMap<string, number> = new Map()
  let chargedAtBase: ReadonlyMap<string, number> = new Map()

  const balance = (id: string, rate: number, capacity: number) => {
    const nowMs = Math.floor(clock.monotonicMs())
    const full = capacity * 1_000
    const found = debts.get(id) ?? { milli: full, atMs: nowMs }
    found.milli = Math.min(full, found.milli + (nowMs - found.atMs) * rate)
    found.atMs = nowMs
    debts.delete(id)
    debts.set(id, found)
    // The one used longest ago is the likeliest to be full, which is as good as forgotten.
    for (const oldest of debts.keys()) {
      if (debts.size <= debtsMax) break
      debts.delete(oldest)
    }
    return found
  }

  const newDay = () => {
    const today = Math.floor(clock.now() / dayMs)
    if (today === day) return
    day = today
    charged = new Map()
    base = new Map()
    chargedAtBase = new Map()
  }

  const usedToday = (tenant: string) =>
    (base.get(tenant) ?? 0) + (charged.get(tenant) ?? 0) - (chargedAtBase.get(tenant) ?? 0)

  /** Every bucket this sender draws from: its own by settings or rule, and its tenant's. */
  const bucketsOf = ({ tenant, key, keyName }: Sender) => {
    const ofKey = o.limits().ofKey(tenant, { key, keyName })
    const ofTenant = o.limits().ofTenant(tenant)
    const found: { id: string; limit: 'rows' | 'bytes'; rate: number }[] = []
    const add = (scope: string, limit: 'rows' | 'bytes', rate: number | undefined) => {
      if (rate !== undefined && rate > 0) found.push({ id: `${limit}\0${scope}`, limit, rate })
    }
    add(`key\0${key}`, 'rows', ofKey?.rowsPerSecond ?? o.rowsPerSecond())
    add(`key\0${key}`, 'bytes', ofKey?.bytesPerSecond ?? o.bytesPerSecond())
    add(`tenant\0${tenant}`, 'rows', ofTenant?.rowsPerSecond)
    add(`tenant\0${tenant}`, 'bytes', ofTenant?.bytesPerSecond)
    return { found, ofKey, ofTenant }
  }

  const takeRequest = (scope: string, limit: Limit | undefined): Overdrawn | undefined => {
    const rate = limit?.requestsPerSecond
    if (rate === undefined || rate <= 0) return undefined
    const bucket = balance(`requests\0${scope}`, rate, limit?.burst ?? rate * 2)
    if (bucket.milli < 1_000) return { limit: 'requests', retryAfterS: wait(1_000 - bucket.milli, rate) }
    bucket.milli -= 1_000
    return undefined
  }

  return {
    check(sender) {
      const { found, ofKey, ofTenant } = bucketsOf(sender)
      newDay()
      const quota = ofTenant?.bytesPerDay
      if (quota !== undefined && quota > 0 && usedToday(sender.tenant) >= quota)
        return { limit: 'quota', retryAfterS: Math.max(1, Math.ceil(((day + 1) * dayMs - clock.now()) / 1_000)) }
      for (const { id, limit, rate } of found) {
        const { milli } = balance(id, rate, (rate * burstMs) / 1_000)
        if (milli <= 0) return { limit, retryAfterS: wait(1 - milli, rate) }
      }
      return takeRequest(`key\0${sender.key}`, ofKey) ?? takeRequest(`tenant\0${sender.tenant}`, ofTenant)
    },
    charge(sender, rows, bytes) {
      newDay()
      charged.set(sender.tenant, (charged.get(sender.tenant) ?? 0) + bytes)
      for (const { id, limit, rate } of bucketsOf(sender).found)
        balance(id, rate, (rate * burstMs) / 1_000).milli -= (limit === 'rows' ? rows : bytes) * 1_000
    },
    mark() {
      newDay()
      return { day, charged: new Map(charged) }
    },
    setDay(used, begun) {
      newDay()
      if (begun.day !== day) return
      base = used
      chargedAtBase = begun.charged
    },
  }
}

function wait(missingMilli: number, rate: number): number {
  return Math.max(1, Math.ceil(missingMilli / rate / 1_000))
}
