import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { decodePart, encodeParts } from '../samples/part.ts'
import { readingsOf } from '../samples/reading.ts'
import { type CounterField, counterFields, type Sample, sampleSet } from '../samples/sample.ts'
import { type Cell, createCells } from './cells.ts'
import { contextReadings, defaultRules, type Marks, type Stretch, startFold } from './fold.ts'
import { type OracleInput, oracleStretches, oracleUsage } from './oracle.ts'

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

const noMarks: Marks = { starts: [], stops: [], gaps: [] }
const ascending = (times: readonly bigint[]) => times.toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0))

function stretchesOf(samples: readonly Sample[], marks: Marks = noMarks, isContinued = false) {
  const out: Stretch[] = []
  const fold = startFold(
    {
      marks: { ...marks, starts: ascending(marks.starts), stops: ascending(marks.stops) },
      rules: defaultRules,
      isContinued,
    },
    stretch => void out.push(stretch),
  )
  for (const reading of readingsOf(sampleSet(samples))) fold.push(reading)
  return { stretches: out, findings: fold.finish() }
}

function usage(
  samples: readonly Sample[],
  marks: Marks,
  edges: readonly bigint[],
  isContinued = false,
): readonly Cell[] {
  const { cells, add } = createCells(edges)
  for (const stretch of stretchesOf(samples, marks, isContinued).stretches) add(stretch)
  return cells
}

const total = (samples: readonly Sample[], field: CounterField = 'cpuNs', marks = noMarks) =>
  stretchesOf(samples, marks)
    .stretches.filter(s => s.field === field && s.kind === 'measured')
    .reduce((sum, s) => sum + s.amount, 0n)

// Histories with everything in them: jitter, pauses, falls, dips, conflicts, zero samples, starts, stops, declared gaps.
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
      cpu: fc.bigInt({ min: 0n, max: 200n * second }),
      bytes: fc.bigInt({ min: 0n, max: 5000n }),
      memory: fc.bigInt({ min: 0n, max: 1n << 40n }),
    }),
    { maxLength: 45 },
  )
  .map(steps => {
    const input = {
      samples: [] as Sample[],
      starts: [] as bigint[],
      stops: [] as bigint[],
      gaps: [] as OracleInput['gaps'][number][],
    }
    let at = epoch
    let [cpu, bytes] = [0n, 0n]
    for (const s of steps) {
      at += s.step
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
const kinds = ['measured', 'shortGap', 'longGap'] as const

/** A few edges inside and around a history. */
const edgesFor = (input: OracleInput, cuts: readonly number[]) => {
  const times = ascending([...input.samples.map(s => s.atNs), ...input.starts, ...input.stops])
  const [first = epoch, last = epoch] = [times[0], times.at(-1)]
  const inner = cuts.map(cut => first - minute + ((last - first + 2n * minute) * BigInt(cut)) / 1000n)
  return [...new Set(ascending([first - minute, ...inner, last + minute]))]
}

test('usage between any instants equals the brute-force reading of the rules', () => {
  fc.assert(
    fc.property(history, fc.array(fc.nat(1000), { maxLength: 5 }), (input, cuts) => {
      const edges = edgesFor(input, cuts)
      const expected = oracleStretches(input)
      for (const [i, cell] of usage(input.samples, marksOf(input), edges).entries())
        for (const field of fields)
          for (const kind of kinds)
            assert.equal(
              cell[field][kind],
              oracleUsage(expected, field, kind, edges[i] ?? 0n, edges[i + 1] ?? 0n),
              `${field} ${kind} in span ${i}`,
            )
    }),
    { numRuns: 400 },
  )
})

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
      const expected = oracleStretches({ samples, starts: [], stops: [], gaps: [] })
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

test('a window read with its context folds as the whole series does', () => {
  fc.assert(
    fc.property(fc.array(history, { minLength: 2, maxLength: 3 }), fc.nat(1000), fc.nat(1000), (pieces, x, y) => {
      let shift = 0n
      const input: OracleInput = { samples: [], starts: [], stops: [], gaps: [] }
      const all = {
        samples: [...input.samples],
        starts: [...input.starts],
        stops: [...input.stops],
        gaps: [...input.gaps],
      }
      for (const piece of pieces) {
        all.samples.push(...piece.samples.map(s => ({ ...s, atNs: s.atNs + shift })))
        all.starts.push(...piece.starts.map(t => t + shift))
        all.stops.push(...piece.stops.map(t => t + shift))
        const span = piece.samples.reduce((most, s) => (s.atNs - epoch > most ? s.atNs - epoch : most), 0n)
        shift += span + second
      }
      const edges = edgesFor(all, [x, y])
      const [from = 0n, to = 0n] = [edges[1], edges[2]]
      const times = [...new Set(readingsOf(sampleSet(all.samples)).map(r => r.atNs))]
      const first = times.filter(t => t <= from).at(-contextReadings)
      const last = times.filter(t => t >= to)[contextReadings - 1]
      const window = all.samples.filter(
        s => (first === undefined || s.atNs >= first) && (last === undefined || s.atNs <= last),
      )
      const isContinued = first !== undefined && times.some(t => t < first)
      const folded = usage(window, marksOf(all), [from, to], isContinued)
      const wholeCells = usage(all.samples, marksOf(all), [from, to])
      // The ledger's tail of a window is open by design; amounts are what must agree.
      for (const field of fields) assert.deepEqual(folded[0]?.[field], wholeCells[0]?.[field], field)
    }),
  )
})

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

test('after a start mark a plausible reading counts from zero; a repeated notice never re-bills a running counter', () => {
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

test('a pair longer than three times the usual spacing is a gap, kept apart; steady slow senders have none', () => {
  const fast = Array.from({ length: 40 }, (_, i) => sample(BigInt(i) * minute, BigInt(i) * second))
  const silent = fast.filter((_, i) => i < 15 || i > 20)
  const kept = usage(silent, noMarks, [epoch, epoch + 60n * minute])[0]
  assert.deepEqual(kept?.cpuNs, { measured: 32n * second, shortGap: 7n * second, longGap: 0n, unmeasured: 0n })
  assert.equal(kept?.timeNs.shortGap, 7n * minute)
  const slow = Array.from({ length: 12 }, (_, i) => sample(BigInt(i) * 30n * minute, BigInt(i) * second))
  assert.equal(total(slow), 11n * second)
  const declared = { ...noMarks, gaps: [{ fromNs: epoch, untilNs: epoch + minute }] }
  assert.equal(total(slow, 'cpuNs', declared), 10n * second)
})

test('memory is the smaller end times the length, never across a start, a stop or a long gap', () => {
  const samples = [
    sample(0n, 1n, { memoryBytes: 100n }),
    sample(minute, 2n, { memoryBytes: 40n }),
    sample(2n * minute, 3n, { memoryBytes: 70n }),
    sample(3n * minute, 4n, { memoryBytes: 70n }),
  ]
  const marks = { ...noMarks, stops: [epoch + 130n * second] }
  const cell = usage(samples, marks, [epoch - minute, epoch + 60n * minute])[0]
  assert.equal(cell?.memoryByteNs.measured, 80n * minute)
})
