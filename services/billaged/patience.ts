import { sleep } from '#platform/time'

/** Rating cannot be broken off half-way, and a stop must not wait for a month of a large customer: what is left over fails
 *  with the connections and changes nothing. */
export const stopPatienceMs = 5_000

/** Resolves when the work is done, or after so long; never rejects. */
export async function waitAtMost(work: Promise<unknown>, ms: number): Promise<void> {
  const patience = new AbortController()
  await Promise.race([work.catch(() => {}), sleep(ms, patience.signal).catch(() => {})])
  patience.abort()
}
