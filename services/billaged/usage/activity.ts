import type { Clock } from '#platform/time'
import type { MarkKind } from '../intake/record.ts'

/** Which VMs are alive now, as far as this replica has heard: an operator's gauges, never billed. A VM counts from its
 *  first sign of life until its stop notice, or until it has been silent for the lease or three of its own spacings. */
export interface Activity {
  read(vmId: string): void
  listed(instanceId: string, vmIds: readonly string[]): void
  marked(vmId: string, kind: MarkKind): void
  /** Forgets the silent ones and counts the rest. */
  countActive(): number
  /** Closes the leases of silent hosts. Called every interval. */
  sweep(): void
  /** VMs held in memory. */
  size(): number
}

/** What happened, for counters. */
export interface ActivityEvents {
  /** A VM was read again, or a host heard again, after a silence longer than believable. */
  gap(kind: 'unmeasured' | 'host_down', seconds: number): void
  leaseExpired(instanceId: string): void
}

/** Past this many VMs the newest are not counted; memory stays bounded. */
const vmsMax = 1_000_000
const instancesMax = 100_000

export function createActivity({
  clock,
  leaseMs,
  silenceMsMax,
  events,
}: {
  clock: Clock
  leaseMs: number
  silenceMsMax: number
  events: ActivityEvents
}): Activity {
  const vms = new Map<string, { seenMs: number; spacingMs: number; readMs: number }>()
  const instances = new Map<string, { seenMs: number; isClosed: boolean }>()
  const silence = (spacingMs: number) => Math.min(silenceMsMax, Math.max(leaseMs, 3 * spacingMs))
  const see = (vmId: string, isReading: boolean) => {
    const nowMs = clock.monotonicMs()
    const vm = vms.get(vmId)
    if (vm !== undefined) {
      vm.spacingMs = nowMs - vm.seenMs
      vm.seenMs = nowMs
      if (isReading) {
        const unreadMs = nowMs - vm.readMs
        if (vm.readMs >= 0 && unreadMs > silence(0)) events.gap('unmeasured', unreadMs / 1_000)
        vm.readMs = nowMs
      }
    } else if (vms.size < vmsMax) vms.set(vmId, { seenMs: nowMs, spacingMs: 0, readMs: isReading ? nowMs : -1 })
  }
  return {
    read: vmId => see(vmId, true),
    listed(instanceId, vmIds) {
      const nowMs = clock.monotonicMs()
      const instance = instances.get(instanceId)
      if (instance !== undefined) {
        if (nowMs - instance.seenMs > leaseMs)
          events.gap('host_down', ((nowMs - instance.seenMs - leaseMs) / 1_000) * vmIds.length)
        instance.seenMs = nowMs
        instance.isClosed = false
      } else if (instances.size < instancesMax) instances.set(instanceId, { seenMs: nowMs, isClosed: false })
      for (const vmId of vmIds) see(vmId, false)
    },
    marked(vmId, kind) {
      if (kind === 'start') see(vmId, false)
      if (kind === 'stop') vms.delete(vmId)
    },
    countActive() {
      const nowMs = clock.monotonicMs()
      for (const [vmId, { seenMs, spacingMs }] of vms) if (nowMs - seenMs > silence(spacingMs)) vms.delete(vmId)
      return vms.size
    },
    sweep() {
      const nowMs = clock.monotonicMs()
      for (const [instanceId, instance] of instances) {
        const silentMs = nowMs - instance.seenMs
        if (!instance.isClosed && silentMs > leaseMs) {
          instance.isClosed = true
          events.leaseExpired(instanceId)
        }
        // A host that stays away for a day is gone; coming back it is a new one.
        if (silentMs > 86_400_000) instances.delete(instanceId)
      }
    },
    size: () => vms.size,
  }
}
