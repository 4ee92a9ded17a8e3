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
import type { Sample } from '../samples/sample.ts'
import { runs } from '../test/long.ts'
import { defaultRules } from '../usage/fold.ts'
import { touchesOfFacts, writeFacts } from './facts.ts'
import { drainOne } from './fold-queue.ts'
import type { PartReader } from './parts.ts'
import { joinReplicas } from './replica.ts'
import { createRunningUsage } from './running.ts'
import { loadVmUsage } from './usage.ts'

const second = 1_000_000_000n
const minute = 60n * second
const hourNs = 60n * minute
const epochHour = 497_000
const epochNs = BigInt(epochHour) * hourNs

/** What a VM does next: mostly it goes on; now and then it is late, starts anew, is stopped or told of by hosts. */
const move = fc.record({
  vm: fc.constantFrom('vm-1', 'vm-1', 'vm-2', 'vm-3'),
  customerId: fc.constantFrom('acme', 'acme', 'acme', 'acme', 'acme', 'globex'),
  what: fc.constantFrom(
    'on',
    'on',
    'on',
    'on',
    'on',
    'late',
    'again',
    'reset',
    'start',
    'stop',
    'gap',
    'listed',
    'listed',
  ),
  count: fc.constantFrom(1, 3, 20, 40, 90),
  spacing: fc.constantFrom(1n, 10n, 60n, 300n),
  host: fc.constantFrom('h1', 'h1', 'h1', 'h2'),
  pause: fc.constantFrom(0n, 0n, 0n, 200n, 4_000n),
  /** Through the other replica. */
  isOthers: fc.boolean(),
  isAsked: fc.boolean(),
  isFolded: fc.boolean(),
})

type Move = typeof move extends fc.Arbitrary<infer M> ? M : never

const on = {
  customerId: 'acme',
  what: 'on',
  host: 'h1',
  pause: 0n,
  isOthers: false,
  isAsked: false,
  isFolded: false,
} as const
/** A span is asked for that ends at a VM's last reading. */
const lastReadAtTheEnd: [Move[], number[], boolean] = [
  [
    { ...on, vm: 'vm-1', count: 3, spacing: 300n },
    { ...on, vm: 'vm-1', count: 90, spacing: 1n },
    { ...on, vm: 'vm-3', count: 3, spacing: 300n, isAsked: true },
  ],
  [],
  false,
]

test('what is kept of a running period is the fold of all there is, whatever comes next, late, twice or by another replica', async t => {
  const { sql } = await testDatabase(t)
  const { log } = testBase(t)
  await migrate(sql, { schema: 'billaged', folder: new URL('../migrations/', import.meta.url), log })
  const plain: PartReader = { sql, onCorruptPart: error => assert.fail(error) }
  const replicas = [randomUUID(), randomUUID()]
  let position = 0
  await fc.assert(
    fc.asyncProperty(
      fc.array(move, { minLength: 3, maxLength: 14 }),
      fc.uniqueArray(fc.nat(3), { maxLength: 2 }),
      fc.boolean(),
      async (moves, cuts, hasOthers) => {
        await empty(sql, replicas)
        const running = createRunningUsage({ replica: replicas[0] ?? '', nowNs: () => 0n })
        const clocks = new Map<string, { at: bigint; cpu: bigint; last: Fact[] }>()
        let latest = epochNs
        for (const m of moves) {
          const key = `${m.customerId} ${m.vm}`
          const clock = clocks.get(key) ?? { at: epochNs + 20n * minute, cpu: 5n, last: [] }
          clocks.set(key, clock)
          const facts = factsOf(m, clock)
          clock.last = facts
          if (clock.at > latest) latest = clock.at
          const isOthers = hasOthers && m.isOthers
          await writeFacts(sql, facts, {
            replica: replicas[isOthers ? 1 : 0] ?? '',
            position: { segment: randomUUID(), offset: ++position },
            meters: builtInMeters,
            leaseNs: defaultRules.leaseNs,
          })
          if (!isOthers) running.touched(touchesOfFacts(facts))
          if (m.isFolded) await drain(plain)
          if (!m.isAsked) continue
          const inner = cuts.toSorted().map(cut => epochNs + BigInt(cut) * hourNs)
          for (const toNs of [latest + hourNs, latest - 90n * second]) {
            const edges = [...new Set([epochNs - hourNs, ...inner]), toNs]
            if (edges.some((edge, i) => edge <= (edges[i - 1] ?? 0n))) continue
            const kept = await loadVmUsage({ ...plain, running }, 'acme', edges, defaultRules)
            assert.deepEqual(
              kept.filter(isUsed),
              (await loadVmUsage(plain, 'acme', edges, defaultRules)).filter(isUsed),
            )
          }
        }
      },
    ),
    { numRuns: runs(12, 400), examples: [lastReadAtTheEnd] },
  )
})

function factsOf(
  m: { vm: string; customerId: string; what: string; count: number; spacing: bigint; host: string; pause: bigint },
  clock: { at: bigint; cpu: bigint; last: Fact[] },
): Fact[] {
  const of = { customerId: m.customerId, vmId: m.vm }
  if (m.what === 'again') return clock.last
  if (m.what === 'listed') {
    clock.at += m.pause * second
    return [{ kind: 'heartbeat', instanceId: m.host, atNs: clock.at + 1n, vmIds: ['vm-1', m.vm] }]
  }
  if (m.what === 'start' || m.what === 'stop' || m.what === 'gap') {
    clock.at += minute
    if (m.what === 'start') clock.cpu = 0n
    const customerId = m.count === 3 && m.what !== 'start' ? null : m.customerId
    const untilNs = m.what === 'gap' ? clock.at + minute : null
    return [{ kind: 'mark', vmId: m.vm, customerId, mark: m.what, atNs: clock.at, untilNs }]
  }
  clock.at += m.pause * second
  if (m.what === 'reset') clock.cpu = 0n
  const isLate = m.what === 'late'
  const samples = Array.from({ length: m.count }, (_, i): Sample => {
    if (!isLate) clock.at += m.spacing * second
    clock.cpu += 7n
    const atNs = isLate ? clock.at - 40n * minute + BigInt(i) * second : clock.at
    const rest = { diskReadBytes: 1n, diskWriteBytes: 0n, netRxBytes: clock.cpu, netTxBytes: 0n }
    return { atNs, cpuNs: clock.cpu, memoryBytes: BigInt(i % 5), ...rest }
  })
  return encodeParts(samples).map(part => ({ kind: 'samples', ...of, part }))
}

async function drain(reader: PartReader) {
  const nowMs = Number((epochNs + 900n * hourNs) / 1_000_000n)
  for (let i = 0; i < 10; i++)
    if (!(await drainOne(reader, defaultRules, { beforeHour: epochHour + 800, nowMs, customerId: 'acme' }))) return
}

async function empty(sql: Sql, replicas: readonly string[]) {
  await sql`truncate billaged.sample_part, billaged.series, billaged.vm_mark, billaged.vm_lease, billaged.usage_hour,
    billaged.fold_queue, billaged.customer, billaged.journal_checkpoint cascade`
  for (const replica of replicas) await joinReplicas(sql, replica)
}

const isUsed = ({ peaks, cells }: { peaks: readonly bigint[]; cells: readonly object[] }) =>
  peaks.some(n => n > 0n) ||
  cells.some(cell => Object.values(cell).some(kinds => Object.values(kinds as object).some(n => n !== 0n)))
