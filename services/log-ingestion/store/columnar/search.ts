// Reading blocks: pages in (timestamp, id) order, counts per bucket, single entries.
//
// Blocks of a day overlap in time, so their rows are merged: blocks come in the order of their newest row (oldest, in
// ascending order), and what was found so far goes out as soon as no later block can hold anything before it.

import type { Tx } from '#platform/postgres'
import { levelAt } from '../../level.ts'
import { type Candidate, compile } from '../../query/evaluate.ts'
import { addCount, emptyPage, type Reader, type ReadPlan, type Windowed } from '../reader.ts'
import {
  type BucketCounts,
  type BucketPlan,
  idMax,
  idMin,
  type Place,
  type SearchPage,
  type StoredEntry,
} from '../store.ts'
import {
  type BlockHeader,
  type HeaderRow,
  headerColumns,
  headerOf,
  listHeaders,
  loadSections,
  nextDay,
  type SectionName,
} from './blocks.ts'
import { asksBloom, bloomMayMatch } from './bloom.ts'
import { Block, type BlockSections } from './decode.ts'
import { headerMayMatch, type Needs, needsOf, planPrefilter } from './prune.ts'

export const columnarReader: Reader = {
  hasData: hasBlocks,
  search: searchBlocks,
  find: findInBlocks,
  count: countBlocks,
}

const dayNs = 86_400_000_000_000n
const headersAtOnce = 256
/** Blocks fetched together: the first search for the newest hundred needs one, a long scan saves round trips. */
const blocksAtOnceMax = 8

async function hasBlocks(tx: Tx): Promise<boolean> {
  const [row] = await tx<{ found: boolean }[]>`select exists(select from purser_logs.blocks) as found`
  return row?.found ?? false
}

/** The part of a plan that every read has. */
type RangePlan = Windowed<Pick<BucketPlan, 'tenant' | 'query' | 'fromNs' | 'toNs'>>

async function searchBlocks(tx: Tx, plan: ReadPlan, now: () => number): Promise<SearchPage> {
  const startedMs = now()
  const page = emptyPage()
  const isDesc = plan.order === 'desc'
  const matches = compile(plan.query)
  const prefilter = planPrefilter(plan.query)
  const { isVisible } = plan.view
  const kept = new Kept(plan)
  let bytes = 0

  /** Moves to the page what lies before `edge`; true when the page is full. */
  const flush = (edge: bigint | undefined): boolean => {
    for (const entry of kept.takeBefore(edge)) {
      if (page.entries.length === plan.limit) return finish(page, false)
      bytes += sizeOf(entry)
      if (bytes > plan.bytesMax && page.entries.length > 0) return finish(page, true)
      page.entries.push(entry)
    }
    return false
  }

  const everything = ['head', 'messages', 'metadata'] as const
  // What is hidden is decided like a match, by all of an entry.
  const isWhole = plan.query.kind === 'all' || isVisible !== null
  const first = isWhole ? everything : sectionsFor(needsOf(plan.query))
  let blocksRead = 0
  for await (const { header, base, sections, low, high } of readBlocks(tx, plan, plan.order, plan.after, first, page)) {
    const edge = base + (isDesc ? header.maxNs : header.minNs)
    if (flush(edge)) return page
    if (blocksRead > 0 && (now() - startedMs >= plan.timeoutMs || page.scannedRows >= plan.rowsScannedMax)) {
      page.isPartial = true
      page.resume = { timestampNs: edge, id: isDesc ? idMax : idMin }
      return page
    }
    blocksRead++
    page.scannedBlocks++
    const block = new Block(sections)
    const view = new RowView(block, base)
    const [from, to] = rowsBetween(block.nsOfDay, low, high)
    page.scannedRows += to - from
    const { rows, isExact } = prefilter(block)
    const found: number[] = []
    // Only so many of one block can be in this page.
    for (let i = from; i < to && found.length <= plan.limit; i++) {
      const row = isDesc ? to - 1 - (i - from) : i
      if (rows && rows[row] === 0) continue
      view.row = row
      if (plan.after && !isBehind(view, plan.after, isDesc)) continue
      if (!isExact && !matches(view)) continue
      if (isVisible && !isVisible(entryAt(block, base, row))) continue
      found.push(row)
    }
    if (found.length === 0) continue
    const missing = everything.filter(name => sections[name] === undefined)
    const whole = missing.length === 0 ? block : new Block({ ...sections, ...(await loadRest(tx, header, missing)) })
    for (const row of found) kept.add(entryAt(whole, base, row))
    kept.trim()
  }
  flush(undefined)
  return page
}

function finish(page: SearchPage, isPartial: boolean): true {
  const last = page.entries.at(-1)
  page.resume = last && { timestampNs: last.timestampNs, id: last.id }
  page.isPartial = isPartial
  return true
}

function sizeOf(entry: StoredEntry): number {
  return entry.message.length + (entry.metadata?.length ?? 0) + 200
}

/** Matches that a later block may still push aside: as many, and as many bytes, as end a page. */
class Kept {
  #entries: StoredEntry[] = []
  readonly #plan: ReadPlan
  readonly #compare: (a: Place, b: Place) => number

  constructor(plan: ReadPlan) {
    this.#plan = plan
    const direction = plan.order === 'desc' ? -1 : 1
    this.#compare = (a, b) =>
      direction * (a.timestampNs < b.timestampNs ? -1 : a.timestampNs > b.timestampNs ? 1 : a.id < b.id ? -1 : 1)
  }

  add(entry: StoredEntry): void {
    this.#entries.push(entry)
  }

  trim(): void {
    const { limit, bytesMax } = this.#plan
    this.#entries.sort(this.#compare)
    let bytes = 0
    const end = this.#entries.findIndex((entry, i) => {
      bytes += sizeOf(entry)
      return i === limit || (bytes > bytesMax && i > 0)
    })
    if (end >= 0) this.#entries.length = end + 1
  }

  takeBefore(edge: bigint | undefined): StoredEntry[] {
    const isDesc = this.#plan.order === 'desc'
    const end =
      edge === undefined
        ? -1
        : this.#entries.findIndex(({ timestampNs }) => (isDesc ? timestampNs <= edge : timestampNs >= edge))
    return this.#entries.splice(0, end < 0 ? this.#entries.length : end)
  }
}

function isBehind(place: Place, after: Place, isDesc: boolean): boolean {
  if (place.timestampNs !== after.timestampNs) return place.timestampNs < after.timestampNs === isDesc
  return place.id !== after.id && place.id < after.id === isDesc
}

interface ReadBlock {
  header: BlockHeader
  /** Start of its day, ns since 1970. */
  base: bigint
  sections: BlockSections
  /** The plan's range inside the day. */
  low: bigint
  high: bigint
}

/** Blocks that may hold something, in order, with the sections asked for. */
async function* readBlocks(
  tx: Tx,
  plan: RangePlan,
  order: 'asc' | 'desc',
  after: Place | undefined,
  names: readonly SectionName[],
  stats: { skippedBlocks: number },
): AsyncGenerator<ReadBlock> {
  const bloom = asksBloom(plan.query)
  let atOnce = 1
  for await (const { headers, base, low, high } of headerPages(tx, plan, order, after)) {
    const wanted: BlockHeader[] = []
    for (const header of headers) {
      if (headerMayMatch(header, plan.query, base)) wanted.push(header)
      else stats.skippedBlocks++
    }
    for (let at = 0; at < wanted.length; atOnce = Math.min(blocksAtOnceMax, atOnce * 2)) {
      let group = wanted.slice(at, at + atOnce)
      at += atOnce
      if (bloom) {
        const blooms = await loadSections(tx, group, ['bloom'])
        const passing = group.filter((_, i) => {
          const bits = blooms[i]?.bloom
          return bits === undefined || bloomMayMatch(bits, plan.query)
        })
        stats.skippedBlocks += group.length - passing.length
        group = passing
      }
      const loaded = await loadSections(tx, group, names)
      for (const [i, header] of group.entries()) {
        const sections = loaded[i]
        // The snapshot of the transaction that listed it still has it.
        if (!sections?.head) throw new Error(`BUG: block ${header.id} vanished inside a snapshot`)
        yield { header, base, low, high, sections: { ...sections, head: sections.head } }
      }
    }
  }
}

async function* headerPages(
  tx: Tx,
  plan: RangePlan,
  order: 'asc' | 'desc',
  after: Place | undefined,
): AsyncGenerator<{ headers: BlockHeader[]; base: bigint; low: bigint; high: bigint }> {
  const isDesc = order === 'desc'
  let fromNs = plan.view.fromNs !== null && plan.view.fromNs > plan.fromNs ? plan.view.fromNs : plan.fromNs
  let toNs = plan.toNs
  if (after && isDesc && after.timestampNs + 1n < toNs) toNs = after.timestampNs + 1n
  if (after && !isDesc && after.timestampNs > fromNs) fromNs = after.timestampNs
  let lowDay = dayOfNs(fromNs)
  let highDay = dayOfNs(toNs - 1n)
  while (fromNs < toNs && lowDay <= highDay) {
    const day = await nextDay(tx, plan.tenant, lowDay, highDay, order)
    if (day === undefined) return
    const base = BigInt(day) * dayNs
    const low = fromNs > base ? fromNs - base : 0n
    const high = toNs < base + dayNs ? toNs - base : dayNs
    let place: { ns: bigint; id: bigint } | undefined
    for (;;) {
      const headers = await listHeaders(tx, {
        tenant: plan.tenant,
        day,
        order,
        fromNs: low,
        toNs: high,
        after: place,
        limit: headersAtOnce,
      })
      if (headers.length > 0) yield { headers, base, low, high }
      const last = headers.at(-1)
      if (!last || headers.length < headersAtOnce) break
      place = { ns: isDesc ? last.maxNs : last.minNs, id: last.id }
    }
    if (isDesc) highDay = day - 1
    else lowDay = day + 1
  }
}

export function dayOfNs(ns: bigint): number {
  return Number(ns / dayNs - (ns % dayNs < 0n ? 1n : 0n))
}

function sectionsFor({ messages, metadata }: Needs): SectionName[] {
  return ['head', ...(messages ? (['messages'] as const) : []), ...(metadata ? (['metadata'] as const) : [])]
}

async function loadRest(tx: Tx, header: BlockHeader, names: readonly SectionName[]): Promise<Partial<BlockSections>> {
  const [sections] = await loadSections(tx, [header], names)
  if (!sections) throw new Error(`BUG: block ${header.id} vanished inside a snapshot`)
  return sections
}

/** The first and the end of the rows with low <= time < high. */
export function rowsBetween(nsOfDay: Float64Array, low: bigint, high: bigint): [number, number] {
  return [firstAtLeast(nsOfDay, Number(low)), firstAtLeast(nsOfDay, Number(high))]
}

function firstAtLeast(values: Float64Array, least: number): number {
  let low = 0
  let high = values.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((values[middle] as number) < least) low = middle + 1
    else high = middle
  }
  return low
}

/** One row as the evaluator looks at it: nothing is made that it does not ask for. */
class RowView implements Candidate {
  row = 0
  readonly #block: Block
  readonly #base: bigint

  constructor(block: Block, base: bigint) {
    this.#block = block
    this.#base = base
  }

  get id(): bigint {
    return this.#block.minId + BigInt(this.#block.ids[this.row] as number)
  }

  get timestampNs(): bigint {
    return this.#base + BigInt(this.#block.nsOfDay[this.row] as number)
  }

  get service(): string {
    return this.#block.services[this.#block.serviceNumbers[this.row] as number] as string
  }

  get level(): string {
    return levelAt(this.#block.levels[this.row] as number)
  }

  get message(): string {
    return this.#block.messages.text(this.row)
  }

  get metadata(): string | null {
    return this.#block.metadata.text(this.row)
  }
}

export function entryAt(block: Block, base: bigint, row: number): StoredEntry {
  return {
    id: block.minId + BigInt(block.ids[row] as number),
    timestampNs: base + BigInt(block.nsOfDay[row] as number),
    service: block.services[block.serviceNumbers[row] as number] as string,
    level: levelAt(block.levels[row] as number),
    message: block.messages.text(row),
    metadata: block.metadata.text(row),
    createdUs: BigInt(block.createdUs[row] as number),
  }
}

async function findInBlocks(tx: Tx, tenant: string, id: bigint): Promise<StoredEntry | undefined> {
  if (id > idMax) return undefined
  const rows = await tx<HeaderRow[]>`
    select ${headerColumns(tx)} from purser_logs.blocks b
    where b.tenant = ${tenant} and b.max_id >= ${id} and b.min_id <= ${id}`
  for (const header of rows.map(headerOf)) {
    const [head] = await loadSections(tx, [header], ['head'])
    if (!head?.head) continue
    const block = new Block({ head: head.head })
    const row = block.ids.indexOf(Number(id - block.minId))
    if (row < 0) continue
    const rest = await loadRest(tx, header, ['messages', 'metadata'])
    return entryAt(new Block({ head: head.head, ...rest }), BigInt(header.day) * dayNs, row)
  }
  return undefined
}

async function countBlocks(tx: Tx, plan: Windowed<BucketPlan>, now: () => number): Promise<BucketCounts> {
  const startedMs = now()
  const result: BucketCounts = { counts: new Map(), scannedRows: 0, isPartial: false }
  const matches = compile(plan.query)
  const prefilter = planPrefilter(plan.query)
  const { isVisible } = plan.view
  const names: SectionName[] = isVisible ? ['head', 'messages', 'metadata'] : sectionsFor(needsOf(plan.query))
  for await (const { base, sections, low, high } of readBlocks(tx, plan, 'asc', undefined, names, {
    skippedBlocks: 0,
  })) {
    const block = new Block(sections)
    const [from, to] = rowsBetween(block.nsOfDay, low, high)
    result.scannedRows += to - from
    const { rows, isExact } = prefilter(block)
    const view = new RowView(block, base)
    const values = plan.by === 'level' ? block.levels : plan.by === 'service' ? block.serviceNumbers : undefined
    const names = plan.by === 'service' ? block.services : undefined
    const { nsOfDay } = block
    const buckets = bucketsOf(plan, base)
    // Rows of one block fall into few buckets, in order.
    let bucket = -1
    let until = Number.NEGATIVE_INFINITY
    let counts: number[] = []
    const store = () =>
      counts.forEach((count, value) => {
        if (count > 0)
          addCount(result, bucket, names?.[value] ?? (plan.by === 'level' ? levelAt(value) : ''), BigInt(count))
      })
    for (let row = from; row < to; row++) {
      if (rows && rows[row] === 0) continue
      if (!isExact || isVisible) {
        view.row = row
        if (!isExact && !matches(view)) continue
        if (isVisible && !isVisible(entryAt(block, base, row))) continue
      }
      const ns = nsOfDay[row] as number
      if (ns >= until) {
        store()
        counts = []
        const place = buckets(ns)
        bucket = place.bucket
        until = place.until
      }
      const value = values ? (values[row] as number) : 0
      counts[value] = (counts[value] ?? 0) + 1
    }
    store()
    if (now() - startedMs >= plan.timeoutMs || result.scannedRows >= plan.rowsScannedMax) {
      result.isPartial = true
      break
    }
  }
  return result
}

/** The bucket of a time inside the day, and where in the day it ends. */
function bucketsOf(
  { originNs, intervalNs }: BucketPlan,
  base: bigint,
): (ns: number) => { bucket: number; until: number } {
  return ns => {
    const bucket = (base + BigInt(ns) - originNs) / intervalNs
    return { bucket: Number(bucket), until: Number(originNs + (bucket + 1n) * intervalNs - base) }
  }
}
