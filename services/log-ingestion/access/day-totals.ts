// Bytes that tenants with a daily quota sent to all replicas today. Redis only makes the sum quick: the ledger has it too,
// a little later, so a Redis that lost everything begins with what each replica knows from there.

import type { Clock } from '#platform/time'
import type { SharedRedis } from '../redis.ts'
import { createLru } from './tokens.ts'

export interface DayTotals {
  /** `known` is what this replica knows to have been sent, these bytes included. */
  add(tenant: string, day: number, bytes: number, known: number): void
  /** Resolves when what the others sent is known, as of a moment ago. */
  refresh(tenant: string, day: number, known: number): Promise<void> | undefined
  used(tenant: string, day: number): number
}

const staleMs = 100
const dayMs = 86_400_000
const tenantsMax = 10_000

const script = `
local sum = tonumber(redis.call('GET', KEYS[1]) or '0') + tonumber(ARGV[1])
if sum < tonumber(ARGV[2]) then sum = tonumber(ARGV[2]) end
redis.call('SET', KEYS[1], string.format('%.0f', sum), 'PX', ARGV[3])
return string.format('%.0f', sum)
`

export function createDayTotals(o: { redis: Pick<SharedRedis, 'client' | 'isUp'>; clock: Clock }): DayTotals {
  const totals = createLru<{ heard: number; untold: number; askedMs: number; asking: Promise<void> | undefined }>(
    tenantsMax,
  )
  const totalOf = (tenant: string, day: number) =>
    totals.get(`${day}:${tenant}`, () => ({
      heard: 0,
      untold: 0,
      askedMs: Number.NEGATIVE_INFINITY,
      asking: undefined,
    }))

  const ask = (tenant: string, day: number, known: number): Promise<void> | undefined => {
    const total = totalOf(tenant, day)
    if (total.asking || !o.redis.isUp) return total.asking
    total.askedMs = o.clock.monotonicMs()
    const told = total.untold
    const work = async () => {
      try {
        const sum = await o.redis.client.eval(script, 1, `day:${day}:${tenant}`, told, known, 2 * dayMs)
        total.heard = Math.max(total.heard, Number(sum))
        total.untold -= told
      } catch {
        // Told with the next ones.
      } finally {
        total.asking = undefined
      }
    }
    total.asking = work()
    return total.asking
  }

  return {
    add(tenant, day, bytes, known) {
      totalOf(tenant, day).untold += bytes
      void ask(tenant, day, known)
    },
    refresh(tenant, day, known) {
      const total = totalOf(tenant, day)
      if (!total.asking && o.clock.monotonicMs() - total.askedMs < staleMs) return undefined
      return ask(tenant, day, known)
    },
    used(tenant, day) {
      const { heard, untold } = totalOf(tenant, day)
      return heard + untold
    },
  }
}
