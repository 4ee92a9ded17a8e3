// Requests per minute: at most `limit` admissions in any 60 seconds, a permit returning at most 100 ms late.
//
// Sixty seconds are cut into 600 slots of 100 ms. A slot leaves only when all of it is older than a minute, hence one
// slot more in the sum. Counting slots instead of keeping timestamps bounds a tenant's memory whatever its limit.

export const slotMs = 100
const slots = 601

/** A taken permit; give it back with `release` when the call is refused later for another reason. */
export interface Permit {
  slot: number
}

export class RateWindow {
  readonly #counts = new Uint32Array(slots)
  #newest = Number.NEGATIVE_INFINITY
  #sum = 0

  /** `limit` 0 or null: unlimited. `nowMs` is monotonic. */
  take(limit: number | null, nowMs: number): Permit | null {
    const slot = this.#advance(nowMs)
    if (limit !== null && limit > 0 && this.#sum >= limit) return null
    this.#counts[slot % slots] = (this.#counts[slot % slots] ?? 0) + 1
    this.#sum += 1
    return { slot }
  }

  release(permit: Permit, nowMs: number): void {
    const newest = this.#advance(nowMs)
    const index = permit.slot % slots
    const count = this.#counts[index] ?? 0
    if (newest - permit.slot >= slots || count === 0) return
    this.#counts[index] = count - 1
    this.#sum -= 1
  }

  used(nowMs: number): number {
    this.#advance(nowMs)
    return this.#sum
  }

  /** Milliseconds until one more permit may be free; 0 when one is. */
  waitMs(limit: number, nowMs: number): number {
    const newest = this.#advance(nowMs)
    if (limit <= 0 || this.#sum < limit) return 0
    for (let age = slots - 1; age >= 0; age--) {
      const slot = newest - age
      if (slot >= 0 && (this.#counts[slot % slots] ?? 0) > 0) return Math.max(1, (slot + slots) * slotMs - nowMs)
    }
    return slotMs
  }

  #advance(nowMs: number): number {
    const slot = Math.floor(nowMs / slotMs)
    if (slot - this.#newest >= slots) {
      this.#counts.fill(0)
      this.#sum = 0
      this.#newest = slot
    }
    while (this.#newest < slot) {
      this.#newest += 1
      this.#sum -= this.#counts[this.#newest % slots] ?? 0
      this.#counts[this.#newest % slots] = 0
    }
    return this.#newest
  }
}
