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
import { defaultRules } from '../usage/fold.ts'
import { listVms, loadSampleConflicts } from './conflicts.ts'
import { listCustomers } from './customers.ts'
import { writeFacts } from './facts.ts'
import { drainOne } from './fold-queue.ts'
import { firstBillable, touchesPeriod } from './gate.ts'
import type { PartReader } from './parts.ts'
import { joinReplicas } from './replica.ts'
import { findSeries } from './series.ts'
import { loadVmUsage } from './usage.ts'
import { loadVmReport } from './vm-report.ts'

const second = 1_000_000_000n
const minute = 60n * second
const hourNs = 60n * minute
const epochHour = 497_000
const epochNs = BigInt(epochHour) * hourNs
const hours = 5
const customers = ['acme', 'globex']
const vmIds = ['vm-1', 'vm-2', 'shared']

/** Of acme's or globex's own VM, or of one name that both use. */
const vm = fc.constantFrom(
  { customerId: 'acme', vmId: 'vm-1' },
  { customerId: 'acme', vmId: 'vm-1' },
  { customerId: 'globex', vmId: 'vm-2' },
  { customerId: 'acme', vmId: 'shared' },
  { customerId: 'globex', vmId: 'shared' },
)
/** Half minutes, so that starts, stops and readings often meet at one instant. */
const instant = fc.nat(2 * 60 * (hours - 1)).map(n => epochNs + BigInt(n) * 30n * second)

const fact: fc.Arbitrary<Fact[]> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc
      .tuple(vm, instant, fc.constantFrom(1, 2, 6, 30), fc.constantFrom(10n, 60n, 150n), fc.nat(3))
      .map(([of, fromNs, count, spacing, disk]): Fact[] =>
        encodeParts(
          Array.from({ length: count }, (_, i) => {
            const atNs = fromNs + BigInt(i) * spacing * second
            // One counter runs on through all readings; the other makes conflicts and falls.
            const rest = { diskReadBytes: BigInt(disk), diskWriteBytes: 0n, netRxBytes: 1n, netTxBytes: 0n }
            return { atNs, cpuNs: (atNs - epochNs) / 7n + 1n, memoryBytes: BigInt(i % 5), ...rest }
          }),
        ).map(part => ({ kind: 'samples', ...of, part })),
      ),
  },
  {
    weight: 4,
    arbitrary: fc
      .tuple(vm, fc.constantFrom('start', 'start', 'stop', 'gap'), instant, fc.boolean())
      .map(([of, mark, atNs, isNobodys]): Fact[] => {
        const customerId = isNobodys && mark !== 'start' ? null : of.customerId
        const untilNs = mark === 'gap' ? atNs + 10n * minute : null
        return [{ kind: 'mark', customerId, vmId: of.vmId, mark, atNs, untilNs }]
      }),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(fc.constantFrom('h1', 'h1', 'h2'), instant, fc.uniqueArray(fc.constantFrom(...vmIds), { minLength: 1 }))
      .map(([instanceId, atNs, listed]): Fact[] => [{ kind: 'heartbeat', instanceId, atNs, vmIds: listed }]),
  },
)

test('usage, lives, gaps, conflicts and what a close asks are the same in whatever order facts arrive, however they are cut, at whichever replica, kept by the hour or not', async t => {
  const { sql } = await testDatabase(t)
  const { log } = testBase(t)
  await migrate(sql, { schema: 'billaged', folder: new URL('../migrations/', import.meta.url), log })
  const reader: PartReader = { sql, onCorruptPart: error => assert.fail(error) }
  const replicas = [randomUUID(), randomUUID()]
  const write = (facts: readonly Fact[], replica = 0) =>
    writeFacts(sql, facts, {
      replica: replicas[replica] ?? '',
      position: { segment: randomUUID(), offset: 8 },
      meters: builtInMeters,
      leaseNs: defaultRules.leaseNs,
    })
  await fc.assert(
    fc.asyncProperty(
      fc.array(fact, { minLength: 2, maxLength: 16 }),
      fc.infiniteStream(fc.nat(999)),
      async (story, dice) => {
        const facts = story.flat()
        const roll = () => dice.next().value ?? 0
        await empty(sql, replicas)
        await write(facts)
        const expected = await everyRead(reader)
        await empty(sql, replicas)
        const again = [...facts, ...facts.filter(() => roll() < 200)]
          .map(f => ({ f, order: roll() }))
          .toSorted((a, b) => a.order - b.order)
          .map(({ f }) => f)
        for (let at = 0; at < again.length; ) {
          const next = at + 1 + (roll() % 6)
          await write(again.slice(at, next), roll() % 2)
          if (roll() < 300) await drain(reader)
          at = next
        }
        assert.deepEqual(await everyRead(reader), expected)
        // A close never passes over an hour with usage in it.
        for (const { usage, touches } of expected.of)
          for (const [hour, isTouched] of touches.entries())
            if (usage[0]?.some(({ cells }) => isUsed(cells[hour]))) assert.ok(isTouched, `hour ${hour - 2}`)
        await drain(reader)
        assert.deepEqual(await everyRead(reader), expected)
      },
    ),
    { numRuns: runs(15, 120) },
  )
})

async function everyRead(reader: PartReader) {
  const { sql } = reader
  const at = (n: number) => epochNs + BigInt(n) * hourNs
  const spans = [
    { fromNs: at(-2), toNs: at(hours + 1) },
    { fromNs: at(1), toNs: at(2) },
    { fromNs: at(1) + 17n * minute, toNs: at(3) - 7n * second },
    { fromNs: at(hours), toNs: at(hours + 2) },
  ]
  const nowNs = at(hours + 1)
  const of = async (customerId: string) => ({
    usage: [
      await loadVmUsage(reader, customerId, [-2, -1, 0, 1, 2, 3, 4, 5, 6].map(at), defaultRules),
      ...(await inTurn(spans, s => loadVmUsage(reader, customerId, [s.fromNs, s.toNs], defaultRules))),
    ],
    lives: await inTurn(spans, span =>
      inTurn(vmIds, vmId => loadVmReport(reader, { customerId, vmId, ...span, rules: defaultRules, nowNs })),
    ),
    conflicts: await inTurn(vmIds, vmId =>
      loadSampleConflicts(reader, { customerId, vmId, fromNs: at(-2), toNs: nowNs, nowNs, rules: defaultRules }),
    ),
    touches: await inTurn([-2, -1, 0, 1, 2, 3, 4, 5, 6], hour =>
      touchesPeriod(sql, customerId, { from: epochHour + hour, to: epochHour + hour + 1 }),
    ),
    first: await firstBillable(sql, customerId),
    found: await inTurn(spans, async ({ fromNs, toNs }) =>
      (await findSeries(sql, customerId, fromNs, toNs, 10)).map(({ seriesId: _, ...found }) => found),
    ),
  })
  return {
    of: await inTurn(customers, of),
    vms: await inTurn(spans, span => listVms(sql, { customerId: null, after: null, limit: 10, ...span })),
    customers: (await listCustomers(sql, { after: '', limit: 10, only: null, now: new Date(0) })).map(
      ({ id, vms }) => ({ id, vms }),
    ),
  }
}

function isUsed(cell: object | undefined): boolean {
  return Object.values(cell ?? {}).some(kinds => Object.values(Object(kinds)).some(n => n !== 0n))
}

async function inTurn<T, R>(list: readonly T[], ask: (one: T) => Promise<R>): Promise<R[]> {
  const answers: R[] = []
  for (const one of list) answers.push(await ask(one))
  return answers
}

async function drain(reader: PartReader) {
  const nowMs = Number((epochNs + 900n * hourNs) / 1_000_000n)
  for (let i = 0; i < 10; i++)
    if (!(await drainOne(reader, defaultRules, { beforeHour: epochHour + 800, nowMs }))) return
}

async function empty(sql: Sql, replicas: readonly string[]) {
  await sql`truncate billaged.sample_part, billaged.series, billaged.vm_mark, billaged.vm_lease, billaged.usage_hour,
    billaged.fold_queue, billaged.customer, billaged.journal_checkpoint cascade`
  for (const replica of replicas) await joinReplicas(sql, replica)
}
