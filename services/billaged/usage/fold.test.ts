import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { decodePart, encodeParts } from '../samples/part.ts'
import { readingsOf } from '../samples/reading.ts'
import { type CounterField, counterFields, type Sample, sampleSet } from '../samples/sample.ts'
import { runs } from '../test/long.ts'
import { type Cell, createCells } from './cells.ts'
import { contextReadings, isContext } from './context.ts'
import { defaultRules, type Stretch, startFold } from './fold.ts'
import { type Hosts, noHosts, type Run } from './hosts.ts'
import { type Marks, noMarks } from './marks.ts'
import { type OracleInput, oracleStretches, oracleUsage } from './oracle.ts'
import { ledgerOf, quantity } from './quantity.ts'

const second = 1_000_000_000n
const minute = 60n * second
const epoch = 1_780_000_000n * second

const sample = (at: bigint, cpu: bigint, more: Partial<Sample> = {}): Sample => ({
  atNs: epoch + at,
  cpuNs: cpu,
  memoryBytes: 1n,
  diskReadBytes: 0n,
  diskWriteBytes: 0n,
  netRxBytes: 0n,
  netTxBytes: 0n,
  ...more,
})

const ascending = (times: readonly bigint[]) => times.toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0))

function stretchesOf(samples: readonly Sample[], marks: Marks = noMarks, hosts = noHosts, isContinued = false) {
  const out: Stretch[] = []
  const fold = startFold(
    {
      marks: { ...marks, starts: ascending(marks.starts), stops: ascending(marks.stops) },
      hosts,
      rules: defaultRules,
      isContinued,
    },
    stretch => void out.push(stretch),
  )
  for (const reading of readingsOf(sampleSet(samples))) fold.push(reading)
  return { stretches: out, ...fold.finish() }
}

function usage(
  samples: readonly Sample[],
  marks: Marks,
  edges: readonly bigint[],
  hosts = noHosts,
  isContinued = false,
): readonly Cell[] {
  const { cells, add } = createCells(edges)
  for (const stretch of stretchesOf(samples, marks, hosts, isContinued).stretches) add(stretch)
  return cells
}

/** As the store has them: of each host, listings no more than a lease apart are one run. */
function hostsOf(listings: OracleInput['listings']): Hosts {
  const leaseNs = defaultRules.leaseNs
  const runsOf = (times: readonly bigint[]) => {
    const runs: Run[] = []
    for (const atNs of ascending(times)) {
      const last = runs.at(-1)
      if (last !== undefined && atNs - last.lastNs <= leaseNs) last.lastNs = atNs
      else runs.push({ fromNs: atNs, lastNs: atNs })
    }
    return runs
  }
  const byHost = Map.groupBy(listings, ({ host }) => host)
  const all = listings.map(({ atNs }) => atNs)
  return {
    leaseNs,
    runs: runsOf(all),
    ofEach: [...byHost.values()].map(list => runsOf(list.map(({ atNs }) => atNs))),
    firstListedNs: ascending(all)[0] ?? null,
  }
}

const total = (samples: readonly Sample[], field: CounterField = 'cpuNs', marks = noMarks, hosts = noHosts) =>
  stretchesOf(samples, marks, hosts)
    .stretches.filter(s => s.field === field && s.kind === 'measured')
    .reduce((sum, s) => sum + s.amount, 0n)

// Histories with everything in them: jitter, pauses, falls, dips, conflicts, zero samples, starts, stops,
// declared gaps, and heartbeats of two hosts that come and go.
const history: fc.Arbitrary<OracleInput> = fc
  .array(
    fc.record({
      step: fc.oneof(
        { weight: 6, arbitrary: fc.bigInt({ min: 1n, max: 90n * second }) },
        { weight: 2, arbitrary: fc.bigInt({ min: minute, max: 12n * minute }) },
        { weight: 1, arbitrary: fc.bigInt({ min: 30n * minute, max: 200n * minute }) },
        { weight: 1, arbitrary: fc.constant(0n) },
      ),
      what: fc.constantFrom('run', 'run', 'run', 'run', 'run', 'reset', 'dip', 'zero', 'start', 'stop', 'gap'),
      host: fc.constantFrom('', '', 'h1', 'h1', 'h2'),
      cpu: fc.bigInt({ min: 0n, max: 200n * second }),
      bytes: fc.bigInt({ min: 0n, max: 5000n }),
      memory: fc.bigInt({ min: 0n, max: 1n << 40n }),
    }),
    { maxLength: 45, size: 'max' },
  )
  .map(steps => {
    const input = {
      samples: [] as Sample[],
      starts: [] as bigint[],
      stops: [] as bigint[],
      gaps: [] as OracleInput['gaps'][number][],
      listings: [] as OracleInput['listings'][number][],
    }
    let at = epoch
    let [cpu, bytes] = [0n, 0n]
    for (const s of steps) {
      at += s.step
      if (s.host !== '') input.listings.push({ host: s.host, atNs: at - (s.memory % (90n * second)) })
      if (s.what === 'start') input.starts.push(at)
      else if (s.what === 'stop') input.stops.push(at)
      else if (s.what === 'gap') input.gaps.push({ fromNs: at - 5n * minute, untilNs: at + minute })
      else if (s.what === 'zero') input.samples.push(sample(at - epoch, 0n, { memoryBytes: 0n }))
      else if (s.what === 'dip')
        input.samples.push(
          sample(at - epoch, cpu / 2n, { netRxBytes: bytes, diskWriteBytes: bytes / 3n, memoryBytes: s.memory }),
        )
      else {
        if (s.what === 'reset') [cpu, bytes] = [0n, 0n]
        cpu += s.cpu
        bytes += s.bytes
        input.samples.push(sample(at - epoch, cpu, { netRxBytes: bytes, diskWriteBytes: bytes, memoryBytes: s.memory }))
      }
    }
    return input
  })

const marksOf = ({ starts, stops, gaps }: OracleInput): Marks => ({
  starts: ascending(starts),
  stops: ascending(stops),
  gaps,
})
const fields = [...counterFields, 'memoryByteNs'] as const
const kinds = ['measured', 'shortGap', 'longGap', 'unmeasured', 'disputed'] as const
const timeFields = ['timeNs', 'hostDownNs', 'aliveNs'] as const

/** A few edges inside and around a history. */
const edgesFor = (input: OracleInput, cuts: readonly number[]) => {
  const listed = input.listings.map(l => l.atNs)
  const times = ascending([...input.samples.map(s => s.atNs), ...input.starts, ...input.stops, ...listed])
  const [first = epoch, last = epoch] = [times[0], times.at(-1)]
  const inner = cuts.map(cut => first - minute + ((last - first + 2n * minute) * BigInt(cut)) / 1000n)
  return [...new Set(ascending([first - minute, ...inner, last + minute]))]
}

test('usage, time and life between any instants equal the brute-force reading of the rules', () => {
  fc.assert(
    fc.property(history, fc.array(fc.nat(1000), { maxLength: 5 }), (input, cuts) => {
      const edges = edgesFor(input, cuts)
      const { stretches, lives } = oracleStretches(input)
      const hosts = hostsOf(input.listings)
      for (const [i, cell] of usage(input.samples, marksOf(input), edges, hosts).entries())
        for (const field of [...fields, ...timeFields])
          for (const kind of kinds)
            assert.equal(
              cell[field][kind],
              oracleUsage(stretches, field, kind, edges[i] ?? 0n, edges[i + 1] ?? 0n),
              `${field} ${kind} in span ${i}`,
            )
      assert.deepEqual(
        stretchesOf(input.samples, marksOf(input), hosts).lives.map(({ startNs, stopNs, endBy }) => ({
          from: startNs,
          to: stopNs,
          endBy,
        })),
        lives,
      )
    }),
    { numRuns: runs(400, 20_000), examples: [[stopAtFall, []]] },
  )
})

/** Found by the property: the last reading has fallen, and the stop notice bears its very instant. */
const stopAtFall: OracleInput = {
  samples: [sample(0n, 0n), sample(1n, 1n), sample(30n * minute + 1n, 0n)],
  starts: [],
  stops: [epoch + 30n * minute + 1n],
  gaps: [],
  listings: [],
}

test('long histories with uneven spacing fold as the brute force does', () => {
  const uneven = fc.array(
    fc.tuple(fc.constantFrom(20n, 45n, 110n, 125n, 200n, 390n, 620n), fc.bigInt({ min: 0n, max: 9n })),
    {
      minLength: 100,
      maxLength: 140,
    },
  )
  fc.assert(
    fc.property(uneven, steps => {
      let [at, cpu] = [0n, 0n]
      const samples = steps.map(([seconds, use]) => {
        at += seconds * second
        cpu += use
        return sample(at, cpu, { memoryBytes: use })
      })
      const edges = [epoch, epoch + at / 3n, epoch + at]
      const { stretches: expected } = oracleStretches({ samples, starts: [], stops: [], gaps: [], listings: [] })
      for (const [i, cell] of usage(samples, noMarks, edges).entries())
        for (const field of ['cpuNs', 'memoryByteNs'] as const)
          for (const kind of kinds)
            assert.equal(cell[field][kind], oracleUsage(expected, field, kind, edges[i] ?? 0n, edges[i + 1] ?? 0n))
    }),
    { numRuns: 20 },
  )
})

test('order, duplicates and the way samples were cut into batches and parts change nothing', () => {
  fc.assert(
    fc.property(
      history,
      fc.array(fc.nat(1000), { maxLength: 3 }),
      fc.infiniteStream(fc.nat(7)),
      (input, cuts, dice) => {
        const edges = edgesFor(input, cuts)
        const batches = Array.from({ length: 8 }, () => [] as Sample[])
        const roll = () => dice.next().value ?? 0
        for (const s of input.samples) {
          batches[roll()]?.unshift(s)
          if (roll() < 3) batches[roll()]?.push(s)
        }
        const stored = batches.flatMap(batch => encodeParts(batch)).reverse()
        const read = stored.flatMap(part => decodePart(part.body))
        assert.deepEqual(usage(read, marksOf(input), edges), usage(input.samples, marksOf(input), edges))
      },
    ),
  )
})

test('G19: spans sum to the whole: no unit is lost or made at an edge', () => {
  fc.assert(
    fc.property(history, fc.array(fc.nat(1000), { maxLength: 12 }), (input, cuts) => {
      const edges = edgesFor(input, cuts)
      const whole = usage(input.samples, marksOf(input), [edges[0] ?? 0n, edges.at(-1) ?? 0n])[0]
      const parts = usage(input.samples, marksOf(input), edges)
      for (const field of [...fields, 'timeNs'] as const)
        for (const kind of kinds)
          assert.equal(
            parts.reduce((sum, cell) => sum + cell[field][kind], 0n),
            whole?.[field][kind],
          )
    }),
  )
})

test('a window read with its context folds as the whole series does, ledger and all', () => {
  fc.assert(
    fc.property(fc.array(history, { minLength: 2, maxLength: 4 }), fc.nat(1000), fc.nat(1000), (pieces, x, y) => {
      const all = joined(pieces)
      const edges = edgesFor(all, [x, y])
      const [from = 0n, to = 0n] = [edges[1], edges[2]]
      const hosts = hostsOf(all.listings)
      const times = readingsOf(sampleSet(all.samples)).map(r => r.atNs)
      const before = times.filter(t => t < from)
      let wanted = contextReadings
      while (wanted < before.length && !isContext(before.slice(-wanted), hosts)) wanted *= 2
      const first = before.at(-wanted)
      const last = times.filter(t => t >= to)[contextReadings - 1]
      const window = all.samples.filter(
        s => (first === undefined || s.atNs >= first) && (last === undefined || s.atNs <= last),
      )
      const folded = usage(window, marksOf(all), [from, to], hosts, first !== undefined)
      assert.deepEqual(folded, usage(all.samples, marksOf(all), [from, to], hosts))
    }),
    { numRuns: runs(200, 5_000) },
  )
})

/** One history after the other. */
function joined(pieces: readonly OracleInput[]) {
  const all = {
    samples: [] as Sample[],
    starts: [] as bigint[],
    stops: [] as bigint[],
    gaps: [] as OracleInput['gaps'][number][],
    listings: [] as OracleInput['listings'][number][],
  }
  let shift = 0n
  for (const piece of pieces) {
    all.samples.push(...piece.samples.map(s => ({ ...s, atNs: s.atNs + shift })))
    all.starts.push(...piece.starts.map(t => t + shift))
    all.stops.push(...piece.stops.map(t => t + shift))
    all.gaps.push(...piece.gaps.map(g => ({ fromNs: g.fromNs + shift, untilNs: g.untilNs + shift })))
    all.listings.push(...piece.listings.map(l => ({ ...l, atNs: l.atNs + shift })))
    shift += piece.samples.reduce((most, s) => (s.atNs - epoch > most ? s.atNs - epoch : most), 0n) + second
  }
  return all
}

test('usage never exceeds the truth, and equals last − first when nothing is missing', () => {
  const steps = fc.array(
    fc.tuple(fc.bigInt({ min: 1n, max: 100n * second }), fc.bigInt({ min: 0n, max: 50n * second })),
    {
      minLength: 2,
      maxLength: 40,
    },
  )
  fc.assert(
    fc.property(steps, fc.func(fc.boolean()), (run, isLost) => {
      let [at, cpu] = [0n, 5n]
      const truth = run.map(([step, use]) => {
        at += step
        cpu += use
        return sample(at, cpu)
      })
      const all = truth.at(-1)?.cpuNs ?? 0n
      const first = truth[0]?.cpuNs ?? 0n
      assert.equal(total(truth), all - first)
      const seen = truth.filter(s => !isLost(String(s.atNs)))
      assert.ok(total(seen) <= all - first)
    }),
  )
})

const big = 2n ** 63n - 1n

test('G10: a counter folds over neighbouring readings, exact to the last of 64 bits and beyond in the sum', () => {
  const samples = [sample(0n, 1n), sample(minute, 2n ** 53n + 1n), sample(2n * minute, big)]
  assert.equal(total(samples), big - 1n)
  const twice = [...samples, sample(3n * minute, 5n), sample(4n * minute, 6n), sample(5n * minute, big)]
  assert.equal(total(twice), big - 1n + (big - 5n))
})

test('G11: a plausible reading counts from zero, spread from the start mark, at the beginning, behind a stop or when it fell; a repeated notice never re-bills a running counter, and is listed', () => {
  const starts = [epoch]
  assert.equal(total([sample(minute, 40n * second)], 'cpuNs', { ...noMarks, starts }), 40n * second)
  // More than 512 cores could have done in the time: a baseline, not 40,000 s of use.
  assert.equal(total([sample(minute, 40_000n * second)], 'cpuNs', { ...noMarks, starts }), 0n)
  const running = [sample(0n, 100n * second), sample(minute, 130n * second), sample(2n * minute, 160n * second)]
  const repeated = { ...noMarks, starts: [epoch + minute / 2n, epoch + 90n * second] }
  assert.equal(total(running, 'cpuNs', repeated), 60n * second)
  assert.equal(stretchesOf(running, repeated).findings.unprovenRestarts, 2)
  // An earlier life that was stopped: the new one counts from zero although its counter is already higher.
  const restarted = [sample(0n, 10n * second), sample(2n * minute, 30n * second)]
  const marks = { ...noMarks, starts: [epoch + minute], stops: [epoch + 30n * second] }
  assert.equal(total(restarted, 'cpuNs', marks), 30n * second)
  // Without the stop mark only a counter that fell is believed to have begun anew.
  const fell = [sample(0n, 10n * second, { netRxBytes: 7n }), sample(2n * minute, 4n * second, { netRxBytes: 9n })]
  const startOnly = { ...noMarks, starts: [epoch + minute] }
  assert.equal(total(fell, 'cpuNs', startOnly), 4n * second)
  assert.equal(total(fell, 'netRxBytes', startOnly), 2n)
  assert.equal(stretchesOf(restarted, startOnly).findings.unprovenRestarts, 1)
  // Use is spread from the mark, not from the last reading of the earlier life.
  const half = usage(restarted, marks, [epoch, epoch + 90n * second, epoch + 2n * minute])
  assert.deepEqual(
    half.map(cell => cell.cpuNs.measured),
    [15n * second, 15n * second],
  )
})

test('G12: an unannounced fall is worth 0 and is believed only when the next reading is below the old height too', () => {
  const before = [sample(0n, 100n), sample(minute, 150n)]
  assert.equal(total([...before, sample(2n * minute, 5n)]), 50n)
  assert.equal(total([...before, sample(2n * minute, 5n), sample(3n * minute, 25n)]), 70n)
  assert.equal(stretchesOf([...before, sample(2n * minute, 5n), sample(3n * minute, 25n)]).findings.falls, 1)
})

test('G13: a dip with the next reading back up is skipped, for the counter that dipped only', () => {
  const samples = [
    sample(0n, 100n, { netRxBytes: 10n }),
    sample(minute, 5n, { netRxBytes: 20n }),
    sample(2n * minute, 130n, { netRxBytes: 35n }),
  ]
  assert.equal(total(samples), 30n)
  assert.equal(total(samples, 'netRxBytes'), 25n)
  const spans = stretchesOf(samples).stretches.filter(s => s.field === 'netRxBytes')
  assert.deepEqual(
    spans.map(s => s.amount),
    [10n, 15n],
  )
})

test('G15: two hosts listing one VM within two minutes of a pair make it disputed, and behind an unannounced fall the climb past the old height counts what is above it only', () => {
  // Two hosts read one VM in turn, badly interleaved: 100 and 110 of one, 5 and 6 of the other.
  const readings = [sample(0n, 100n), sample(minute, 5n), sample(2n * minute, 6n), sample(3n * minute, 110n)]
  const listings = (second: string, seconds: readonly bigint[]) =>
    hostsOf([
      ...[0n, 60n, 120n, 180n].map(at => ({ host: 'h1', atNs: epoch + at * 1_000_000_000n })),
      ...seconds.map(at => ({ host: second, atNs: epoch + at * 1_000_000_000n })),
    ])
  assert.equal(total(readings, 'cpuNs', noMarks, listings('h1', [60n])), 1n + 104n)
  assert.equal(total(readings, 'cpuNs', noMarks, listings('h2', [60n])), 1n + 10n)
  // Two minutes behind the last pair still, a nanosecond more no longer.
  assert.equal(total(readings, 'cpuNs', noMarks, listings('h2', [300n])), 105n)
  const late = hostsOf([
    { host: 'h1', atNs: epoch + minute },
    { host: 'h2', atNs: epoch + 3n * minute },
  ])
  assert.equal(total(readings, 'cpuNs', noMarks, late), 11n)
  const cell = usage(readings, noMarks, [epoch, epoch + 3n * minute], listings('h2', [60n]))[0] ?? assert.fail()
  assert.deepEqual(ledgerOf(cell, 'zero'), {
    measuredNs: 0n,
    estimatedNs: 0n,
    unmeasuredNs: 0n,
    hostDownNs: 0n,
    disputedNs: 3n * minute,
  })
  // An announced restart is no dispute about counters: the new life climbs as high as it likes.
  const marks = { ...noMarks, starts: [epoch + 90n * second], stops: [epoch + 80n * second] }
  assert.equal(
    total(
      [...readings.slice(0, 2), sample(2n * minute, 7n), sample(3n * minute, 150n)],
      'cpuNs',
      marks,
      listings('h2', [60n]),
    ),
    150n,
  )
  // Whatever two interleaved counters are read as, the bill is never above what both used.
  const turns = fc.array(fc.tuple(fc.boolean(), fc.bigInt(0n, 40n)), { minLength: 2, maxLength: 60 })
  fc.assert(
    fc.property(turns, fc.bigInt(0n, 300n), (list, head) => {
      const counters = [head, 0n]
      const samples = [sample(0n, head)]
      for (const [i, [isSecond, use]] of list.entries()) {
        const at = isSecond ? 1 : 0
        counters[at] = (counters[at] ?? 0n) + use
        samples.push(sample(BigInt(i + 1) * minute, counters[at] ?? 0n))
      }
      const both = hostsOf(samples.flatMap(({ atNs }) => ['h1', 'h2'].map(host => ({ host, atNs }))))
      assert.ok(total(samples, 'cpuNs', noMarks, both) <= list.reduce((sum, [, use]) => sum + use, 0n))
    }),
    { numRuns: runs(500, 20_000) },
  )
})

test('a next reading exactly at the old height is a glitch, not a fall', () => {
  assert.equal(total([sample(0n, 100n), sample(minute, 5n), sample(2n * minute, 100n), sample(3n * minute, 130n)]), 30n)
})

test('G14: the first reading without a start mark is a baseline worth 0', () => {
  assert.equal(total([sample(0n, 1_000_000n)]), 0n)
  assert.equal(total([sample(0n, 1_000_000n)], 'cpuNs', { ...noMarks, starts: [epoch + 1n] }), 0n)
})

test('conflicting values for one instant bill the least, at a baseline too', () => {
  const conflict = [
    sample(0n, 100n),
    sample(0n, 90n),
    sample(minute, 150n),
    sample(minute, 170n),
    sample(2n * minute, 200n),
  ]
  assert.equal(total(conflict), 100n)
  assert.equal(total(conflict.slice(0, 4)), 50n)
  assert.equal(stretchesOf(conflict).findings.conflicts, 2)
})

test('a sample of six zeros is no reading', () => {
  const zero = sample(minute, 0n, { memoryBytes: 0n })
  assert.equal(total([sample(0n, 10n), zero, sample(2n * minute, 30n)]), 20n)
  assert.equal(stretchesOf([sample(0n, 10n), zero, sample(2n * minute, 30n)]).findings.falls, 0)
})

test('G16: a pair longer than min(MAX_GAP_CAP, max(MIN_GAP, 3 × lower median of 33 spacings)) is a gap, with the rule that made it one; a declared gap lowers it to MIN_GAP', () => {
  const gapsOf = (times: readonly bigint[], marks: Marks = noMarks) => {
    const notes: string[] = []
    const fold = startFold(
      {
        marks,
        rules: defaultRules,
        isContinued: false,
        note: ({ kind, fromNs, toNs, rule }) =>
          void (kind === 'gap' && notes.push(`${(fromNs - epoch) / second}–${(toNs - epoch) / second}: ${rule}`)),
      },
      () => {},
    )
    for (const reading of readingsOf(sampleSet(times.map((at, i) => sample(at * second, BigInt(i))))))
      fold.push(reading)
    fold.finish()
    return notes
  }
  const every = (step: bigint, count: number, from = 0n) =>
    Array.from({ length: count }, (_, i) => from + BigInt(i) * step)
  // MIN_GAP: however fast the sender, two minutes are believed, and a nanosecond more is not.
  assert.deepEqual(gapsOf([...every(1n, 30), ...every(1n, 30, 149n)]), [])
  assert.deepEqual(gapsOf([...every(1n, 30), ...every(1n, 30, 150n)]), ['29–150: 3 × 1 s'])
  // Three times the median, the pair itself among the 33: three minutes at a reading a minute.
  assert.deepEqual(gapsOf([...every(60n, 20), ...every(60n, 20, 1320n)]), [])
  assert.deepEqual(gapsOf([...every(60n, 20), ...every(60n, 20, 1321n)]), ['1140–1321: 3 × 60 s'])
  // The lower of the two middle spacings; only sixteen on either side are looked at.
  const uneven = [...every(600n, 40), ...every(60n, 17, 23_460n), ...every(60n, 17, 24_620n)]
  assert.deepEqual(gapsOf(uneven), ['24420–24620: 3 × 60 s'])
  // MAX_GAP_CAP: a steady sender of half hours has no gap, one of two hours has nothing else.
  assert.deepEqual(gapsOf(every(1_800n, 10)), [])
  assert.deepEqual(gapsOf(every(7_200n, 3)), [
    '0–7200: longer than MAX_GAP_CAP, 3600 s',
    '7200–14400: longer than MAX_GAP_CAP, 3600 s',
  ])
  // The stretch from a start mark to its first reading is one too.
  assert.deepEqual(gapsOf(every(60n, 20, 600n), { ...noMarks, starts: [epoch] }), ['0–600: 3 × 60 s'])
  const declared = { ...noMarks, gaps: [{ fromNs: epoch + 1_900n * second, untilNs: epoch + 2_000n * second }] }
  assert.deepEqual(gapsOf(every(1_800n, 4), declared), ['1800–3600: declared; longer than MIN_GAP, 120 s'])
})

test('a pair longer than three times the usual spacing is kept apart; steady slow senders have none', () => {
  const fast = Array.from({ length: 40 }, (_, i) => sample(BigInt(i) * minute, BigInt(i) * second))
  const silent = fast.filter((_, i) => i < 15 || i > 20)
  const kept = usage(silent, noMarks, [epoch, epoch + 60n * minute])[0]
  assert.deepEqual(kept?.cpuNs, {
    measured: 32n * second,
    shortGap: 7n * second,
    longGap: 0n,
    unmeasured: 0n,
    disputed: 0n,
  })
  assert.equal(kept?.timeNs.shortGap, 7n * minute)
  const slow = Array.from({ length: 12 }, (_, i) => sample(BigInt(i) * 30n * minute, BigInt(i) * second))
  assert.equal(total(slow), 11n * second)
  const declared = { ...noMarks, gaps: [{ fromNs: epoch, untilNs: epoch + minute }] }
  assert.equal(total(slow, 'cpuNs', declared), 10n * second)
})

test('G17: what lies in gaps is apart, and the policy decides: zero nothing, floor the proven rise, interpolate the short ones; without gaps counters telescope', () => {
  // Readings a minute apart; one gap of nine minutes, one of eleven.
  const minutes = [0, 1, 2, 3, 4, 5, 14, 15, 16, 17, 18, 19, 30, 31, 32, 33, 34, 35].map(BigInt)
  const samples = minutes.map(m => sample(m * minute, m * second, { memoryBytes: 100n, netTxBytes: m }))
  const cell = usage(samples, noMarks, [epoch, epoch + 60n * minute])[0] ?? assert.fail()
  const of = (meter: 'vm_cpu' | 'vm_memory' | 'vm_net_tx') =>
    (['zero', 'floor', 'interpolate'] as const).map(policy => quantity(cell, meter, policy))
  assert.deepEqual(of('vm_cpu'), [15n * second, 35n * second, 24n * second])
  assert.deepEqual(of('vm_net_tx'), [15n, 35n, 24n])
  assert.deepEqual(
    of('vm_memory'),
    [15n, 15n, 24n].map(m => m * 100n * minute),
  )
  assert.equal(ledgerOf(cell, 'interpolate').estimatedNs, 9n * minute)
  assert.equal(ledgerOf(cell, 'zero').estimatedNs, 0n)
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.bigInt(1n, 120n), fc.bigInt(0n, 10n ** 18n)), { minLength: 1, maxLength: 60 }),
      steps => {
        let [at, cpu] = [0n, 17n]
        const steady = [sample(0n, cpu)]
        for (const [seconds, use] of steps) {
          at += seconds * second
          cpu += use
          steady.push(sample(at, cpu))
        }
        const whole = usage(steady, noMarks, [epoch - 1n, epoch + at])[0] ?? assert.fail()
        for (const policy of ['zero', 'floor', 'interpolate'] as const)
          assert.equal(quantity(whole, 'vm_cpu', policy), cpu - 17n)
      },
    ),
  )
})

test('G18: memory is the smaller end times the length, in byte-nanoseconds, never across a start, a stop or a gap, but for short gaps where they are interpolated', () => {
  const samples = [
    sample(0n, 1n, { memoryBytes: 100n }),
    sample(minute, 2n, { memoryBytes: 40n }),
    sample(2n * minute, 3n, { memoryBytes: 70n }),
    sample(3n * minute, 4n, { memoryBytes: 70n }),
    sample(4n * minute, 5n, { memoryBytes: 30n }),
    sample(9n * minute, 6n, { memoryBytes: 20n }),
    sample(29n * minute, 7n, { memoryBytes: 20n }),
  ]
  const ofAll = (marks: Marks) => usage(samples, marks, [epoch - minute, epoch + 60n * minute])[0]?.memoryByteNs
  const kept = { measured: 180n * minute, shortGap: 100n * minute, longGap: 0n, unmeasured: 0n, disputed: 0n }
  const atTwoMinutes = Array.from({ length: 30 }, (_, i) => BigInt(i) * minute + 40n * minute)
  samples.push(...atTwoMinutes.map(at => sample(at, 8n, { memoryBytes: 0n, netRxBytes: 1n })))
  assert.deepEqual(ofAll(noMarks), kept)
  const stopped = { ...noMarks, stops: [epoch + 130n * second] }
  assert.deepEqual(ofAll(stopped), { ...kept, measured: 110n * minute })
  const started = { ...noMarks, starts: [epoch + 20n * second] }
  assert.deepEqual(ofAll(started), { ...kept, measured: 140n * minute })
  const cell = usage(samples, noMarks, [epoch, epoch + 60n * minute])[0] ?? assert.fail()
  assert.deepEqual(
    (['zero', 'floor', 'interpolate'] as const).map(policy => quantity(cell, 'vm_memory', policy)),
    [180n * minute, 180n * minute, 280n * minute],
  )
})
