import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { readingsOf } from '../samples/reading.ts'
import type { Sample } from '../samples/sample.ts'
import { decodeSummary, encodeSummary } from '../samples/summary.ts'
import { runs } from '../test/long.ts'
import { createCells } from './cells.ts'
import { defaultRules, type Fold, startFold } from './fold.ts'
import { type Hosts, noHosts } from './hosts.ts'
import type { Marks } from './marks.ts'

const second = 1_000_000_000n
const epoch = 1_780_000_000n * second

// A series as it is stored: stretches of samples, some of them plain and many, with everything that may happen between them
// and sometimes inside.
const stretch = fc.record({
  count: fc.oneof(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 33, max: 60 })),
  spacing: fc.constantFrom(1n, 10n, 70n, 119n, 121n, 300n),
  jitter: fc.bigInt({ min: 0n, max: second / 2n }),
  pause: fc.constantFrom(0n, 0n, 0n, 60n, 130n, 400n, 5_000n),
  before: fc.constantFrom('run', 'run', 'run', 'run', 'reset', 'dip', 'start', 'stop', 'stop start', 'gap'),
  /** Something within it, at that sample. */
  inside: fc.option(fc.tuple(fc.nat(60), fc.constantFrom('start', 'stop', 'listing')), { freq: 6 }),
  memory: fc.bigInt({ min: 0n, max: 2n ** 40n }),
  use: fc.bigInt({ min: 0n, max: 90n * second }),
  listed: fc.constantFrom('', '', 'h1', 'h1', 'h2'),
})

interface History {
  chunks: Sample[][]
  starts: bigint[]
  stops: bigint[]
  gaps: { fromNs: bigint; untilNs: bigint }[]
  listings: { host: string; atNs: bigint }[]
}

const history = fc.array(stretch, { minLength: 1, maxLength: 7 }).map((list): History => {
  const all: History = { chunks: [], starts: [], stops: [], gaps: [], listings: [] }
  let [at, cpu] = [epoch, 1_000n]
  for (const s of list) {
    at += s.pause * second
    if (s.before.includes('stop')) all.stops.push(at + 1n)
    if (s.before.includes('start')) {
      all.starts.push(at + 2n)
      cpu = 0n
    }
    if (s.before === 'reset') cpu = 0n
    if (s.before === 'gap') all.gaps.push({ fromNs: at - 200n * second, untilNs: at + second })
    const chunk: Sample[] = []
    for (let i = 0; i < s.count; i++) {
      at += s.spacing * second + (BigInt(i * 7919) % (s.jitter + 1n))
      cpu += s.use / BigInt((i % 5) + 1)
      if (s.inside?.[0] === i && s.inside[1] === 'start') all.starts.push(at - 1n)
      if (s.inside?.[0] === i && s.inside[1] === 'stop') all.stops.push(at)
      if (s.inside?.[0] === i && s.inside[1] === 'listing') all.listings.push({ host: 'h1', atNs: at })
      const isDip = s.before === 'dip' && i === 0
      chunk.push({
        atNs: at,
        cpuNs: isDip ? cpu / 2n : cpu,
        memoryBytes: s.memory + BigInt((i * 31) % 7),
        diskReadBytes: cpu / 3n,
        diskWriteBytes: 5n,
        netRxBytes: isDip ? 0n : cpu / 7n,
        netTxBytes: 0n,
      })
    }
    if (s.listed !== '') all.listings.push({ host: s.listed, atNs: at + second })
    all.chunks.push(chunk)
  }
  return all
})

function factsOf(all: History, untilNs: bigint): { marks: Marks; hosts: Hosts } {
  const upTo = (times: readonly bigint[]) => times.filter(ns => ns <= untilNs).toSorted((a, b) => Number(a - b))
  const listings = all.listings.filter(({ atNs }) => atNs <= untilNs)
  const runsOf = (list: History['listings']) => upTo(list.map(l => l.atNs)).map(ns => ({ fromNs: ns, lastNs: ns }))
  const marks = {
    starts: upTo(all.starts),
    stops: upTo(all.stops),
    gaps: all.gaps.filter(({ fromNs }) => fromNs <= untilNs),
  }
  const { leaseNs } = defaultRules
  if (listings.length === 0) return { marks, hosts: { ...noHosts, leaseNs } }
  const ofEach = [...Map.groupBy(listings, l => l.host).values()].map(runsOf)
  const [first] = upTo(listings.map(l => l.atNs))
  return { marks, hosts: { leaseNs, runs: runsOf(listings), ofEach, firstListedNs: first ?? null } }
}

/** Pushes a chunk by its summary where it has one, and says whether it was taken that way. */
function push(fold: Fold, chunk: readonly Sample[], isByRuns: boolean): boolean {
  const [first, last] = [chunk[0], chunk.at(-1)]
  const summary = isByRuns ? encodeSummary(chunk) : null
  if (summary !== null && first !== undefined && last !== undefined) {
    const run = decodeSummary(summary, { count: chunk.length, minNs: first.atNs, maxNs: last.atNs })
    assert.ok(run !== null)
    if (fold.pushRun(run)) return true
  }
  for (const reading of readingsOf(chunk)) fold.push(reading)
  return false
}

const forever = epoch + 10n ** 18n
const edgesOf = (all: History) => [
  epoch - 10n ** 15n,
  ...all.chunks.map(chunk => chunk[0]?.atNs ?? epoch).filter((_, i) => i % 2 === 1),
  epoch + 10n ** 16n,
]

test('plain parts fold by what they come to as their samples do', () => {
  let taken = 0
  fc.assert(
    fc.property(history, fc.boolean(), (all, isContinued) => {
      const of = (isByRuns: boolean) => {
        const { cells, add } = createCells(edgesOf(all))
        const fold = startFold({ ...factsOf(all, forever), rules: defaultRules, isContinued }, add)
        for (const chunk of all.chunks) if (push(fold, chunk, isByRuns)) taken++
        const { lives, findings } = fold.finish(forever)
        return { cells, lives, findings }
      }
      assert.deepEqual(of(true), of(false))
    }),
    { numRuns: runs(600, 30_000) },
  )
  assert.ok(taken > 100, `only ${taken} runs were taken`)
})

test('a fold that is told about later marks and hosts as it goes is the fold that knew them, and finishing a fork of it changes nothing', () => {
  fc.assert(
    fc.property(history, fc.array(fc.nat(7), { maxLength: 3 }), (given, stops) => {
      // One host: two may dispute what was folded already.
      const all = { ...given, listings: given.listings.filter(({ host }) => host === 'h1') }
      const { cells, add } = createCells(edgesOf(all))
      const begin = all.chunks[0]?.[0]?.atNs ?? epoch
      let fold = startFold({ ...factsOf(all, begin), rules: defaultRules, isContinued: false }, add)
      for (const [i, chunk] of all.chunks.entries()) {
        const lastNs = chunk.at(-1)?.atNs ?? epoch
        fold = fold.fork(factsOf(all, lastNs), add)
        push(fold, chunk, true)
        if (!stops.includes(i)) continue
        const so = createCells(edgesOf(all))
        fold.fork(factsOf(all, forever), so.add).finish()
      }
      fold.fork(factsOf(all, forever), add).finish()
      const plain = createCells(edgesOf(all))
      const whole = startFold({ ...factsOf(all, forever), rules: defaultRules, isContinued: false }, plain.add)
      for (const chunk of all.chunks) push(whole, chunk, false)
      whole.finish()
      assert.deepEqual(cells, plain.cells)
    }),
    { numRuns: runs(400, 20_000) },
  )
})
