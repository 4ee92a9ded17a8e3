// npm run bench:billaged [-- --workload steady,small,series,messy,events,query,kill,recovery,close,peers] [--quick]
//
// The service as a process of its own with a PostgreSQL with fsync, this loader on the same cores, every reply after an
// fdatasync. Afterwards an oracle in a third process says what each customer used; a run whose bill differs is FAILED,
// however fast it was.

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { benchClose } from './close.ts'
import { batchBody, grpcFrame, httpRequest } from './encode.ts'
import { benchEvents } from './events.ts'
import { usedAnHour } from './history.ts'
import { type Job, type LoadOptions, type Outcome, runLoad } from './load.ts'
import { benchPeers } from './peers.ts'
import { benchReads } from './reads.ts'
import { benchRecovery } from './recovery.ts'
import {
  closeBench,
  cpuSeconds,
  launch,
  memoryMib,
  type Service,
  startService,
  stopService,
  untilFolded,
  usage,
} from './service.ts'
import { at } from './table.ts'
import type { Shape } from './workload.ts'

const args = process.argv.slice(2)
const isQuick = args.includes('--quick')
/** Is there anything wrong with the workload itself? The figures mean nothing. */
const isTrial = args.includes('--trial')
const only = args[args.indexOf('--workload') + 1]?.split(',')
const wanted = (name: string) => !args.includes('--workload') || only?.includes(name) === true
const vmsPerCustomer = 1_000

let runs = 0
let hasFailed = false
console.log(
  'workload                                    samples/s   requests/s    p50 ms   p95 ms   p99 ms  folded/s  RSS MiB  CPU s  bytes/sample  billing error',
)
try {
  if (wanted('steady')) {
    const full = await measure('steady: 10 k VMs × 600, 16 connections', { vms: 10_000, samples: 600, connections: 16 })
    const half = { vms: 10_000, samples: 600, connections: 16, perSecond: full / 2 }
    await measure('steady at half load', half)
  }
  if (wanted('small'))
    for (const [connections, protocol] of [
      [16, 'h1'],
      [64, 'h1'],
      [256, 'h1'],
      [16, 'grpc'],
      [256, 'grpc'],
    ] as const)
      await measure(`small: 50 k VMs × 1, ${connections} × ${protocol}`, {
        vms: 50_000,
        samples: 1,
        connections,
        protocol,
      })
  if (wanted('messy'))
    await measure('messy: 10 % twice, 10 % out of order, 1 % resets', {
      vms: 10_000,
      samples: 600,
      connections: 16,
      isMessy: true,
    })
  if (wanted('series')) await measure('100 k series × 1', { vms: 100_000, samples: 1, connections: 64, seconds: 30 })
  if (wanted('events')) note(await benchEvents(isTrial ? 1 : isQuick ? 4 : 10))
  if (wanted('query'))
    for (const perCustomer of [100, 1_000])
      note(
        await benchReads({
          seconds: isTrial ? 2 : isQuick ? 5 : 20,
          historyHours: isTrial ? 3 : 480,
          vms: isTrial ? 2 * perCustomer : isQuick ? 2_000 : 10_000,
          vmsPerCustomer: perCustomer,
          errorOf: (service, shape, outcome, { hours }) => errorOf(service, shape, outcome, { perCustomer, hours }),
        }),
      )
  if (wanted('kill'))
    await measure('kill: kill -9 every few seconds', {
      vms: 2_000,
      samples: 600,
      connections: 16,
      isKilled: true,
      perSecond: 200,
      seconds: isQuick ? 12 : 45,
    })
  if (wanted('recovery')) note(await benchRecovery(isTrial ? 300_000 : 10_000_000, errorOf))
  if (wanted('close')) note(await benchClose(isTrial ? 20 : isQuick ? 2_000 : 10_000))
  if (wanted('peers')) note(await benchPeers(isTrial ? 1 : isQuick ? 2 : 10, errorOf))
} finally {
  await closeBench()
}
process.exitCode = hasFailed ? 1 : 0

function note(isRight: boolean) {
  if (!isRight) hasFailed = true
}

interface Run {
  vms: number
  samples: number
  connections: number
  protocol?: 'h1' | 'grpc'
  perSecond?: number
  seconds?: number
  isMessy?: boolean
  isKilled?: boolean
}

/** Returns the requests acknowledged a second. */
async function measure(name: string, run: Run): Promise<number> {
  const seconds = run.seconds ?? (isQuick ? 4 : 10)
  const shape: Shape = {
    seed: 42 + runs++,
    baseNs: BigInt(Math.floor(Date.now() / 60_000)) * 60_000_000_000n - 7_200_000_000_000n,
    stepNs: run.samples === 1 ? 10_000_000_000n : 100_000_000n,
    samplesPerBatch: run.samples,
    resetEvery: run.isMessy ? 100 : 0,
  }
  const jobs = makeJobs(shape, run, seconds)
  let service = await startService()
  const cpuBefore = cpuSeconds(service)
  const load: LoadOptions = {
    address: service.address,
    connections: run.connections,
    protocol: run.protocol ?? 'h1',
    jobs,
    seconds,
    ...(run.perSecond === undefined ? {} : { perSecond: run.perSecond }),
    ...(run.isKilled ? { isRetrying: true } : {}),
  }
  const killing = run.isKilled
    ? killRegularly(
        () => service,
        next => {
          service = next
        },
        isQuick ? 4 : 10,
      )
    : null
  const startedMs = performance.now()
  const outcome = await runLoad(load)
  await killing?.stop()
  const rssMib = memoryMib(service)
  await untilFolded(service)
  const foldedS = (performance.now() - startedMs) / 1_000
  // Of lives that were killed nobody knows it.
  const cpuS = run.isKilled ? null : cpuSeconds(service) - cpuBefore
  const error = await errorOf(service, shape, outcome)
  const samples = outcome.acknowledged.reduce((sum, job) => sum + job.samples, 0)
  const [size] = await service.sql<{ bytes: bigint; n: bigint }[]>`
    select pg_total_relation_size('billaged.sample_part')::int8 as bytes, coalesce(sum(n), 0)::int8 as n from billaged.sample_part`
  await stopService(service)
  const rate = outcome.acknowledged.length / outcome.elapsedS
  print(name, outcome, {
    samplesPerS: samples / outcome.elapsedS,
    rate,
    foldedPerS: samples / foldedS,
    rssMib,
    cpuS,
    bytesPerSample: Number(size?.bytes ?? 0n) / Math.max(1, Number(size?.n ?? 0n)),
    error,
  })
  return rate
}

function makeJobs(shape: Shape, run: Run, seconds: number): Job[] {
  const most =
    run.perSecond !== undefined
      ? run.perSecond * seconds * 1.05
      : run.samples === 1
        ? 40_000 * seconds
        : 2_500 * seconds
  const count = Math.ceil(Math.min(most, run.samples === 1 ? 600_000 : 30_000))
  const jobs: Job[] = []
  for (let i = 0; i < count; i++) {
    const [vm, batch] = [i % run.vms, Math.floor(i / run.vms)]
    const body = batchBody(shape, `vm-${vm}`, `customer-${Math.floor(vm / vmsPerCustomer)}`, vm, batch)
    jobs.push({
      vm,
      batch,
      samples: run.samples,
      request: run.protocol === 'grpc' ? grpcFrame(body) : httpRequest(body),
    })
  }
  if (!run.isMessy) return jobs
  // One in ten is sent again a moment later, one in ten changes places with one that comes later.
  const messy = jobs.flatMap((job, i) => (i % 10 === 3 ? [job, jobs[Math.max(0, i - 50)] ?? job] : [job]))
  for (let i = 7; i + 200 < messy.length; i += 10) {
    const [a, b] = [messy[i], messy[i + 200]]
    if (a !== undefined && b !== undefined) [messy[i], messy[i + 200]] = [b, a]
  }
  return messy
}

function killRegularly(current: () => Service, replace: (service: Service) => void, everyS: number) {
  let isOver = false
  const done = (async () => {
    for (;;) {
      for (let s = 0; s < everyS * 10 && !isOver; s++) await new Promise(resolve => setTimeout(resolve, 100))
      if (isOver) return
      const service = current()
      const exited = new Promise(resolve => service.child.once('exit', resolve))
      service.child.kill('SIGKILL')
      await exited
      replace({ ...service, ...(await launch(service.env, String(service.address.port))) })
    }
  })()
  return {
    stop() {
      isOver = true
      return done
    },
  }
}

/** Largest difference between the bill and the truth over customers and meters, as a share; null when there is none. */
async function errorOf(
  service: Service,
  shape: Shape,
  outcome: Outcome,
  { perCustomer, hours }: { perCustomer: number; hours: number } = { perCustomer: vmsPerCustomer, hours: 0 },
): Promise<string> {
  const customers = new Set(outcome.acknowledged.map(job => Math.floor(job.vm / perCustomer)))
  const input = JSON.stringify({
    shape: { ...shape, baseNs: `${shape.baseNs}`, stepNs: `${shape.stepNs}` },
    vmsPerCustomer: perCustomer,
    batches: outcome.acknowledged.map(job => [job.vm, job.batch]),
  })
  const oracle = spawnSync(process.execPath, [fileURLToPath(new URL('./oracle.ts', import.meta.url))], {
    input,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  })
  if (oracle.status !== 0) throw new Error(`the oracle failed: ${oracle.stderr}`)
  const truth: Record<string, Record<string, string>> = JSON.parse(oracle.stdout)
  const baseHour = shape.baseNs / 3_600_000_000_000n
  const fromNs = hours > 0 ? (baseHour - BigInt(hours)) * 3_600_000_000_000n : shape.baseNs - 60_000_000_000n
  const from = new Date(Number(fromNs / 1_000_000n)).toISOString()
  const to = new Date(Number((shape.baseNs + 86_400_000_000_000n) / 1_000_000n)).toISOString()
  let worst = 0
  let isRight = true
  for (const customer of customers) {
    const billed = await usage(service, `customer-${customer}`, `?wait=30s&from=${from}&to=${to}`)
    for (const [meter, text] of Object.entries(truth[`customer-${customer}`] ?? {})) {
      const before = usedAnHour[meter as keyof typeof usedAnHour] * BigInt(hours) * BigInt(perCustomer)
      const [mine, right] = [billed?.[meter] ?? 0n, BigInt(text) + before]
      if (mine === right) continue
      hasFailed = true
      isRight = false
      worst = Math.max(worst, Math.abs(Number(((mine - right) * 1_000_000n) / (right === 0n ? 1n : right)) / 10_000))
      console.error(`  customer-${customer} ${meter}: billed ${mine}, true ${right}`)
    }
  }
  return isRight ? '0' : `FAILED ${worst.toFixed(4)} %`
}

function print(
  name: string,
  { latenciesMs, refused }: Outcome,
  o: {
    samplesPerS: number
    rate: number
    foldedPerS: number
    rssMib: number
    cpuS: number | null
    bytesPerSample: number
    error: string
  },
) {
  const sorted = latenciesMs.toSorted((a, b) => a - b)
  const whole = (value: number, width: number) => Math.round(value).toLocaleString('en').padStart(width)
  console.log(
    [
      name.padEnd(42),
      whole(o.samplesPerS, 10),
      whole(o.rate, 12),
      at(sorted, 0.5).padStart(9),
      at(sorted, 0.95).padStart(8),
      at(sorted, 0.99).padStart(8),
      whole(o.foldedPerS, 9),
      whole(o.rssMib, 8),
      (o.cpuS?.toFixed(1) ?? '–').padStart(6),
      o.bytesPerSample.toFixed(1).padStart(13),
      o.error.padStart(14),
    ].join(' '),
  )
  if (refused.size > 0)
    console.log(`  not acknowledged: ${[...refused].map(([status, n]) => `${n} × ${status}`).join(', ')}`)
}
