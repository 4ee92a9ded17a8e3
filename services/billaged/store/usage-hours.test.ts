import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import test from 'node:test'
import fc from 'fast-check'
import { migrate, type Sql } from '#platform/postgres'
import { testBase } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import { builtInMeters } from '../events/meter.ts'
import type { Fact } from '../intake/record.ts'
import { encodeParts } from '../samples/part.ts'
import { runs } from '../test/long.ts'
import { defaultRules, type FoldRules } from '../usage/fold.ts'
import { writeFacts } from './facts.ts'
import { adoptRules, drainOne } from './fold-queue.ts'
import { foldSpans } from './fold-spans.ts'
import type { PartReader } from './parts.ts'
import { joinReplicas } from './replica.ts'
import { loadVmUsage } from './usage.ts'
import { verifyHours } from './verify-hours.ts'

const minute = 60_000_000_000n
const hourNs = 60n * minute
const epochHour = 497_000
const epochNs = BigInt(epochHour) * hourNs
const hours = 60

const vm = fc.constantFrom('vm-1', 'vm-1', 'vm-2')
const customer = fc.constantFrom('acme', 'acme', 'acme', 'globex')

/** Readings of a stretch of an afternoon, marks, heartbeats: days of them, in no order. */
const fact: fc.Arbitrary<Fact[]> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .tuple(customer, vm, fc.nat(hours * 60), fc.constantFrom(1, 1, 5, 20), fc.nat(120), fc.nat(99))
      .map(([customerId, vmId, from, step, count, level]): Fact[] => {
        const samples = Array.from({ length: count + 1 }, (_, i) => {
          const at = from + i * step
          const cpuNs = BigInt(at * 1_000 + (level === 0 ? 0 : 7_000_000))
          const rest = { diskReadBytes: 1n, diskWriteBytes: BigInt(level), netRxBytes: cpuNs, netTxBytes: 0n }
          return { atNs: epochNs + BigInt(at) * minute, cpuNs, memoryBytes: BigInt(level), ...rest }
        })
        return encodeParts(samples).map(part => ({ kind: 'samples', customerId, vmId, part }))
      }),
  },
  fc
    .tuple(fc.option(customer), vm, fc.constantFrom('start', 'stop', 'gap'), fc.nat(hours * 60))
    .map(([customerId, vmId, mark, at]): Fact[] => {
      const atNs = epochNs + BigInt(at) * minute + 1n
      return [{ kind: 'mark', customerId, vmId, mark, atNs, untilNs: mark === 'gap' ? atNs + 3n * minute : null }]
    }),
  fc.tuple(fc.constantFrom('h1', 'h2'), fc.nat(hours * 60), fc.nat(50)).map(([instanceId, from, count]): Fact[] =>
    Array.from({ length: count }, (_, i) => {
      return { kind: 'heartbeat', instanceId, atNs: epochNs + BigInt(from + i) * minute, vmIds: ['vm-1', 'vm-2'] }
    }),
  ),
)

/** A day's every hour can only be kept where readings lie on both sides of it: chance alone draws that too rarely. */
const threeDays: Fact[] = encodeParts(
  Array.from({ length: hours * 2 + 1 }, (_, half) => {
    const rest = { diskReadBytes: 0n, diskWriteBytes: 0n, netRxBytes: 0n, netTxBytes: 0n }
    return { atNs: epochNs + BigInt(half) * 30n * minute, cpuNs: BigInt(half) * 5_000n, memoryBytes: 7n, ...rest }
  }),
).map(part => ({ kind: 'samples', customerId: 'acme', vmId: 'vm-3', part }))

async function open(sql: Sql, t: test.TestContext) {
  const { log } = testBase(t)
  await migrate(sql, { schema: 'billaged', folder: new URL('../migrations/', import.meta.url), log })
  const reader: PartReader = { sql, onCorruptPart: error => assert.fail(error) }
  const replicas = [randomUUID(), randomUUID()]
  const write = (facts: readonly Fact[], replica: number) =>
    writeFacts(sql, facts, {
      replica: replicas[replica] ?? '',
      position: { segment: randomUUID(), offset: 8 },
      meters: builtInMeters,
      leaseNs: defaultRules.leaseNs,
    })
  const drain = async (o: { customerId?: string; nowMs?: number } = {}) => {
    const nowMs = o.nowMs ?? Number((epochNs + BigInt(hours + 40) * hourNs) / 1_000_000n)
    const of = o.customerId === undefined ? {} : { customerId: o.customerId }
    await sql`update billaged.fold_queue set not_before = now() - interval '1 hour' where not_before > now()`
    for (let i = 0; i < 40; i++)
      if (!(await drainOne(reader, defaultRules, { beforeHour: epochHour + hours + 30, nowMs, ...of }))) return
  }
  return { reader, replicas, write, drain }
}

async function empty(sql: Sql, replicas: readonly string[]) {
  await sql`truncate billaged.sample_part, billaged.series, billaged.vm_mark, billaged.vm_lease, billaged.usage_hour,
    billaged.fold_queue, billaged.customer cascade`
  for (const replica of replicas) await joinReplicas(sql, replica)
}

/** Of every customer: what its usage is when nothing is cached. */
async function fromSamples(reader: PartReader, customerId: string, edges: readonly bigint[]) {
  const series = await reader.sql<{ seriesId: bigint; vmId: string }[]>`
    select series_id as "seriesId", vm_id as "vmId" from billaged.series where customer_id = ${customerId} order by vm_id`
  const usage = []
  for (const { seriesId, vmId } of series) {
    const { cells, peaks } = await foldSpans(
      reader,
      { customerId, seriesId, vmId },
      edges,
      defaultRules,
      'sample by sample',
    )
    usage.push({ vmId, cells, peaks })
  }
  return usage
}

const isUsed = ({ peaks, cells }: { peaks: readonly bigint[]; cells: readonly object[] }) =>
  peaks.some(n => n > 0n) ||
  cells.some(cell => Object.values(cell).some(kinds => Object.values(kinds as object).some(n => n !== 0n)))

test('the hours that are kept are the fold, whatever is written when, by whom, and whoever folds beside it', async t => {
  const { sql } = await testDatabase(t)
  const { reader, replicas, write, drain } = await open(sql, t)
  let kept = 0
  let days = 0
  await fc.assert(
    fc.asyncProperty(
      fc.array(fact, { minLength: 4, maxLength: 16 }),
      fc.infiniteStream(fc.nat(999)),
      fc.uniqueArray(fc.nat(hours), { maxLength: 4 }),
      fc.nat(3_599_999),
      async (list, dice, cuts, ms) => {
        const roll = () => dice.next().value ?? 0
        await empty(sql, replicas)
        const facts = [...threeDays, ...list.flat()].map(f => ({ f, order: roll() }))
        facts.sort((a, b) => a.order - b.order)
        const batches = [0, 1, 2, 3].map(n => facts.filter((_, i) => i % 4 === n).map(({ f }) => f))
        for (const [i, batch] of batches.entries()) {
          // One replica writes, the other does too or folds, and the queue is folded by whoever has time.
          await Promise.all([write(batch, i % 2), roll() < 500 ? drain() : write(batches[0] ?? [], 1 - (i % 2))])
          if (roll() < 600) await Promise.all([drain(), drain({ nowMs: 0 })])
        }
        await drain()
        const inner = cuts.toSorted((a, b) => a - b).map(cut => epochNs + BigInt(cut) * hourNs)
        const from = epochNs - 5n * hourNs + BigInt(ms) * 1_000_000n
        const edges = [from, ...inner.filter(edge => edge > from), epochNs + BigInt(hours + 20) * hourNs + 1n]
        for (const customerId of ['acme', 'globex'])
          assert.deepEqual(
            (await loadVmUsage(reader, customerId, edges, defaultRules)).filter(isUsed),
            (await fromSamples(reader, customerId, edges)).filter(isUsed),
          )
        assert.deepEqual((await verifyHours(reader, defaultRules)).problems, [])
        const [row] = await sql<{ n: number; days: number }[]>`
          select (select count(*)::int4 from billaged.usage_hour) as n, (select count(*)::int4 from billaged.usage_day) as days`
        kept += row?.n ?? 0
        days += row?.days ?? 0
      },
    ),
    { numRuns: runs(8, 60) },
  )
  assert.ok(kept > 0, 'no hour was ever kept')
  assert.ok(days > 0, 'no day was ever kept')
})

test('hours folded by other rules are folded again, and a replica that still has those keeps none', async t => {
  const { sql } = await testDatabase(t)
  const { reader, replicas, write, drain } = await open(sql, t)
  await empty(sql, replicas)
  await adoptRules(sql, defaultRules)
  const at = (n: number) => epochNs + BigInt(n) * 3n * minute
  const samples = Array.from({ length: 60 }, (_, i) => {
    const rest = { memoryBytes: 1n, diskReadBytes: 0n, diskWriteBytes: 0n, netRxBytes: 0n, netTxBytes: 0n }
    return { atNs: at(i < 30 ? i : i + 3), cpuNs: BigInt(i) * 100n, ...rest }
  })
  await write(
    encodeParts(samples).map((part): Fact => ({ kind: 'samples', customerId: 'acme', vmId: 'vm-1', part })),
    0,
  )
  await drain()
  const edges = [epochNs, epochNs + BigInt(hours) * hourNs]
  const usage = async (rules: FoldRules) => (await loadVmUsage(reader, 'acme', edges, rules))[0]?.cells[0]?.cpuNs
  const count = async () => (await sql`select 1 from billaged.usage_hour`).count
  const [before, kept] = [await usage(defaultRules), await count()]
  assert.equal(before?.longGap, 100n)
  assert.ok(kept > 3)
  const other = { ...defaultRules, minGapNs: 20n * minute }
  await adoptRules(sql, other)
  assert.equal(await count(), 0)
  assert.deepEqual(await usage(other), { ...before, measured: 5_900n, longGap: 0n })
  // This replica was not told.
  await drain()
  assert.equal(await count(), 0)
  await adoptRules(sql, other)
  await adoptRules(sql, defaultRules)
  await drain()
  assert.equal(await count(), kept)
  assert.deepEqual(await usage(defaultRules), before)
})
