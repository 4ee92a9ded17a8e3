import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import type { Reading } from '../samples/reading.ts'
import { createCells } from './cells.ts'
import { defaultRules, startFold } from './fold.ts'
import { type Hosts, withoutHost } from './hosts.ts'
import { ledgerOf } from './quantity.ts'

const second = 1_000_000_000n

interface Story {
  /** Seconds, and the CPU counter there (or one that rises by itself). */
  readings?: (bigint | [bigint, bigint])[]
  starts?: bigint[]
  stops?: bigint[]
  /** Host → seconds at which it listed the VM. */
  listings?: Record<string, bigint[]>
  nowS?: bigint
}

function tell(story: Story) {
  const ns = (times: readonly bigint[] = []) => times.map(s => s * second)
  const { readings = [], listings = {} } = story
  const ofEach = Object.values(listings).map(times => times.map(s => ({ fromNs: s * second, lastNs: s * second })))
  const listed = Object.values(listings)
    .flat()
    .toSorted((a, b) => Number(a - b))
  const hosts: Hosts = {
    leaseNs: defaultRules.leaseNs,
    runs: listed.map(s => ({ fromNs: s * second, lastNs: s * second })),
    ofEach,
    firstListedNs: listed[0] === undefined ? null : listed[0] * second,
  }
  const { cells, add } = createCells([0n, 1_000_000n * second])
  const fold = startFold(
    {
      marks: { starts: ns(story.starts), stops: ns(story.stops), gaps: [] },
      hosts,
      rules: defaultRules,
      isContinued: false,
    },
    add,
  )
  for (const [i, reading] of readings.entries()) {
    const [at, cpuNs] = typeof reading === 'bigint' ? [reading, BigInt(i)] : reading
    const zero = { diskReadBytes: 0n, diskWriteBytes: 0n, netRxBytes: 0n, netTxBytes: 0n }
    const low = { atNs: at * second, cpuNs, memoryBytes: 1n, ...zero }
    fold.push({ atNs: at * second, low, high: low, variants: 1 } satisfies Reading)
  }
  const { lives } = fold.finish(story.nowS === undefined ? undefined : story.nowS * second)
  const [cell] = cells
  if (cell === undefined) throw new Error('BUG: two edges make one cell')
  const { measuredNs, unmeasuredNs, hostDownNs, disputedNs } = ledgerOf(cell, 'zero')
  return {
    lives: lives.map(l => `${l.startNs / second}–${l.stopNs === null ? '' : l.stopNs / second} ${l.endBy}`),
    aliveS: cell.aliveNs.measured / second,
    ledger: {
      measured: measuredNs / second,
      unmeasured: unmeasuredNs / second,
      hostDown: hostDownNs / second,
      disputed: disputedNs / second,
    },
  }
}

const every = (step: bigint, from: bigint, to: bigint) =>
  Array.from({ length: Number((to - from) / step) + 1 }, (_, i) => from + BigInt(i) * step)

test('G20: a life begins at a start mark or first reading and ends at its stop mark or last evidence; readings outside the marks count, and only marks decide lives', () => {
  const lives = (story: Story) => tell(story).lives
  assert.deepEqual(lives({ nowS: 1000n }), [])
  assert.deepEqual(lives({ readings: [10n, 20n, 30n], nowS: 100n }), ['10– open'])
  assert.deepEqual(lives({ readings: [10n, 20n, 30n], nowS: 1000n }), ['10–30 lease'])
  assert.deepEqual(lives({ readings: [10n, 20n], listings: { h: [30n, 90n] }, nowS: 1000n }), ['10–90 lease'])
  assert.deepEqual(lives({ readings: [10n, 20n], listings: { h: every(60n, 30n, 930n) }, nowS: 1000n }), ['10– open'])
  assert.deepEqual(lives({ starts: [5n], readings: [10n, 20n], stops: [25n], nowS: 1000n }), ['5–25 stop'])
  // Two lives, the first one stopped; and a first one that just fell silent, whose counter began anew.
  assert.deepEqual(lives({ starts: [5n, 100n], readings: [10n, 110n], stops: [25n], nowS: 200n }), [
    '5–25 stop',
    '100– open',
  ])
  assert.deepEqual(
    lives({
      starts: [5n, 100n],
      readings: [
        [10n, 9n],
        [110n, 3n],
      ],
      nowS: 1000n,
    }),
    ['5–10 lease', '100–110 lease'],
  )
  // A notice repeated while the counter ran on begins nothing, nor does one with nothing until the next.
  assert.deepEqual(
    lives({
      starts: [5n, 100n],
      readings: [
        [10n, 3n],
        [110n, 9n],
      ],
      nowS: 1000n,
    }),
    ['5–110 lease'],
  )
  assert.deepEqual(lives({ starts: [5n, 6n], readings: [10n], nowS: 20n }), ['6– open'])
  // Started and stopped, and never read: a life all the same. A listing begins none.
  assert.deepEqual(lives({ starts: [5n], stops: [50n], listings: { h: [60n] } }), ['5–50 stop'])
  // Clocks disagree: what is read behind the stop is billed, and is a life of its own.
  const late = tell({ starts: [0n], stops: [95n], readings: every(10n, 10n, 110n) })
  assert.deepEqual(late.lives, ['0–95 stop', '100–110 lease'])
  const { cells, add } = createCells([0n, 200n * second])
  const fold = startFold(
    { marks: { starts: [0n], stops: [95n * second], gaps: [] }, rules: defaultRules, isContinued: false },
    add,
  )
  for (const at of every(10n, 10n, 110n)) {
    const low = {
      atNs: at * second,
      cpuNs: at,
      memoryBytes: 0n,
      diskReadBytes: 0n,
      diskWriteBytes: 0n,
      netRxBytes: 0n,
      netTxBytes: 0n,
    }
    fold.push({ atNs: at * second, low, high: low, variants: 1 })
  }
  fold.finish()
  assert.equal(cells[0]?.cpuNs.measured, 110n)
})

test('G22: alive between evidence no further apart than max(G, lease), between readings without a fall, and up to the stop of a VM no heartbeat ever listed', () => {
  const alive = (story: Story) => tell(story).aliveS
  assert.equal(alive({ starts: [0n], readings: [100n, 160n], stops: [200n] }), 200n)
  // From a start to the first reading: three spacings of a minute are believed, and no second more.
  assert.equal(alive({ starts: [0n], readings: [180n, 240n] }), 240n)
  assert.equal(alive({ starts: [0n], readings: [181n, 241n] }), 60n)
  // A slow sender is believed longer: three of its spacings.
  assert.equal(alive({ readings: [...every(300n, 0n, 3_000n)], listings: { h: [3_900n] } }), 3_900n)
  assert.equal(alive({ readings: [...every(300n, 0n, 3_000n)], listings: { h: [3_901n] } }), 3_000n)
  // Silence between two readings whose counter ran on: it evidently ran, listed or not. With a fall it did not.
  assert.equal(alive({ readings: [0n, 60n, 9_000n] }), 9_000n)
  assert.equal(alive({ readings: [0n, 60n, 9_000n], listings: { h: [0n, 60n, 8_900n] } }), 9_000n)
  assert.equal(
    alive({
      readings: [
        [0n, 50n],
        [60n, 60n],
        [9_000n, 5n],
        [9_060n, 6n],
      ],
    }),
    120n,
  )
  // Never listed: up to its stop notice. Listed: its host fell silent and closed it at the last heartbeat.
  assert.equal(alive({ readings: [0n, 60n], stops: [5_000n] }), 5_000n)
  assert.equal(alive({ readings: [0n, 60n], stops: [5_000n], listings: { h: [0n, 60n, 120n] } }), 120n)
  assert.equal(alive({ readings: [0n, 60n], stops: [5_000n], listings: { h: [6_000n] } }), 5_000n)
  // One omitted listing changes nothing; two do.
  const minutes = every(60n, 0n, 600n)
  assert.equal(alive({ readings: [0n], listings: { h: minutes } }), 600n)
  assert.equal(alive({ readings: [0n], listings: { h: minutes.filter(s => s !== 300n) } }), 600n)
  assert.equal(alive({ readings: [0n], listings: { h: minutes.filter(s => s !== 300n && s !== 360n) } }), 420n)
  // Between a stop and the next start nothing is alive, however near they are.
  assert.equal(alive({ starts: [0n, 130n], readings: [60n, 190n], stops: [100n] }), 160n)
  // Heartbeats and marks alone: alive without a single reading.
  assert.equal(alive({ starts: [0n], stops: [240n], listings: { h: [60n, 120n, 180n] } }), 240n)
})

test('G23: measured, unmeasured, host_down and disputed time is the lives, each nanosecond once; tails are in it, and late samples shrink gaps', () => {
  const ledger = (story: Story) => tell(story).ledger
  const nothing = { measured: 0n, unmeasured: 0n, hostDown: 0n, disputed: 0n }
  // Head before an unbelievable first reading, pairs, and the tail up to the stop.
  assert.deepEqual(ledger({ starts: [0n], readings: [60n, 120n], stops: [150n] }), {
    ...nothing,
    measured: 120n,
    unmeasured: 30n,
  })
  // A gap of which the host saw the first lease and the last minute.
  const cut = { readings: [0n, 60n, 1_260n, 1_320n], listings: { h: [0n, 60n, 1_200n, 1_260n] } }
  assert.deepEqual(ledger(cut), { ...nothing, measured: 120n, unmeasured: 180n, hostDown: 1_020n })
  // The tail that heartbeats alone draw out: listed, not read.
  assert.deepEqual(ledger({ readings: [0n, 60n], listings: { h: every(60n, 0n, 300n) } }), {
    ...nothing,
    measured: 60n,
    unmeasured: 240n,
  })
  assert.deepEqual(ledger({ readings: [0n, 60n], listings: { h1: [0n, 60n], h2: [60n] } }), {
    ...nothing,
    disputed: 60n,
  })
  // The readings of the gap come late: what was unmeasured is measured, and nothing twice.
  const late = { ...cut, readings: every(60n, 0n, 1_320n) }
  assert.deepEqual(ledger(late), { ...nothing, measured: 1_320n })

  // Any story at all: the ledger is as long as the lives, whatever the policy; what is alive is never more than that.
  const times = fc
    .uniqueArray(fc.bigInt(0n, 400n), { maxLength: 30 })
    .map(list => list.map(t => t * 20n).toSorted((a, b) => Number(a - b)))
  const stories = fc.record({
    readings: times,
    starts: times,
    stops: times,
    h1: times,
    h2: times,
    falls: fc.infiniteStream(fc.nat(9)),
  })
  fc.assert(
    fc.property(stories, ({ readings, starts, stops, h1, h2, falls }) => {
      let cpu = 0n
      const story: Story = {
        readings: readings.map(at => {
          cpu = falls.next().value === 0 ? 0n : cpu + 7n
          return [at, cpu]
        }),
        starts: starts.filter((_, i) => i % 3 === 0),
        stops: stops.filter((_, i) => i % 4 === 0),
        listings: { h1, h2 },
      }
      const told = tell(story)
      const lived = told.lives.reduce((sum, life) => {
        const [from = '0', to = '0'] = life.split(' ')[0]?.split('–') ?? []
        return sum + BigInt(to) - BigInt(from)
      }, 0n)
      const { measured, unmeasured, hostDown, disputed } = told.ledger
      assert.equal(measured + unmeasured + hostDown + disputed, lived)
      assert.ok(told.aliveS <= lived)
    }),
    { numRuns: 500 },
  )
})

test('time without a host is exactly what lies outside every lease, from the first listing on', () => {
  const edges = fc
    .uniqueArray(fc.bigInt(0n, 60n), { maxLength: 10 })
    .map(list => list.toSorted((a, b) => Number(a - b)))
  fc.assert(
    fc.property(edges, fc.bigInt(0n, 60n), fc.bigInt(0n, 60n), fc.bigInt(1n, 5n), (list, a, b, leaseNs) => {
      const runs = list.map(at => ({ fromNs: at, lastNs: at }))
      const hosts = { leaseNs, runs, ofEach: [runs], firstListedNs: list[0] ?? null }
      const [from, to] = a < b ? [a, b] : [b, a]
      const pieces = withoutHost(hosts, from, to)
      for (let t = 0n; t < 60n; t++) {
        const isKnown = hosts.firstListedNs !== null && hosts.firstListedNs <= t
        const isCovered = list.some(at => at <= t && t + 1n <= at + leaseNs)
        const isInside = from <= t && t + 1n <= to
        assert.equal(
          pieces.filter(piece => piece.fromNs <= t && t + 1n <= piece.toNs).length,
          isInside && isKnown && !isCovered ? 1 : 0,
        )
      }
    }),
  )
})
