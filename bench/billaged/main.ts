// npm run bench:billaged [-- --workload steady,small,messy,query,kill] [--quick]
//
// The service as a process of its own with a PostgreSQL with fsync, this loader on the same cores, every reply after an
// fdatasync. Afterwards an oracle in a third process says what each customer used; a run whose bill differs is FAILED,
// however fast it was.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { openSql, type Sql, startEmbedded } from '#platform/postgres'
import { createLog } from '#platform/telemetry'
import { batchBody, grpcFrame, httpRequest } from './encode.ts'
import { type Job, type LoadOptions, type Outcome, runLoad } from './load.ts'
import type { Shape } from './workload.ts'

const args = process.argv.slice(2)
const isQuick = args.includes('--quick')
const only = args[args.indexOf('--workload') + 1]?.split(',')
const wanted = (name: string) => !args.includes('--workload') || only?.includes(name) === true
const key = 'bench-operator-key-of-32-characters'
const vmsPerCustomer = 1_000

interface Service {
  url: string
  address: { host: string; port: number }
  child: ChildProcess
  env: NodeJS.ProcessEnv
  sql: Sql
}

const log = createLog({ service: 'bench', level: 'error', format: 'json' })
const dir = mkdtempSync(join(tmpdir(), 'purser-bench-billaged-'))
const database = await startEmbedded({ dir: join(dir, 'postgres'), log })
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
  if (wanted('query'))
    await measure('query: steady with readers beside it', {
      vms: 10_000,
      samples: 600,
      connections: 16,
      isQueried: true,
      perSecond: 400,
    })
  if (wanted('kill'))
    await measure('kill: kill -9 every few seconds', {
      vms: 2_000,
      samples: 600,
      connections: 16,
      isKilled: true,
      perSecond: 200,
      seconds: isQuick ? 12 : 45,
    })
} finally {
  await database.close()
  rmSync(dir, { recursive: true, force: true })
}
process.exitCode = hasFailed ? 1 : 0

interface Run {
  vms: number
  samples: number
  connections: number
  protocol?: 'h1' | 'grpc'
  perSecond?: number
  seconds?: number
  isMessy?: boolean
  isQueried?: boolean
  isKilled?: boolean
}

/** Returns the requests acknowledged a second. */
async function measure(name: string, run: Run): Promise<number> {
  const seconds = run.seconds ?? (isQuick ? 4 : 10)
  const shape: Shape = {
    seed: 42 + runs,
    baseNs: BigInt(Math.floor(Date.now() / 60_000)) * 60_000_000_000n - 7_200_000_000_000n,
    stepNs: run.samples === 1 ? 10_000_000_000n : 100_000_000n,
    samplesPerBatch: run.samples,
    resetEvery: run.isMessy ? 100 : 0,
  }
  const jobs = makeJobs(shape, run, seconds)
  let service = await startService()
  const cpuBefore = cpuSeconds(service)
  const reading = run.isQueried ? readBeside(service) : null
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
  const readLatencies = (await reading?.stop()) ?? []
  const customers = new Set(outcome.acknowledged.map(job => Math.floor(job.vm / vmsPerCustomer)))
  await untilFolded(service)
  const foldedS = (performance.now() - startedMs) / 1_000
  const cpuS = cpuSeconds(service) - cpuBefore
  const error = await billingError(service, shape, outcome, customers)
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
  if (readLatencies.length > 0)
    console.log(
      `  reads of one customer's usage: ${readLatencies.length}, p50 ${at(readLatencies, 0.5)} ms, p95 ${at(readLatencies, 0.95)} ms`,
    )
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

async function startService(): Promise<Service> {
  const name = `bench_${runs++}`
  const admin = openSql({ url: database.url, max: 1, applicationName: 'bench', log })
  await admin.unsafe(`create database ${name}`)
  await admin.end()
  const url = database.url.replace(/\/purser(\?|$)/, `/${name}$1`)
  const sql = openSql({ url, max: 2, applicationName: 'bench', log })
  const env = {
    PATH: process.env.PATH,
    LOG_FORMAT: 'json',
    LOG_LEVEL: 'info',
    BILLAGED_PORT: '0',
    BILLAGED_ADDRESS: '127.0.0.1',
    BILLAGED_OTEL_PROMETHEUS_PORT: '0',
    BILLAGED_OTEL_PROMETHEUS_INTERFACE: '127.0.0.1',
    BILLAGED_DATABASE_URL: url,
    BILLAGED_API_KEY: key,
    BILLAGED_DATA_DIR: join(dir, name),
    PURSER_DATA_DIR: join(dir, name),
  }
  return { ...(await launch(env)), env, sql }
}

async function launch(env: NodeJS.ProcessEnv, port = '0') {
  const main = fileURLToPath(new URL('../../services/billaged/main.ts', import.meta.url))
  // BENCH_PROFILE=dir keeps a CPU profile of the service.
  const profile = process.env.BENCH_PROFILE
  const flags = profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profile}`]
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', ...flags, main], {
    env: { ...env, BILLAGED_PORT: port },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const lines: string[] = []
  for await (const line of createInterface({ input: child.stdout })) {
    lines.push(line)
    const entry: { msg?: string; url?: string } = line.startsWith('{') ? JSON.parse(line) : {}
    if (entry.msg !== 'listening' || entry.url === undefined) continue
    child.stdout.resume()
    const { hostname: host, port } = new URL(entry.url)
    return { child, url: entry.url, address: { host, port: Number(port) } }
  }
  throw new Error(`the service did not start:\n${lines.slice(-5).join('\n')}`)
}

async function stopService({ child, sql }: Service) {
  await sql.end()
  const exited = new Promise(resolve => child.once('exit', resolve))
  child.kill('SIGTERM')
  await exited
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

function readBeside(service: Service) {
  let isOver = false
  const latencies: number[] = []
  const done = (async () => {
    for (let i = 0; !isOver; i++) {
      const startedMs = performance.now()
      await usage(service, `customer-${i % 10}`).catch(() => null)
      latencies.push(performance.now() - startedMs)
      await new Promise(resolve => setTimeout(resolve, 100))
    }
  })()
  return {
    async stop() {
      isOver = true
      await done
      return latencies.toSorted((a, b) => a - b)
    },
  }
}

async function usage(service: Service, customer: string, query = ''): Promise<Record<string, bigint> | null> {
  const answer = await fetch(`${service.url}/v1/customers/${customer}/usage${query}`, {
    headers: { authorization: `Bearer ${key}` },
  })
  if (answer.status !== 200) return null
  const { rows } = (await answer.json()) as { rows: { meter: string; quantity: string }[] }
  return Object.fromEntries(rows.map(row => [row.meter, BigInt(row.quantity)]))
}

async function untilFolded(service: Service) {
  for (;;) {
    const stats = (await (await fetch(`${service.url}/stats`)).json()) as { journal_bytes: number }
    if (stats.journal_bytes === 0) return
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}

/** Largest difference between the bill and the truth over customers and meters, as a share; null when there is none. */
async function billingError(service: Service, shape: Shape, outcome: Outcome, customers: Set<number>): Promise<string> {
  const input = JSON.stringify({
    shape: { ...shape, baseNs: `${shape.baseNs}`, stepNs: `${shape.stepNs}` },
    vmsPerCustomer,
    batches: outcome.acknowledged.map(job => [job.vm, job.batch]),
  })
  const oracle = spawnSync(process.execPath, [fileURLToPath(new URL('./oracle.ts', import.meta.url))], {
    input,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  })
  if (oracle.status !== 0) throw new Error(`the oracle failed: ${oracle.stderr}`)
  const truth: Record<string, Record<string, string>> = JSON.parse(oracle.stdout)
  const from = new Date(Number((shape.baseNs - 60_000_000_000n) / 1_000_000n)).toISOString()
  const to = new Date(Number((shape.baseNs + 86_400_000_000_000n) / 1_000_000n)).toISOString()
  let worst = 0
  for (const customer of customers) {
    const billed = await usage(service, `customer-${customer}`, `?wait=30s&from=${from}&to=${to}`)
    for (const [meter, text] of Object.entries(truth[`customer-${customer}`] ?? {})) {
      const [mine, right] = [billed?.[meter] ?? 0n, BigInt(text)]
      if (mine === right) continue
      hasFailed = true
      worst = Math.max(worst, Math.abs(Number(((mine - right) * 1_000_000n) / (right === 0n ? 1n : right)) / 10_000))
      console.error(`  customer-${customer} ${meter}: billed ${mine}, true ${right}`)
    }
  }
  return hasFailed ? `FAILED ${worst.toFixed(4)} %` : '0'
}

function print(
  name: string,
  { latenciesMs, refused }: Outcome,
  o: {
    samplesPerS: number
    rate: number
    foldedPerS: number
    rssMib: number
    cpuS: number
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
      o.cpuS.toFixed(1).padStart(6),
      o.bytesPerSample.toFixed(1).padStart(13),
      o.error.padStart(14),
    ].join(' '),
  )
  if (refused.size > 0)
    console.log(`  not acknowledged: ${[...refused].map(([status, n]) => `${n} × ${status}`).join(', ')}`)
}

function at(sorted: readonly number[], share: number): string {
  return (sorted[Math.floor(sorted.length * share)] ?? 0).toFixed(1)
}

function memoryMib({ child }: Service): number {
  const status = readFileSync(`/proc/${child.pid}/status`, 'utf8')
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024
}

function cpuSeconds({ child }: Service): number {
  const fields = readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  return (Number(fields[11]) + Number(fields[12])) / 100
}
