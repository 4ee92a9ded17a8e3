import type { Queryable } from '#platform/postgres'
import { larger } from '../bigint.ts'
import { hourNs } from '../samples/sample.ts'
import { type Cell, copyCell, createCells, emptyCell } from '../usage/cells.ts'
import { type Fold, type FoldRules, type Stretch, startFold } from '../usage/fold.ts'
import type { VmUsage } from '../usage/rows.ts'
import { createPeaks } from './fold-spans.ts'
import type { Touch } from './invalidate.ts'
import type { PartReader, SampleReader } from './parts.ts'
import { type PartHead, type Piece, piecesOf, pushPiece } from './pieces.ts'
import { type FoundSeries, findSeries } from './series.ts'
import { type Facts, loadFacts, loadHeads, openTails } from './tails.ts'
import { usageOf, vmsPerQueryMax } from './usage.ts'
import { cachedForReading, holesIn, lastReads, sumHours } from './usage-hours.ts'

// The running period of customers that are looked at, kept in memory while facts come in: of each series the fold itself,
// which only what is new is pushed through. It is no other answer than folding everything again:
//   - a reader first takes what was touched since, and then its snapshot, so whatever it was not told of is in neither;
//   - facts behind all that a series was folded from go on where its fold is; any other makes the series be read anew;
//   - another replica's facts are noticed by its journal position, and make everything of the customer be read anew;
//   - what is out of the ordinary (a VM id of several customers, two hosts, readings of later than is asked for) is folded
//     for each question as if this were not here.

export interface RunningUsage {
  /** Facts that are committed. To be called before anybody is told that they are. */
  touched(touches: readonly Touch[]): void
  /** Null: not a question about a running period, or too large to keep. */
  load(reader: PartReader, customerId: string, edges: readonly bigint[], rules: FoldRules): Promise<VmUsage[] | null>
}

/** A kept series takes some thirty kilobytes: with ten thousand a soak of short VMs reached 390 MB of heap. */
const seriesMax = 2_000
/** Of questions by the day or hour only those of few rows are asked again and again. */
const spansMax = 4
const seriesPerQuery = 100
const foreverNs = 2n ** 62n
const hoursEnd = Number(foreverNs / hourNs)

interface Kept {
  series: FoundSeries
  fold: Fold
  /** Spans that are over, as they were summed. */
  before: VmUsage
  /** From where it was folded, the edges behind it, and the end of time. */
  edges: readonly bigint[]
  /** Between those: everything up to the fold's last settled reading. The fold adds to it. */
  settled: readonly Cell[]
  peaks: ReturnType<typeof createPeaks>
  lastNs: bigint
  /** Facts up to there may change the hours that were summed. */
  summedReadNs: bigint
  /** What it comes to if nothing follows, and the end of the last stretch of that. */
  usage: VmUsage
  endNs: bigint
}

interface Entry {
  customerId: string
  edges: readonly bigint[]
  /** By VM; null: folded anew for each question. */
  kept: Map<string, { series: FoundSeries; kept: Kept | null }>
  order: string[]
  /** By VM: the earliest instant touched since it was read. */
  touched: Map<string, bigint>
  /** The same of facts that name another customer or none, while it is read. */
  meanwhile: Map<string, bigint>
  /** VMs under which it is found. */
  indexed: Set<string>
  /** Where other replicas were. */
  others: string | null
  queue: Promise<unknown>
}

export function createRunningUsage(o: { replica: string; nowNs(): bigint }): RunningUsage {
  const entries = new Map<string, Entry>()
  const byCustomer = new Map<string, Set<Entry>>()
  const byVm = new Map<string, Set<Entry>>()
  /** Those that are being read: which VMs they will know is not known yet. */
  const reading = new Set<Entry>()

  function drop(key: string, entry: Entry) {
    if (entries.get(key) !== entry) return
    entries.delete(key)
    remove(byCustomer, entry.customerId, entry)
    for (const vmId of entry.indexed) remove(byVm, vmId, entry)
  }

  function makeRoom() {
    let count = 0
    for (const entry of entries.values()) count += entry.kept.size
    for (const [key, entry] of entries) {
      if (count <= seriesMax) return
      count -= entry.kept.size
      drop(key, entry)
    }
  }

  /** Behind a read: what it knows now, and what of others was touched meanwhile. */
  function settleIndex(entry: Entry) {
    reading.delete(entry)
    for (const vmId of entry.kept.keys()) {
      if (entry.indexed.has(vmId)) continue
      entry.indexed.add(vmId)
      add(byVm, vmId, entry)
    }
    for (const [vmId, fromNs] of entry.meanwhile) if (entry.kept.has(vmId)) touch(entry.touched, vmId, fromNs)
    entry.meanwhile.clear()
  }

  return {
    touched(touches) {
      if (entries.size === 0) return
      for (const { vmId, customerId, fromNs } of touches) {
        if (customerId !== null)
          for (const entry of byCustomer.get(customerId) ?? []) touch(entry.touched, vmId, fromNs)
        // A VM id of somebody else's: from now on two customers use it.
        const ofOthersNs = customerId === null ? fromNs : 0n
        for (const entry of byVm.get(vmId) ?? [])
          if (entry.customerId !== customerId) touch(entry.touched, vmId, ofOthersNs)
        for (const entry of reading) if (entry.customerId !== customerId) touch(entry.meanwhile, vmId, ofOthersNs)
      }
    },
    async load(reader, customerId, edges, rules) {
      const toNs = edges.at(-1)
      if (toNs === undefined || edges.length < 2 || edges.length > spansMax + 1) return null
      if (toNs < o.nowNs() - 60_000_000_000n || !edges.slice(0, -1).every(edge => edge % hourNs === 0n)) return null
      const inner = edges.slice(0, -1)
      const key = [customerId, ...inner].join(' ')
      const entry = entries.get(key) ?? newEntry(customerId, inner)
      // Looked at last, evicted last.
      entries.delete(key)
      entries.set(key, entry)
      add(byCustomer, customerId, entry)
      const answer = entry.queue.then(async () => {
        // Dropped while this waited: nobody tells it of facts any more.
        if (entries.get(key) !== entry) return null
        reading.add(entry)
        try {
          return await read(reader, entry, toNs, rules, o.replica)
        } finally {
          settleIndex(entry)
          if (entries.get(key) !== entry) for (const vmId of entry.indexed) remove(byVm, vmId, entry)
        }
      })
      entry.queue = answer.catch(() => drop(key, entry))
      const usage = await answer
      if (usage === null) drop(key, entry)
      makeRoom()
      return usage
    },
  }
}

function touch(touched: Map<string, bigint>, vmId: string, fromNs: bigint) {
  const before = touched.get(vmId)
  if (before === undefined || fromNs < before) touched.set(vmId, fromNs)
}

function add<K, V>(index: Map<K, Set<V>>, key: K, value: V) {
  const values = index.get(key)
  if (values === undefined) index.set(key, new Set([value]))
  else values.add(value)
}

function remove<K, V>(index: Map<K, Set<V>>, key: K, value: V) {
  const values = index.get(key)
  if (values?.delete(value) === true && values.size === 0) index.delete(key)
}

function newEntry(customerId: string, edges: readonly bigint[]): Entry {
  return {
    customerId,
    edges,
    kept: new Map(),
    order: [],
    touched: new Map(),
    meanwhile: new Map(),
    indexed: new Set(),
    others: null,
    queue: Promise.resolve(),
  }
}

async function read(
  reader: PartReader,
  entry: Entry,
  toNs: bigint,
  rules: FoldRules,
  replica: string,
): Promise<VmUsage[] | null> {
  const { touched } = entry
  entry.touched = new Map()
  return reader.sql.begin('isolation level repeatable read read only', async sql => {
    const within = { ...reader, sql }
    const known = [...touched].filter(([vmId]) => entry.kept.has(vmId))
    // Asked together: the one says whether the other is of use.
    const [others, news] = await Promise.all([positionsOfOthers(sql, replica), newsOf(within, entry, known, rules)])
    if (others !== entry.others) {
      entry.kept.clear()
      entry.order = []
      entry.others = others
    }
    if (entry.order.length === 0 || known.length < touched.size) {
      const found = await findSeries(sql, entry.customerId, entry.edges[0] ?? 0n, foreverNs, vmsPerQueryMax)
      if (found.length > seriesMax) return null
      entry.order = found.map(({ vmId }) => vmId)
      const unread = found.filter(({ vmId }) => !entry.kept.has(vmId))
      await build(within, entry, unread, rules)
    }
    await goOn(within, entry, news, rules)
    return answerOf(within, entry, toNs, rules)
  })
}

async function positionsOfOthers(sql: Queryable, replica: string): Promise<string> {
  const [row] = await sql<{ positions: string }[]>`
    select coalesce(string_agg(concat_ws(' ', replica, segment, "offset"), ',' order by replica), '') as positions
    from billaged.journal_checkpoint where replica <> ${replica}`
  return row?.positions ?? ''
}

/** Reads series anew: the hours that are folded are summed, and from the first that is not the samples are folded. */
async function build(reader: SampleReader, entry: Entry, found: readonly FoundSeries[], rules: FoldRules) {
  for (let i = 0; i < found.length; i += seriesPerQuery)
    await buildSome(reader, entry, found.slice(i, i + seriesPerQuery), rules)
}

async function buildSome(reader: SampleReader, entry: Entry, found: readonly FoundSeries[], rules: FoldRules) {
  const { sql } = reader
  const { edges, customerId } = entry
  const [firstEdge = 0n] = edges
  const plain = found.filter(({ isShared }) => !isShared)
  for (const series of found) if (series.isShared) entry.kept.set(series.vmId, { series, kept: null })
  const from = Number(firstEdge / hourNs)
  const ids = plain.map(({ seriesId }) => seriesId)
  const cached = await cachedForReading(sql, ids, { from, to: hoursEnd })
  const summed = plain.map(series => {
    const first = Math.max(from, series.sealedHour, Number((series.firstNs - 1n) / hourNs))
    const runs = cached.get(series.seriesId)?.runs ?? []
    const last = runs.at(-1)?.to ?? first
    return {
      seriesId: series.seriesId,
      from,
      to: holesIn(runs, { from: first, to: Math.max(first, last) })[0]?.from ?? Math.max(first, last),
    }
  })
  const sums = Map.groupBy(
    await sumHours(
      sql,
      summed.filter(run => run.from < run.to),
      edges.slice(1).map(edge => Number(edge / hourNs)),
      cached,
    ),
    ({ seriesId }) => seriesId,
  )
  const readTo = await lastReads(sql, ids)
  const begins = summed.map(({ to }) => BigInt(to) * hourNs)
  const tails = await openTails(
    reader,
    customerId,
    plain.map(({ seriesId, vmId }, i) => ({ seriesId, vmId, fromNs: begins[i] ?? 0n })),
    { edges, leaseNs: rules.leaseNs },
  )
  for (const [i, series] of plain.entries()) {
    const [tail, beginNs] = [tails[i], begins[i]]
    if (tail === undefined || tail === null || beginNs === undefined) {
      entry.kept.set(series.vmId, { series, kept: null })
      continue
    }
    const cells: Cell[] = edges.map(emptyCell)
    const peaks = cells.map(() => 0n)
    for (const { span, cell, peak } of sums.get(series.seriesId) ?? []) {
      cells[span] = cell
      peaks[span] = peak
    }
    const kept = startKept({
      series,
      edges,
      beginNs,
      summed: { vmId: series.vmId, cells, peaks },
      summedReadNs: readTo.get(series.seriesId) ?? 0n,
      tail,
      rules,
    })
    for (const piece of tail.pieces) await take(reader, kept, piece)
    finish(kept, tail)
    entry.kept.set(series.vmId, { series, kept })
  }
}

function startKept(o: {
  series: FoundSeries
  edges: readonly bigint[]
  beginNs: bigint
  summed: VmUsage
  summedReadNs: bigint
  tail: Facts & { isContinued: boolean }
  rules: FoldRules
}): Kept {
  const { series, beginNs, summed, tail, rules } = o
  const span = o.edges.findLastIndex(edge => edge <= beginNs)
  const edges = [beginNs, ...o.edges.slice(span + 1), foreverNs]
  const settled = createCells(edges, summed.cells.slice(span))
  const kept: Kept = {
    series,
    fold: startFold({ ...tail, rules }, stretch => settle(kept, stretch, settled.add)),
    before: { vmId: series.vmId, cells: summed.cells.slice(0, span), peaks: summed.peaks.slice(0, span) },
    edges,
    settled: settled.cells,
    peaks: createPeaks(edges, summed.peaks.slice(span)),
    lastNs: beginNs,
    summedReadNs: o.summedReadNs,
    usage: summed,
    endNs: 0n,
  }
  return kept
}

function settle(kept: Kept, stretch: Stretch, add: (stretch: Stretch) => void) {
  if (stretch.amount !== 0n) kept.endNs = larger(kept.endNs, stretch.toNs)
  add(stretch)
}

async function take(reader: SampleReader, kept: Kept, piece: Piece) {
  await pushPiece(reader, kept.series.seriesId, kept.fold, piece)
  kept.peaks.add(piece)
  const last = Array.isArray(piece) ? piece.at(-1)?.atNs : piece.run.last.atNs
  if (last !== undefined) kept.lastNs = larger(kept.lastNs, last)
}

/** Settles a copy of it with what is known now; the fold itself waits for what may follow. */
function finish(kept: Kept, facts: Facts) {
  const { cells, add } = createCells(kept.edges, kept.settled.map(copyCell))
  kept.fold.fork(facts, stretch => settle(kept, stretch, add)).finish()
  const { vmId, before, peaks } = { vmId: kept.series.vmId, ...kept }
  kept.usage = { vmId, cells: [...before.cells, ...cells], peaks: [...before.peaks, ...peaks.peaks] }
}

interface News {
  kept: Kept
  facts: Facts | null
  parts: PartHead[] | null
}

/** What came to series that were read before; the facts are null of one to be read anew. */
async function newsOf(
  reader: SampleReader,
  entry: Entry,
  touched: readonly (readonly [string, bigint])[],
  rules: FoldRules,
): Promise<{ further: News[]; again: string[] }> {
  const again: string[] = []
  const list: Kept[] = []
  for (const [vmId, fromNs] of touched) {
    const kept = entry.kept.get(vmId)?.kept
    // Of those that are not kept it may have changed why.
    if (kept === undefined || kept === null || fromNs <= larger(kept.lastNs, kept.summedReadNs)) again.push(vmId)
    else list.push(kept)
  }
  if (list.length === 0) return { further: [], again }
  const [facts, heads] = await Promise.all([
    loadFacts(
      reader.sql,
      entry.customerId,
      list.map(({ series }) => series),
      list.map(({ fold, lastNs }) => fold.unsettledNs() ?? lastNs),
      rules.leaseNs,
    ),
    loadHeads(
      reader.sql,
      list.map(({ series, lastNs }) => ({ seriesId: series.seriesId, sinceNs: lastNs + 1n })),
    ),
  ])
  const further = list.map((kept, i) => ({ kept, facts: facts[i] ?? null, parts: heads[i] ?? null }))
  return { further, again }
}

/** Pushes what came behind the last readings; series that something else came to are read anew. */
async function goOn(
  reader: SampleReader,
  entry: Entry,
  { further, again: late }: Awaited<ReturnType<typeof newsOf>>,
  rules: FoldRules,
): Promise<void> {
  const again = new Set(late)
  for (const { kept, facts, parts } of further) {
    // Of another life of the entry: everything has just been read.
    if (entry.kept.get(kept.series.vmId)?.kept !== kept) continue
    const isBehind = parts?.every(({ minNs }) => minNs > kept.lastNs) === true
    if (facts === null || parts === null || !isBehind) {
      again.add(kept.series.vmId)
      continue
    }
    const settled = createCells(kept.edges, kept.settled)
    kept.fold = kept.fold.fork(facts, stretch => settle(kept, stretch, settled.add))
    const pieces = await piecesOf(reader, kept.series.seriesId, parts, { since: null, until: null, edges: kept.edges })
    for (const piece of pieces) await take(reader, kept, piece)
    finish(kept, facts)
  }
  const left = new Set([...again].filter(vmId => entry.kept.has(vmId)))
  if (left.size === 0) return
  const found = await findSeries(reader.sql, entry.customerId, entry.edges[0] ?? 0n, foreverNs, vmsPerQueryMax)
  await build(
    reader,
    entry,
    found.filter(({ vmId }) => left.has(vmId)),
    rules,
  )
}

async function answerOf(reader: SampleReader, entry: Entry, toNs: bigint, rules: FoldRules): Promise<VmUsage[]> {
  // A reading at its very end is no more of a span: what memory it saw is not.
  const isWithin = ({ endNs, lastNs }: Kept) => endNs <= toNs && lastNs < toNs
  const others = entry.order.filter(vmId => {
    const kept = entry.kept.get(vmId)?.kept
    return kept === undefined || kept === null || !isWithin(kept)
  })
  const folded = new Map<string, VmUsage>()
  if (others.length > 0) {
    const found = await findSeries(reader.sql, entry.customerId, entry.edges[0] ?? 0n, toNs, vmsPerQueryMax)
    const wanted = new Set(others)
    const list = found.filter(({ vmId }) => wanted.has(vmId))
    for (const usage of await usageOf(reader, entry.customerId, list, [...entry.edges, toNs], rules))
      folded.set(usage.vmId, usage)
  }
  return entry.order.flatMap(vmId => {
    const found = entry.kept.get(vmId)
    if (found?.kept !== undefined && found.kept !== null && isWithin(found.kept))
      return found.series.firstNs < toNs ? [found.kept.usage] : []
    return folded.get(vmId) ?? []
  })
}
