/** For so long a message is tried again, counted from when it was told or replayed. */
export const giveUpAfterMs = 3 * 86_400_000

/** From 5 s to 6 h: a restart of the receiver costs seconds, a night without it is bridged, and nobody is flooded. */
const delaysS = [5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400]
const longestS = 21_600

/** How long after the failed attempt of this number (from 1) the next one is made. */
export function retryDelayMs(attempt: number): number {
  return (delaysS[attempt - 1] ?? longestS) * 1_000
}
