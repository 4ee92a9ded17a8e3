import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Sql } from '#platform/postgres'
import { batchBody, httpRequest } from './encode.ts'
import { type Job, type Outcome, runLoad } from './load.ts'
import { key, openPeer, type Service, startService, stopService, untilFolded } from './service.ts'
import { whole } from './table.ts'
import { readingOf, type Shape } from './workload.ts'

// The same samples to billaged and to what one would write in an afternoon: a table of samples in PostgreSQL with a unique
// key and a bill by window functions; and a biller of deltas in memory, which is fast and wrong.

const vms = 1_000
const columns = ['cpu', 'memory', 'disk_read', 'disk_write', 'net_rx', 'net_tx'] as const

export async function benchPeers(
  seconds: number,
  errorOf: (service: Service, shape: Shape, outcome: Outcome) => Promise<string>,
): Promise<boolean> {
  const shape: Shape = {
    seed: 5,
    baseNs: BigInt(Math.floor(Date.now() / 60_000)) * 60_000_000_000n - 7_200_000_000_000n,
    stepNs: 100_000_000n,
    samplesPerBatch: 600,
    resetEvery: 0,
  }
  const ours = await measureOurs(shape, seconds, errorOf)
  const theirs = await measureTable(shape, seconds, ours.batches)
  const ratio = (a: number, b: number) => `${(a / b).toFixed(1)} ×`
  console.log(
    `peers: the same ${whole(ours.batches * 600)} samples of ${whole(vms)} VMs, 16 connections, batches of 600, fsync`,
  )
  console.log(
    `  billaged           ${whole(ours.perS)} samples/s durable, ${ours.bytes.toFixed(1)} bytes/sample, bill of all of it ${ours.readMs.toFixed(1)} ms (first ${ours.firstMs.toFixed(1)}), billing error ${ours.error}`,
  )
  console.log(
    `  PostgreSQL table   ${whole(theirs.perS)} samples/s durable, ${theirs.bytes.toFixed(1)} bytes/sample, bill of as much ${theirs.readMs.toFixed(1)} ms (of ${whole(theirs.samples)} samples)`,
  )
  console.log(
    `  billaged : table   ${ratio(ours.perS, theirs.perS)} samples, ${ratio(theirs.bytes, ours.bytes)} smaller, ${ratio(theirs.readMs, ours.readMs)} faster to read`,
  )
  const engine = measureChdb(seconds, ours.batches)
  if (engine !== null) console.log(engine)
  console.log(`  delta biller       ${deltaBiller(shape)}`)
  return ours.error === '0'
}

async function measureOurs(
  shape: Shape,
  seconds: number,
  errorOf: (service: Service, shape: Shape, outcome: Outcome) => Promise<string>,
) {
  const service = await startService()
  const jobs = Array.from({ length: 2_700 * seconds }, (_, i): Job => {
    const [vm, batch] = [i % vms, Math.floor(i / vms)]
    return { vm, batch, samples: 600, request: httpRequest(batchBody(shape, `vm-${vm}`, 'customer-0', vm, batch)) }
  })
  const outcome = await runLoad({ address: service.address, connections: 16, protocol: 'h1', jobs, seconds })
  await untilFolded(service)
  const [size] = await service.sql<{ bytes: number }[]>`
    select pg_total_relation_size('billaged.sample_part')::float8 / (select sum(n) from billaged.sample_part) as bytes`
  const times: number[] = []
  for (let i = 0; i < 11; i++) {
    const startedMs = performance.now()
    const answer = await fetch(`${service.url}/v1/customers/customer-0/usage`, {
      headers: { authorization: `Bearer ${key}` },
    })
    await answer.arrayBuffer()
    times.push(performance.now() - startedMs)
  }
  const [firstMs = 0, ...later] = times
  const error = await errorOf(service, shape, outcome)
  await stopService(service)
  return {
    batches: outcome.acknowledged.length,
    perS: (outcome.acknowledged.length * 600) / outcome.elapsedS,
    bytes: size?.bytes ?? 0,
    firstMs,
    readMs: later.toSorted((a, b) => a - b)[5] ?? 0,
    error,
  }
}

async function measureTable(shape: Shape, seconds: number, batchesWanted: number) {
  const sql = await openPeer(16)
  await sql.unsafe(
    `create table sample (vm text not null, at bigint not null, ${columns.map(c => `${c} bigint not null`).join()}, primary key (vm, at))`,
  )
  const startedMs = performance.now()
  let next = 0
  let done = 0
  const writer = async () => {
    while (performance.now() - startedMs < seconds * 1_000 && next < batchesWanted) {
      const i = next++
      await insert(sql, shape, i % vms, Math.floor(i / vms))
      done++
    }
  }
  await Promise.all(Array.from({ length: 16 }, writer))
  const elapsedS = (performance.now() - startedMs) / 1_000
  const timed = done
  // The bill is of as much as ours is, however long that takes to get in.
  const rest = async () => {
    while (next < batchesWanted && performance.now() - startedMs < 60_000) {
      const i = next++
      await insert(sql, shape, i % vms, Math.floor(i / vms))
      done++
    }
  }
  await Promise.all(Array.from({ length: 16 }, rest))
  await sql.unsafe('vacuum analyze sample')
  const [size] = await sql<
    { bytes: number }[]
  >`select pg_total_relation_size('sample')::float8 / (select count(*) from sample) as bytes`
  const times: number[] = []
  for (let i = 0; i < 3; i++) {
    const readMs = performance.now()
    await sql.unsafe(`
      select sum(greatest(cpu - cpu1, 0)), sum(least(memory, memory1)::numeric * (at - at1)), sum(greatest(disk_read - disk_read1, 0)),
        sum(greatest(disk_write - disk_write1, 0)), sum(greatest(net_rx - net_rx1, 0)), sum(greatest(net_tx - net_tx1, 0))
      from (select *, lag(at) over w as at1, ${columns.map(c => `lag(${c}) over w as ${c}1`).join()} from sample window w as (partition by vm order by at)) s`)
    times.push(performance.now() - readMs)
  }
  await sql.end()
  return {
    samples: done * 600,
    perS: (timed * 600) / elapsedS,
    bytes: size?.bytes ?? 0,
    readMs: times.toSorted((a, b) => a - b)[1] ?? 0,
  }
}

async function insert(sql: Sql, shape: Shape, vm: number, batch: number) {
  const readings = Array.from({ length: shape.samplesPerBatch }, (_, k) =>
    readingOf(shape, vm, batch * shape.samplesPerBatch + k),
  )
  const list = (of: (reading: (typeof readings)[number]) => bigint) => `{${readings.map(of).join()}}`
  const values = columns.map((_, f) => list(({ values }) => values[f] ?? 0n))
  await sql`
    insert into sample select ${`vm-${vm}`}, * from unnest(${list(({ atNs }) => atNs)}::text::int8[], ${values[0] ?? ''}::text::int8[],
      ${values[1] ?? ''}::text::int8[], ${values[2] ?? ''}::text::int8[], ${values[3] ?? ''}::text::int8[], ${values[4] ?? ''}::text::int8[],
      ${values[5] ?? ''}::text::int8[]) on conflict do nothing`
}

/** Null unless BENCH_CHDB names a folder with the Python package, which is no dependency of ours. */
function measureChdb(seconds: number, batches: number): string | null {
  const packages = process.env.BENCH_CHDB
  if (packages === undefined) return null
  const dir = mkdtempSync(join(tmpdir(), 'purser-bench-chdb-'))
  const script = fileURLToPath(new URL('./peer-chdb.py', import.meta.url))
  const args = [script, `${seconds}`, `${vms}`, `${batches}`, dir]
  const run = spawnSync('python3', args, { env: { ...process.env, PYTHONPATH: packages }, encoding: 'utf8' })
  rmSync(dir, { recursive: true, force: true })
  if (run.status !== 0) return `  chdb               did not run: ${run.stderr.slice(-200)}`
  const { perS, bytes, readMs }: { perS: number; bytes: number; readMs: number } = JSON.parse(run.stdout)
  return `  chdb               ${whole(perS)} samples/s durable, ${bytes.toFixed(1)} bytes/sample merged, bill of as much ${readMs.toFixed(1)} ms`
}

/** What most in-house billing is: the last value of each VM in memory, and the difference added. One batch in ten comes twice
 *  and one in ten out of order, as a bad day has it. */
function deltaBiller(clean: Shape): string {
  const shape: Shape = { ...clean, resetEvery: 100 }
  const order: [number, number][] = []
  for (let batch = 0; batch < 10; batch++) for (let vm = 0; vm < 100; vm++) order.push([vm, batch])
  const sent = order.flatMap((one, i) => (i % 10 === 3 ? [one, order[Math.max(0, i - 50)] ?? one] : [one]))
  for (let i = 7; i + 200 < sent.length; i += 10) {
    const [a, b] = [sent[i], sent[i + 200]]
    if (a !== undefined && b !== undefined) [sent[i], sent[i + 200]] = [b, a]
  }
  const batches = sent.map(([vm, batch]) => ({
    vm,
    cpu: Array.from({ length: 600 }, (_, k) => Number(readingOf(shape, vm, batch * 600 + k).values[0] ?? 0n)),
  }))
  const startedMs = performance.now()
  const last = new Map<number, number>()
  let billed = 0
  for (const { vm, cpu } of batches)
    for (const value of cpu) {
      const before = last.get(vm)
      // A counter that fell began anew.
      if (before !== undefined) billed += value >= before ? value - before : value
      last.set(vm, value)
    }
  const perS = (batches.length * 600) / ((performance.now() - startedMs) / 1_000)
  let truth = 0n
  for (let vm = 0; vm < 100; vm++) {
    let base: bigint | null = null
    for (let n = 0; n < 6_000; n++) {
      const value = readingOf(shape, vm, n).values[0] ?? 0n
      if (base !== null && value >= base) truth += value - base
      base = value
    }
  }
  const error = ((billed - Number(truth)) / Number(truth)) * 100
  return `${whole(perS)} samples/s in memory, nothing durable; 10 % twice, 10 % out of order, 1 % resets: CPU off by ${error.toFixed(2)} %`
}
