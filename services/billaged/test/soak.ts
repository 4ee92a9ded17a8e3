// Many short VMs, for minutes: does the service keep anything of them that it should not?
//   node services/billaged/test/soak.ts [--minutes 3] [--rate 300]
// Prints a line every few seconds and exits 1 when memory grew, something was left over, or a bill is off by a nano-unit.

import { parseArgs } from 'node:util'
import { spawnBillaged } from '../cli/chaos/spawn.ts'

const { values } = parseArgs({
  options: { minutes: { type: 'string', default: '3' }, rate: { type: 'string', default: '300' } },
})
const [durationMs, vmsPerS] = [Number(values.minutes) * 60_000, Number(values.rate)]
const customers = 50
const readingsPerVm = 8
const lanes = 16
const sampleEveryMs = 5_000
/** Resident memory may be this much above what it was when the churn had lasted a third of its time. */
const growthMax = 0.15

// Whatever is done every minute comes several times within each third.
const spawned = await spawnBillaged('bin/billaged', { ...process.env, BILLAGED_AGGREGATION_INTERVAL: '5s' })
const url = `http://${spawned.server}`
const headers = { 'content-type': 'application/json' }
const truth = Array.from({ length: customers }, () => 0n)
const minuteNs = 60_000_000_000n
let made = 0

async function rpc(method: string, message: object) {
  for (;;) {
    const reply = await fetch(`${url}/billing.v1.BillingService/${method}`, {
      method: 'POST',
      headers,
      body: JSON.stringify(message),
    })
    await reply.arrayBuffer()
    if (reply.status === 200) return
    if (reply.status !== 503) throw new Error(`${method}: ${reply.status}`)
    await new Promise(resolve => setTimeout(resolve, 100))
  }
}

/** A VM that was started, read, listed and stopped within ten minutes, of which every nanosecond counts. */
async function live(n: number) {
  const customer = n % customers
  const [vmId, customerId] = [`vm-${n}`, `soak-${customer}`]
  const startNs = BigInt(Date.now()) * 1_000_000n - 20n * minuteNs
  const cpu = (i: number) => BigInt(i) * 1_000_000_000n + BigInt(n % 997)
  await rpc('NotifyVmStarted', { vmId, customerId, startTime: `${startNs}` })
  const metrics = Array.from({ length: readingsPerVm }, (_, i) => {
    const atNs = startNs + BigInt(i + 1) * minuteNs
    return {
      timestamp: new Date(Number(atNs / 1_000_000n)).toISOString(),
      cpuTimeNanos: `${cpu(i + 1)}`,
      memoryUsageBytes: '1000',
    }
  })
  await rpc('SendMetricsBatch', { vmId, customerId, metrics: metrics.slice(0, 5) })
  await rpc('SendMetricsBatch', { vmId, customerId, metrics: metrics.slice(4) })
  if (n % 10 === 0) await rpc('SendHeartbeat', { instanceId: `host-${n % 7}`, activeVms: [vmId] })
  await rpc('NotifyVmStopped', { vmId, stopTime: `${startNs + BigInt(readingsPerVm) * minuteNs}` })
  truth[customer] = (truth[customer] ?? 0n) + cpu(readingsPerVm)
}

async function gauges() {
  const text = await (await fetch(`${url}/metrics`)).text()
  const of = (name: string) => Number(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)`, 'm').exec(text)?.[1] ?? 'NaN')
  return {
    rssMib: of('process_resident_memory_bytes') / 2 ** 20,
    heapMib: of('nodejs_heap_size_used_bytes') / 2 ** 20,
    activeVms: of('billaged_active_vms'),
    residentSeries: of('billaged_resident_series'),
    queueDepth: of('billaged_queue_depth'),
    journalMib: of('billaged_journal_bytes') / 2 ** 20,
  }
}

const curve: { s: number; vms: number; rssMib: number }[] = []
async function look(s: number) {
  const now = await gauges()
  curve.push({ s, vms: made, rssMib: now.rssMib })
  const { rssMib, heapMib, activeVms, residentSeries, queueDepth, journalMib } = now
  console.log(
    `| ${s} | ${made} | ${rssMib.toFixed(0)} | ${heapMib.toFixed(0)} | ${activeVms} | ${residentSeries} | ${queueDepth} | ${journalMib.toFixed(1)} |`,
  )
  return now
}

const problems: string[] = []
try {
  console.log('| s | VMs so far | RSS MiB | heap MiB | active VMs | resident series | queue | journal MiB |')
  console.log('|---:|---:|---:|---:|---:|---:|---:|---:|')
  // Every running period is held against a budget.
  for (let n = 0; n < customers; n++) {
    const reply = await fetch(`${url}/v1/customers/soak-${n}`, {
      method: 'PUT',
      headers: { ...headers, authorization: `Bearer ${spawned.key}` },
      body: JSON.stringify({ budgetNano: '1000000000000' }),
    })
    if (!reply.ok) throw new Error(`budget of soak-${n}: ${reply.status} ${await reply.text()}`)
  }
  const beganMs = performance.now()
  const elapsed = () => performance.now() - beganMs
  let nextLook = 0
  const lane = async () => {
    while (elapsed() < durationMs) {
      // Not faster than asked, so that the curve is of the same churn all along.
      const aheadMs = (made / vmsPerS) * 1_000 - elapsed()
      if (aheadMs > 0) await new Promise(resolve => setTimeout(resolve, aheadMs))
      await live(made++)
      if (elapsed() < nextLook) continue
      nextLook = elapsed() + sampleEveryMs
      await look(Math.round(elapsed() / 1_000))
    }
  }
  await Promise.all(Array.from({ length: lanes }, lane))

  // The bill, and what is left when nothing comes any more.
  for (const [n, expected] of truth.entries()) {
    const from = new Date(Date.now() - 3_600_000 - durationMs).toISOString()
    const reply = await fetch(`${url}/v1/customers/soak-${n}/usage?wait=30s&from=${from}`, {
      headers: { authorization: `Bearer ${spawned.key}` },
    })
    const { rows } = (await reply.json()) as { rows: { meter: string; quantity: string }[] }
    const billed = BigInt(rows.find(row => row.meter === 'vm_cpu')?.quantity ?? '0')
    if (billed !== expected) problems.push(`soak-${n} is billed ${billed} of ${expected}`)
  }
  let last = await look(Math.round(elapsed() / 1_000))
  // Leases are two minutes; a minute is the interval at which they are swept.
  for (let i = 0; i < 40 && (last.activeVms > 0 || last.queueDepth > 0); i++) {
    await new Promise(resolve => setTimeout(resolve, 5_000))
    last = await look(Math.round(elapsed() / 1_000))
  }
  if (last.activeVms > 0) problems.push(`${last.activeVms} VMs are still held to be alive`)
  if (last.queueDepth > 0) problems.push(`${last.queueDepth} groups are not folded`)
  const churn = curve.filter(({ s }) => s * 1_000 <= durationMs)
  const most = (part: typeof churn) => Math.max(...part.map(({ rssMib }) => rssMib))
  const [early, late] = [
    most(churn.slice(Math.floor(churn.length / 3), Math.ceil((churn.length * 2) / 3))),
    most(churn.slice(Math.ceil((churn.length * 2) / 3))),
  ]
  console.log(
    `\n${made} VMs, ${made * 4 + Math.ceil(made / 10)} calls; highest RSS ${early.toFixed(0)} MiB in the second third, ${late.toFixed(0)} MiB in the last`,
  )
  if (late > early * (1 + growthMax)) problems.push(`memory grew from ${early.toFixed(0)} to ${late.toFixed(0)} MiB`)
} finally {
  await spawned.stop()
}
for (const problem of problems) console.log(problem)
console.log(problems.length === 0 ? 'flat, nothing left over, every bill exact' : 'failed')
process.exitCode = problems.length === 0 ? 0 : 1
