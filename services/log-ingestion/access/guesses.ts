// Credentials that are none, per address: 10 a second, 50 at once, and then nothing from there is looked at any more, right
// or wrong, so that a flood of guesses learns nothing even when one of them hits. Who was let in from there before still is:
// behind one address there are often many, and one of them guessing must not lock out the others.

import type { Clock } from '#platform/time'
import { createBuckets } from './buckets.ts'

export interface Guesses {
  /** It was none. Seconds to wait, or 0: say what is wrong with it. */
  failed(address: string): number
  /** It is somebody's. Seconds to wait, or 0: let them in. */
  admit(address: string, key: string): number
}

const perSecond = 10
const atOnce = 50
const addressesMax = 10_000
const pairsMax = 10_000

export function createGuesses({ clock }: { clock: Clock }): Guesses {
  const failures = createBuckets({ rps: perSecond, burst: atOnce, clock, keysMax: addressesMax })
  /** Addresses and who came from there, the oldest first. */
  const known = new Set<string>()
  return {
    failed: address => failures.take(address).retryAfterS,
    admit(address, key) {
      const pair = `${address} ${key}`
      if (known.has(pair)) return 0
      const waitS = failures.waitS(address)
      if (waitS > 0) return waitS
      known.add(pair)
      for (const oldest of known) {
        if (known.size <= pairsMax) break
        known.delete(oldest)
      }
      return 0
    },
  }
}
