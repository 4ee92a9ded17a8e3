import { type Hosts, isDisputed } from './hosts.ts'

// How much of a series to read beside a window so that the window folds as the whole series does.

/** Readings on either side of a pair that its rules look at: 16 for the median, and the few that settle which reading is
 *  each counter's base. */
export const contextReadings = 24

/** After so many readings every counter's base is what it is when the whole series is folded. */
const settlingReadings = 7

/** Whether a window may begin at the first of these instants (ascending), the readings before it. While two hosts claim a
 *  VM the fold remembers how high its counters stood; one pair that nobody disputes ends that. */
export function isContext(instants: readonly bigint[], hosts: Hosts): boolean {
  if (hosts.ofEach.length < 2) return true
  for (let i = settlingReadings; i + 1 < instants.length; i++) {
    const [a, b] = [instants[i], instants[i + 1]]
    if (a !== undefined && b !== undefined && !isDisputed(hosts, a, b)) return true
  }
  return false
}
