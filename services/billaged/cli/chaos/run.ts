import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { ConnectError } from '@connectrpc/connect'
import { type ChaosFlags, type Flags, UsageError } from '../args.ts'
import { createRpcClient } from '../client.ts'
import { createAdapter, type ReadBill } from './adapters.ts'
import { createDeltaBiller } from './delta-biller.ts'
import { openOutcomes } from './outcomes.ts'
import { type Fault, faults, type Message, makeScenario, meters } from './scenario.ts'
import { type Spawned, spawnBillaged } from './spawn.ts'

// billaged-cli chaos: VMs with known truth, a bad day, and the bill read back. Exact or explained by a gap; nothing else.

export interface Sum {
  seeds: number
  truth: bigint
  billed: bigint
  unproven: bigint
  /** |billed − (truth − unproven)| over all meters and seeds. */
  unexplained: bigint
  overcharged: bigint
  delta: bigint
}

/** Seeds on their way at once. */
const parallel = 8
/** A spawned service is killed after so many seeds. */
const crashEverySeeds = 10

export async function runChaos(flags: Flags, env: Readonly<Record<string, string | undefined>>): Promise<number> {
  const { chaos } = flags
  const say = (line: string) => void process.stderr.write(`${line}\n`)
  const spawned = chaos.spawn === '' ? null : await spawnBillaged(chaos.spawn, env)
  const target = spawned === null ? flags : { ...flags, server: spawned.server, key: spawned.key, tlsMode: 'disabled' }
  const replicas = target.server.split(',').map(server => ({ ...target, server: server.trim() }))
  const [first] = replicas
  if (first === undefined) throw new Error('BUG: a text has a first part')
  const readBill = createAdapter(first)
  const crash = crasher(spawned, chaos.killCommand)
  const runId = randomUUID().slice(0, 8)
  const outcomes = openOutcomes(chaos.resume)
  const missing = Array.from({ length: chaos.seeds }, (_, i) => chaos.seed + i).filter(seed => !outcomes.has(seed))
  const beganMs = performance.now()
  let next = 0
  try {
    const worker = async () => {
      for (let i = next++; i < missing.length; i = next++) {
        if (chaos.forMs !== null && performance.now() - beganMs > chaos.forMs) return
        const seed = missing[i] ?? 0
        const isCrash = crash !== null && i % crashEverySeeds === crashEverySeeds - 1
        if (isCrash) await crash()
        const fault = faultOf(seed)
        const sum = await runSeed({ replicas, readBill, customerId: `chaos-${runId}-${seed}`, seed, fault })
        outcomes.add({ seed, fault, crashes: isCrash ? 1 : 0, sum })
      }
    }
    await Promise.all(Array.from({ length: Math.min(parallel, missing.length) }, worker))
  } finally {
    await spawned?.stop()
  }
  const sums = new Map<Fault, Sum>()
  const failures: string[] = []
  let crashes = 0
  for (const { seed, fault, sum, ...outcome } of outcomes.between(chaos.seed, chaos.seed + chaos.seeds)) {
    addTo(sums, fault, sum)
    crashes += outcome.crashes
    if (sum.unexplained !== 0n)
      failures.push(`seed ${seed} (${fault}): off by ${sum.billed - (sum.truth - sum.unproven)}`)
  }
  return report({ flags, chaos, sums, failures, crashes, say })
}

/** The same for a seed, whichever run it is part of. */
function faultOf(seed: number): Fault {
  return faults[(seed - 1) % faults.length] ?? 'none'
}

/** Those of the seeds on their way; they lose their memory together with the service. */
const deltaBillers = new Set<ReturnType<typeof createDeltaBiller>>()

/** Kills the service and waits until it is back; whoever comes meanwhile waits for it, too. Null: nobody may. */
function crasher(spawned: Spawned | null, killCommand: string): (() => Promise<void>) | null {
  const once = spawned !== null ? () => spawned.crash() : killCommand === '' ? null : () => shell(killCommand)
  if (once === null) return null
  let crashing: Promise<void> | undefined
  return () => {
    for (const delta of deltaBillers) delta.restart()
    crashing ??= once().finally(() => {
      crashing = undefined
    })
    return crashing
  }
}

function shell(command: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, { shell: true, stdio: ['ignore', 'ignore', 'inherit'] })
    child.once('error', reject)
    child.once('close', code => (code === 0 ? resolve() : reject(new UsageError(`-kill-cmd ended with ${code}`))))
  })
}

async function runSeed(o: {
  replicas: readonly Flags[]
  readBill: ReadBill
  customerId: string
  seed: number
  fault: Fault
}): Promise<Sum> {
  const { customerId, seed, fault } = o
  const endNs = (BigInt(Date.now()) / 60_000n) * 60_000_000_000n - 600_000_000_000n
  const scenario = makeScenario(seed, fault, endNs)
  const delta = createDeltaBiller()
  deltaBillers.add(delta)
  const clients = o.replicas.map(flags => createRpcClient({ ...flags, tenant: customerId }))
  const send = async (message: Message, n: number) => {
    const { vmId } = message
    // Uneven, and the same for a seed: neighbours go to different replicas, and what is sent again to yet another.
    const client = clients[(seed * 31 + n * n) % clients.length]
    if (client === undefined) throw new Error('BUG: there is a server')
    if (message.kind === 'batch')
      await client.sendMetricsBatch({ vmId, customerId, metrics: message.readings.map(toMetric) })
    else if (message.kind === 'start') await client.notifyVmStarted({ vmId, customerId, startTime: message.atNs })
    else await client.notifyVmStopped({ vmId, stopTime: message.atNs })
  }
  for (const [n, message] of scenario.messages.entries()) {
    delta.receive(message)
    await untilAnswered(() => send(message, n))
  }
  deltaBillers.delete(delta)
  const time = (ns: bigint) => new Date(Number(ns / 1_000_000n)).toISOString()
  const question = {
    customerId,
    from: time(scenario.fromNs),
    to: time(scenario.toNs),
    expected: meters.map((_, m) => (scenario.truth[m] ?? 0n) - (scenario.unproven[m] ?? 0n)),
  }
  const billed = await untilAnswered(() => o.readBill(question))
  const sum: Sum = { seeds: 1, truth: 0n, billed: 0n, unproven: 0n, unexplained: 0n, overcharged: 0n, delta: 0n }
  for (const m of meters.keys()) {
    const [truth = 0n, unproven = 0n, bill = 0n] = [scenario.truth[m], scenario.unproven[m], billed[m]]
    const off = bill - (truth - unproven)
    sum.truth += truth
    sum.unproven += unproven
    sum.billed += bill
    sum.unexplained += off < 0n ? -off : off
    sum.overcharged += bill > truth ? bill - truth : 0n
    sum.delta += delta.billed[m] ?? 0n
  }
  return sum
}

/** Sends again for as long as there is no answer: a service that is down, full or starting. Refusals are not for retrying. */
async function untilAnswered<T>(work: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + 120_000
  for (let waitMs = 50; ; waitMs = Math.min(waitMs * 2, 1_000)) {
    try {
      return await work()
    } catch (error) {
      // 3: invalid_argument, 7: permission_denied, 16: unauthenticated.
      const isRefusal =
        error instanceof UsageError || (error instanceof ConnectError && [3, 7, 16].includes(error.code))
      if (isRefusal || performance.now() > deadline) throw error
      await new Promise(resolve => setTimeout(resolve, waitMs))
    }
  }
}

function toMetric({ atNs, counters }: { atNs: bigint; counters: bigint[] }) {
  const [cpuTimeNanos = 0n, diskReadBytes = 0n, diskWriteBytes = 0n, networkRxBytes = 0n, networkTxBytes = 0n] =
    counters
  const timestamp = { seconds: atNs / 1_000_000_000n, nanos: Number(atNs % 1_000_000_000n) }
  const memoryUsageBytes = 1n << 30n
  return { timestamp, cpuTimeNanos, memoryUsageBytes, diskReadBytes, diskWriteBytes, networkRxBytes, networkTxBytes }
}

function addTo(sums: Map<Fault, Sum>, fault: Fault, outcome: Sum) {
  const sum = sums.get(fault)
  if (sum === undefined) return void sums.set(fault, outcome)
  for (const key of Object.keys(outcome) as (keyof Sum)[])
    Object.assign(sum, {
      [key]: key === 'seeds' ? sum.seeds + outcome.seeds : (sum[key] as bigint) + (outcome[key] as bigint),
    })
}

function report(o: {
  flags: Flags
  chaos: ChaosFlags
  sums: Map<Fault, Sum>
  failures: string[]
  crashes: number
  say(line: string): void
}): number {
  const rows = faults.flatMap(fault => {
    const sum = o.sums.get(fault)
    return sum === undefined ? [] : [{ fault, ...sum }]
  })
  const total = (key: Exclude<keyof Sum, 'seeds'>) => rows.reduce((all, row) => all + row[key], 0n)
  const errorPercent = percent(total('unexplained'), total('truth'))
  const done = rows.reduce((all, row) => all + row.seeds, 0)
  const left = o.chaos.seeds - done
  if (o.flags.json) {
    const plain = rows.map(row => ({
      fault: row.fault,
      seeds: row.seeds,
      errorPercent: percent(row.unexplained, row.truth),
      overchargePercent: percent(row.overcharged, row.truth),
      unmeasuredPercent: percent(row.unproven, row.truth),
      deltaBillerPercent: percent(row.delta - row.truth, row.truth),
    }))
    process.stdout.write(
      `${JSON.stringify({ seed: o.chaos.seed, seeds: o.chaos.seeds, done, crashes: o.crashes, errorPercent, faults: plain }, null, 2)}\n`,
    )
  } else {
    process.stdout.write(
      'fault        seeds   error %    overcharge %   in gaps, not billed %   delta biller, error %\n',
    )
    for (const row of rows)
      process.stdout.write(
        `${row.fault.padEnd(12)}${String(row.seeds).padStart(6)}${percent(row.unexplained, row.truth).padStart(11)}${percent(row.overcharged, row.truth).padStart(15)}${percent(row.unproven, row.truth).padStart(24)}${percent(row.delta - row.truth, row.truth).padStart(24)}\n`,
      )
    process.stdout.write(
      `seeds ${o.chaos.seed}…${o.chaos.seed + o.chaos.seeds - 1}, killed ${o.crashes} times${left === 0 ? '' : `, ${left} seeds left`}\nerror ${errorPercent} %\n`,
    )
  }
  for (const failure of o.failures.slice(0, 10)) o.say(failure)
  return Number(errorPercent) > o.chaos.tolerancePercent || total('overcharged') > 0n ? 1 : 0
}

/** Six digits, rounded away from zero, so that no difference reads as none. */
function percent(part: bigint, whole: bigint): string {
  if (whole === 0n) return '0.000000'
  const scaled = (part < 0n ? -part : part) * 100_000_000n
  const millionths = scaled / whole + (scaled % whole === 0n ? 0n : 1n)
  return `${part < 0n ? '-' : ''}${millionths / 1_000_000n}.${`${millionths % 1_000_000n}`.padStart(6, '0')}`
}
