import { setTimeout as sleep } from 'node:timers/promises'
import { formatUsd } from '#platform/money'
import type { Flags } from './args.ts'
import { callApi, createRpcClient } from './client.ts'

// Three customers, one plan, ten VMs: last month and this one so far, a reading every five minutes. Readings are a
// function of the VM and the time, so running it again sends the same elements and changes nothing.

interface DemoVm {
  customerId: string
  vmId: string
  vcpus: bigint
  memoryGib: bigint
  /** Something for the ledger to show. */
  story: 'steady' | 'restarted' | 'gap'
}

const customers = [
  { id: 'acme', name: 'Acme Robotics' },
  { id: 'globex', name: 'Globex' },
  { id: 'initech', name: 'Initech' },
] as const

const vms: readonly DemoVm[] = Array.from({ length: 10 }, (_, i) => ({
  customerId: customers[i % customers.length]?.id ?? 'acme',
  vmId: `demo-vm-${String(i + 1).padStart(2, '0')}`,
  vcpus: [1n, 2n, 4n, 8n][i % 4] ?? 1n,
  memoryGib: [2n, 4n, 8n][i % 3] ?? 2n,
  story: i === 3 ? 'restarted' : i === 7 ? 'gap' : 'steady',
}))

const planId = 'demo'
const stepNs = 300_000_000_000n
const samplesPerBatch = 2_000
const gib = 1n << 30n

export async function runDemo(flags: Flags): Promise<number> {
  const nowMs = Date.now()
  const from = Temporal.Instant.fromEpochMilliseconds(nowMs).toZonedDateTimeISO('UTC').with({ day: 1 }).startOfDay()
  const begin = from.subtract({ months: 1 }).toInstant()
  const say = (line: string) => void process.stderr.write(`${line}\n`)

  await makePlan(flags, begin.toString())
  let readings = 0
  for (const vm of vms) readings += await sendHistory(flags, vm, begin.epochNanoseconds, BigInt(nowMs) * 1_000_000n)
  for (const { id, name } of customers) {
    await callApi(flags, 'GET', `/v1/customers/${id}/usage?wait=30s`)
    await callApi(flags, 'PUT', `/v1/customers/${id}`, { name })
    await callApi(flags, 'POST', '/v1/subscriptions', { customerId: id, planId, from: begin.toString(), to: null })
  }
  say(`${vms.length} VMs of ${customers.length} customers, ${readings} readings since ${begin.toString()}`)
  for (const { id, name } of customers)
    await printPreview(flags, id, name, begin.toString(), from.toInstant().toString())
  if (flags.live) await sendLive(flags, say)
  else say('Run it with -live to keep one VM running.')
  return 0
}

async function makePlan(flags: Flags, effectiveFrom: string) {
  const plan = await callApi(flags, 'POST', '/v1/plans', { id: planId, name: 'Demo', currency: 'USD' })
  // 409: an earlier run made it, with its version.
  if (plan.status === 409) return
  const tiers = [
    { upTo: `${100n * gib}`, amountNano: '0' },
    { upTo: null, amountNano: '150000000' },
  ]
  await callApi(flags, 'POST', `/v1/plans/${planId}/versions`, {
    effectiveFrom,
    unbilled: ['vm_disk_read', 'vm_net_rx'],
    prices: [
      { id: 'base', model: 'flat', amountNano: '20000000000' },
      { id: 'cpu', model: 'per_unit', meter: 'vm_cpu', per: '3600000000000', amountNano: '100000000' },
      {
        id: 'memory',
        model: 'per_unit',
        meter: 'vm_memory',
        per: `${gib * 3_600_000_000_000n}`,
        amountNano: '50000000',
      },
      { id: 'disk', model: 'per_unit', meter: 'vm_disk_write', per: `${gib}`, amountNano: '100000000' },
      { id: 'egress', model: 'graduated', meter: 'vm_net_tx', per: `${gib}`, tiers },
    ],
  })
}

async function sendHistory(flags: Flags, vm: DemoVm, beginNs: bigint, nowNs: bigint): Promise<number> {
  const client = createRpcClient({ ...flags, tenant: vm.customerId })
  const { vmId, customerId } = vm
  await client.notifyVmStarted({ vmId, customerId, startTime: beginNs })
  let batch: ReturnType<typeof reading>[] = []
  let sent = 0
  const flush = async () => {
    if (batch.length > 0) await client.sendMetricsBatch({ vmId, customerId, metrics: batch })
    sent += batch.length
    batch = []
  }
  let counters = { cpuNs: 0n, written: 0n, sentBytes: 0n }
  const restartAt = 2_000n
  for (let tick = 1n; beginNs + tick * stepNs <= nowNs; tick++) {
    const atNs = beginNs + tick * stepNs
    if (vm.story === 'restarted' && tick === restartAt) {
      await client.notifyVmStopped({ vmId, stopTime: atNs - stepNs / 2n })
      await client.notifyVmStarted({ vmId, customerId, startTime: atNs - stepNs / 4n })
      counters = { cpuNs: 0n, written: 0n, sentBytes: 0n }
    }
    const load = loadPpm(vm, tick)
    const runNs = vm.story === 'restarted' && tick === restartAt ? stepNs / 4n : stepNs
    counters.cpuNs += (vm.vcpus * runNs * load) / 1_000_000n
    counters.written += load * 40n
    counters.sentBytes += load * 90n
    // A host that was cut off for three hours: the counters ran on, nobody read them.
    const isUnread = vm.story === 'gap' && tick > 3_000n && tick < 3_036n
    if (!isUnread) batch.push(reading(vm, atNs, counters, load))
    if (batch.length >= samplesPerBatch) await flush()
  }
  await flush()
  return sent
}

function reading(
  vm: DemoVm,
  atNs: bigint,
  counters: { cpuNs: bigint; written: bigint; sentBytes: bigint },
  load: bigint,
) {
  return {
    timestamp: { seconds: atNs / 1_000_000_000n, nanos: Number(atNs % 1_000_000_000n) },
    cpuTimeNanos: counters.cpuNs,
    memoryUsageBytes: (vm.memoryGib * gib * (500_000n + load / 2n)) / 1_000_000n,
    diskReadBytes: counters.written / 3n,
    diskWriteBytes: counters.written,
    networkRxBytes: counters.sentBytes / 4n,
    networkTxBytes: counters.sentBytes,
  }
}

/** Share of its cores a VM is busy with, in millionths: a day's wave with some noise, the same for the same tick. */
function loadPpm(vm: DemoVm, tick: bigint): bigint {
  const ofDay = tick % 288n
  const wave = ofDay < 144n ? ofDay : 288n - ofDay
  const seed = tick * 2_654_435_761n + BigInt(vm.vmId.length + vm.vmId.charCodeAt(vm.vmId.length - 1)) * 40_503n
  const noise = ((seed ^ (seed >> 13n)) * 1_103_515_245n) % 150_000n
  return 50_000n + wave * 3_500n + noise
}

async function printPreview(flags: Flags, id: string, name: string, from: string, to: string) {
  const { body } = await callApi(flags, 'POST', '/v1/preview', { customerId: id, from, to })
  const total = typeof body === 'object' && body !== null && 'totalNano' in body ? String(body.totalNano) : '0'
  if (flags.json) process.stdout.write(`${JSON.stringify(body)}\n`)
  else process.stdout.write(`${name.padEnd(16)} last month  USD ${formatUsd(BigInt(total)).padStart(16)}\n`)
}

/** One VM with a reading every five seconds until interrupted. */
async function sendLive(flags: Flags, say: (line: string) => void) {
  const vm: DemoVm = { customerId: 'acme', vmId: 'demo-vm-live', vcpus: 2n, memoryGib: 4n, story: 'steady' }
  const client = createRpcClient({ ...flags, tenant: vm.customerId })
  await client.notifyVmStarted({ vmId: vm.vmId, customerId: vm.customerId, startTime: BigInt(Date.now()) * 1_000_000n })
  say(`${vm.vmId} is running; Ctrl-C stops it`)
  const counters = { cpuNs: 0n, written: 0n, sentBytes: 0n }
  for (let tick = 1n; ; tick++) {
    await sleep(5_000)
    const load = loadPpm(vm, tick)
    counters.cpuNs += (vm.vcpus * 5_000_000_000n * load) / 1_000_000n
    counters.written += load
    counters.sentBytes += load * 2n
    const atNs = BigInt(Date.now()) * 1_000_000n
    const metrics = [reading(vm, atNs, counters, load)]
    await client.sendMetricsBatch({ vmId: vm.vmId, customerId: vm.customerId, metrics })
    await client.sendHeartbeat({ instanceId: 'demo-host', activeVms: [vm.vmId] })
  }
}
