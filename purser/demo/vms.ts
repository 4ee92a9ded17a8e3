// Virtual machines as a host daemon reports them: cumulative counters, sent in batches, some of them twice.

import { sleep } from '#platform/time'
import type { Tally } from '../demo.ts'
import type { Caller } from './caller.ts'

const customer = 'acme'
const vms = ['web-1', 'web-2', 'db-1', 'batch-1'] as const
const backdatedMs = 24 * 3_600_000
const cadenceMs = 5 * 60_000
const liveEveryMs = 2_000

/** acme pays by the shipped example plan. */
export async function prepareBilling(caller: Caller): Promise<void> {
  const from = new Date(Math.floor(Date.now() / 3_600_000) * 3_600_000 - 31 * 86_400_000).toISOString()
  for (const customerId of ['acme', 'globex', 'initech']) {
    try {
      await caller.post('billaged', '/v1/subscriptions', { customerId, planId: 'example', from, to: null })
    } catch (error) {
      // A second run finds the subscription of the first; billaged refuses overlapping ones.
      if (!(error instanceof Error && /answered (409|400)/.test(error.message))) throw error
    }
  }
}

export async function vmTraffic(caller: Caller, ends: AbortSignal): Promise<Tally[]> {
  const counts: Record<string, number> = { 'samples sent': 0, 'of them sent twice': 0 }
  const send = async (vm: string, metrics: Sample[], repeat: boolean) => {
    const body = { vmId: vm, customerId: customer, metrics }
    for (let times = repeat ? 2 : 1; times > 0; times--)
      await caller.post('billaged', '/billing.v1.BillingService/SendMetricsBatch', body, {
        headers: { 'x-tenant-id': customer },
      })
    counts['samples sent'] = (counts['samples sent'] ?? 0) + metrics.length * (repeat ? 2 : 1)
    if (repeat) counts['of them sent twice'] = (counts['of them sent twice'] ?? 0) + metrics.length
  }
  // A whole day on a fixed grid, so that a second run of the demo resends the same readings and changes nothing.
  const dayStartMs = Math.floor((Date.now() - backdatedMs) / cadenceMs) * cadenceMs
  for (const [index, vm] of vms.entries()) {
    const samples: Sample[] = []
    for (let ms = dayStartMs; ms < Date.now() - cadenceMs; ms += cadenceMs) samples.push(sampleAt(index, ms))
    await send(vm, samples, index === 0)
  }
  while (!ends.aborted) {
    for (const [index, vm] of vms.entries()) await send(vm, [sampleAt(index, Date.now())], index === 1)
    await sleep(liveEveryMs, ends).catch(() => {})
  }
  return [{ what: 'VM samples', tenant: customer, counts }]
}

interface Sample {
  timestamp: string
  cpuTimeNanos: string
  memoryUsageBytes: string
  diskReadBytes: string
  diskWriteBytes: string
  networkRxBytes: string
  networkTxBytes: string
}

/** Counters as a function of time alone: VM `index` has run since an hour of its own at a load of its own. */
function sampleAt(index: number, ms: number): Sample {
  const bornMs = Date.UTC(2026, 0, 1 + index)
  const aliveMs = BigInt(ms - bornMs)
  const milliCores = BigInt(150 + 450 * index)
  const wave = Math.sin(ms / 3_600_000 + index)
  return {
    timestamp: new Date(ms).toISOString(),
    cpuTimeNanos: (aliveMs * milliCores * 1_000n).toString(),
    memoryUsageBytes: BigInt(Math.round((512 + 256 * index + 128 * wave) * 2 ** 20)).toString(),
    diskReadBytes: (aliveMs * BigInt(40 + index)).toString(),
    diskWriteBytes: (aliveMs * BigInt(90 + 7 * index)).toString(),
    networkRxBytes: (aliveMs * BigInt(300 + 11 * index)).toString(),
    networkTxBytes: (aliveMs * BigInt(800 + 13 * index)).toString(),
  }
}
