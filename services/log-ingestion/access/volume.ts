// Limits on what requests hold, rather than on how many there are. A request passes while the balance is positive and is
// then charged all it held, so the balance may go below zero and later requests wait it off: the long-run rate is exact,
// and one large batch is not starved by a bucket it would never fit into.

import type { Clock } from '#platform/time'
import type { Limit, Limits } from '../rules/limits.ts'
import type { DayTotals } from './day-totals.ts'
import { type TokenLimit, type Tokens, waitS } from './tokens.ts'

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
  check(sender: Sender): Promise<Overdrawn | undefined>
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

/** A bucket of rows or bytes holds what comes in during one second. */
const burstS = 1
const dayMs = 86_400_000
const token = 1_000

export function createVolume(o: {
  clock: Clock
  tokens: Tokens
  /** What all replicas took today; undefined: the ledger has it soon enough. */
  dayTotals?: DayTotals | undefined
  limits: () => Limits
  /** Of each key; 0: none. */
  rowsPerSecond: () => number
  bytesPerSecond: () => number
}): Volume {
  const { clock, tokens, dayTotals } = o
  let day = Math.floor(clock.now() / dayMs)
  let charged = new Map<string, number>()
  let base: ReadonlyMap<string, number> = new Map()
  let chargedAtBase: ReadonlyMap<string, number> = new Map()

  const newDay = () => {
    const today = Math.floor(clock.now() / dayMs)
    if (today === day) return
    day = today
    charged = new Map()
    base = new Map()
    chargedAtBase = new Map()
  }

  const knownHere = (tenant: string) =>
    (base.get(tenant) ?? 0) + (charged.get(tenant) ?? 0) - (chargedAtBase.get(tenant) ?? 0)
  const hasQuota = (limit: Limit | undefined): limit is Limit & { bytesPerDay: number } =>
    limit?.bytesPerDay !== undefined && limit.bytesPerDay > 0

  /** Every bucket this sender draws from: its own by settings or rule, and its tenant's. */
  const bucketsOf = ({ tenant, key, keyName }: Sender) => {
    const ofKey = o.limits().ofKey(tenant, { key, keyName })
    const ofTenant = o.limits().ofTenant(tenant)
    const found: (TokenLimit & { limit: 'rows' | 'bytes' })[] = []
    const add = (scope: string, limit: 'rows' | 'bytes', rate: number | undefined) => {
      if (rate !== undefined && rate > 0) found.push({ id: `${limit}\0${scope}`, limit, rate, capacity: rate * burstS })
    }
    add(`key\0${key}`, 'rows', ofKey?.rowsPerSecond ?? o.rowsPerSecond())
    add(`key\0${key}`, 'bytes', ofKey?.bytesPerSecond ?? o.bytesPerSecond())
    add(`tenant\0${tenant}`, 'rows', ofTenant?.rowsPerSecond)
    add(`tenant\0${tenant}`, 'bytes', ofTenant?.bytesPerSecond)
    return { found, ofKey, ofTenant }
  }

  const takeRequest = async (scope: string, limit: Limit | undefined): Promise<Overdrawn | undefined> => {
    const rate = limit?.requestsPerSecond
    if (rate === undefined || rate <= 0) return undefined
    const bucket = { id: `requests\0${scope}`, rate, capacity: limit?.burst ?? rate * 2 }
    const taken = await tokens.take(bucket, token, token)
    return taken.allowed ? undefined : { limit: 'requests', retryAfterS: waitS(taken, token) }
  }

  return {
    async check(sender) {
      const { found, ofKey, ofTenant } = bucketsOf(sender)
      newDay()
      if (hasQuota(ofTenant)) {
        await dayTotals?.refresh(sender.tenant, day, knownHere(sender.tenant))
        const used = Math.max(knownHere(sender.tenant), dayTotals?.used(sender.tenant, day) ?? 0)
        if (used >= ofTenant.bytesPerDay)
          return { limit: 'quota', retryAfterS: Math.max(1, Math.ceil(((day + 1) * dayMs - clock.now()) / 1_000)) }
      }
      for (const { limit, ...bucket } of found) {
        const taken = await tokens.take(bucket, 1, 0)
        if (!taken.allowed) return { limit, retryAfterS: waitS(taken, 1) }
      }
      return (
        (await takeRequest(`key\0${sender.key}`, ofKey)) ?? (await takeRequest(`tenant\0${sender.tenant}`, ofTenant))
      )
    },
    charge(sender, rows, bytes) {
      newDay()
      charged.set(sender.tenant, (charged.get(sender.tenant) ?? 0) + bytes)
      const { found, ofTenant } = bucketsOf(sender)
      if (hasQuota(ofTenant)) dayTotals?.add(sender.tenant, day, bytes, knownHere(sender.tenant))
      for (const { limit, ...bucket } of found) tokens.charge(bucket, (limit === 'rows' ? rows : bytes) * token)
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
