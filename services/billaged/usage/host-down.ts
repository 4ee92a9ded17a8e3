import { larger, smaller } from '../bigint.ts'
import type { Stretch } from './fold.ts'

/** The pieces of unmeasured time in which no host vouched for the VM. A VM that no heartbeat ever listed has none: about
 *  its host nothing is known. `spans` are ascending and apart from one another. */
export function withoutHost(
  stretch: Stretch,
  leases: { wasListed: boolean; spans: readonly { fromNs: bigint; toNs: bigint }[] },
): Stretch[] {
  if (stretch.field !== 'timeNs' || stretch.kind === 'measured' || !leases.wasListed) return []
  const pieces: Stretch[] = []
  let at = stretch.fromNs
  const cut = (toNs: bigint) => {
    if (toNs > at) pieces.push({ ...stretch, field: 'hostDownNs', fromNs: at, toNs, amount: toNs - at })
  }
  for (const { fromNs, toNs } of leases.spans) {
    if (toNs <= at) continue
    if (fromNs >= stretch.toNs) break
    cut(smaller(fromNs, stretch.toNs))
    at = larger(at, smaller(toNs, stretch.toNs))
  }
  cut(stretch.toNs)
  return pieces
}
