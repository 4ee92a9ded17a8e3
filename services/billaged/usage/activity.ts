import type { Clock } from '#platform/time'
import type { MarkKind } from '../intake/record.ts'

/** Which VMs are alive now, as far as this replica has heard: an operator's gauge, never billed. A VM counts from its
 *  first sign of life until its stop notice, or until it has been silent for the lease or three of its own spacings. */
export interface Activity {
  read(vmId: string): void
  listed(vmIds: readonly string[]): void
  marked(vmId: string, kind: MarkKind): void
  /** Forgets the silent ones and counts the rest. */
  countActive(): number
}

/** Past this many VMs the newest are not counted; memory stays bounded. */
const vmsMax = 1_000_000

export function createActivity({
  clock,
  leaseMs,
  silenceMsMax,
}: {
  clock: Clock
  leaseMs: number
  silenceMsMax: number
}): Activity {
  const vms = new Map<string, { seenMs: number; spacingMs: number }>()
  const see = (vmId: string) => {
    const nowMs = clock.monotonicMs()
    const vm = vms.get(vmId)
    if (vm !== undefined) {
      vm.spacingMs = nowMs - vm.seenMs
      vm.seenMs = nowMs
    } else if (vms.size < vmsMax) vms.set(vmId, { seenMs: nowMs, spacingMs: 0 })
  }
  return {
    read: see,
    listed(vmIds) {
      for (const vmId of vmIds) see(vmId)
    },
    marked(vmId, kind) {
      if (kind === 'start') see(vmId)
      if (kind === 'stop') vms.delete(vmId)
    },
    countActive() {
      const nowMs = clock.monotonicMs()
      for (const [vmId, { seenMs, spacingMs }] of vms)
        if (nowMs - seenMs > Math.min(silenceMsMax, Math.max(leaseMs, 3 * spacingMs))) vms.delete(vmId)
      return vms.size
    },
  }
}
