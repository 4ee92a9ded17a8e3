import { larger } from '../bigint.ts'
import type { Meter } from '../events/meter.ts'
import { type EventEvidence, eventLine, hourLine, isNothing, sampleSetDigest } from '../invoices/evidence.ts'
import { leafHash } from '../invoices/merkle.ts'
import { CorruptPart, decodePart } from '../samples/part.ts'
import { type Sample, sampleSet } from '../samples/sample.ts'
import { emptyCell } from '../usage/cells.ts'
import type { FoldRules } from '../usage/fold.ts'
import { sumCells } from '../usage/quantity.ts'
import type { VmUsage } from '../usage/rows.ts'
import { foldSpans } from './fold-spans.ts'
import { edgesOf, hourNs, type PlannedPeriod, type PricedPeriod, rateUsage } from './pricing.ts'
import { findSeries, type PartReader } from './series.ts'
import { loadEventUsage, vmsPerQueryMax } from './usage.ts'
import { loadSealedHour, readHours } from './usage-hours.ts'

export interface ProvenPeriod extends PricedPeriod {
  /** A VM at a time: its hours as lines of text. The last one, of no VM, holds the events. */
  evidence: { vmId: string; lines: string[] }[]
  leaves: Buffer[]
}

/** Rates a period like `pricePeriod`, hour by hour, and keeps what each hour was made of. */
export async function provePeriod(
  reader: PartReader,
  meters: readonly Meter[],
  rules: FoldRules,
  customerId: string,
  planned: PlannedPeriod,
): Promise<ProvenPeriod> {
  const { period, segments } = planned
  const [fromNs, toNs] = [hourNs(period.from), hourNs(period.to)]
  const evidence: ProvenPeriod['evidence'] = []
  const leaves: Buffer[] = []
  const keep = (vmId: string, lines: string[]) => {
    if (lines.length === 0) return
    evidence.push({ vmId, lines })
    for (const line of lines) leaves.push(leafHash(line))
  }
  const series = await findSeries(reader.sql, customerId, fromNs, toNs, vmsPerQueryMax)
  const vms: VmUsage[] = []
  for (const { seriesId, vmId } of series.toSorted((a, b) => (a.vmId < b.vmId ? -1 : 1))) {
    const hours = await proveHours(reader, { customerId, seriesId, vmId }, period, rules)
    const { sets } = hours
    const lines: string[] = []
    for (const [i, cell] of hours.cells.entries()) {
      const hour = period.from + i
      const set = sets.get(hour)
      if (set === undefined && isNothing(cell)) continue
      const { samples, digest } = set ?? { samples: 0, digest: emptyDigest }
      lines.push(hourLine({ vmId, hour, samples, digest, cell }))
    }
    keep(vmId, lines)
    const ofSegment = <T>(list: readonly T[], { from, to }: { from: number; to: number }) =>
      list.slice(from - period.from, to - period.from)
    vms.push({
      vmId,
      cells: segments.map(({ segment }) => sumCells(ofSegment(hours.cells, segment))),
      peaks: segments.map(({ segment }) => ofSegment(hours.peaks, segment).reduce(larger, 0n)),
    })
  }
  const events = await loadEventUsage(reader.sql, meters, customerId, edgesOf(planned))
  const eventLines: string[] = []
  for (const { segment } of segments)
    for (const row of await loadEventEvidence(reader, customerId, segment)) eventLines.push(eventLine(row))
  keep('', eventLines)
  return { ...rateUsage(planned, vms, events), evidence, leaves }
}

const emptyDigest = sampleSetDigest([])

/** Each hour's usage and set of samples: from the samples, and of sealed hours as it was written down. */
async function proveHours(
  reader: PartReader,
  series: { customerId: string; seriesId: bigint; vmId: string },
  period: { from: number; to: number },
  rules: FoldRules,
) {
  const { seriesId } = series
  const sealedHour = await loadSealedHour(reader.sql, seriesId)
  const from = Math.min(Math.max(period.from, sealedHour), period.to)
  const sets = await loadSampleSets(reader, seriesId, { from, to: period.to })
  const cells = Array.from({ length: period.to - period.from }, emptyCell)
  const peaks = cells.map(() => 0n)
  for (const { hour, cell, peak, set } of await readHours(reader.sql, seriesId, { from: period.from, to: from })) {
    cells[hour - period.from] = cell
    peaks[hour - period.from] = peak
    if (set !== null && set.samples > 0) sets.set(hour, set)
  }
  if (from < period.to) {
    const edges = Array.from({ length: period.to - from + 1 }, (_, i) => hourNs(from + i))
    const folded = await foldSpans(reader, series, edges, rules)
    for (const [i, cell] of folded.cells.entries()) {
      cells[from + i - period.from] = cell
      peaks[from + i - period.from] = folded.peaks[i] ?? 0n
    }
  }
  return { cells, peaks, sets }
}

/** Digest and size of each hour's set of samples: the union of its parts, however they were cut. */
export async function loadSampleSets(reader: PartReader, seriesId: bigint, period: { from: number; to: number }) {
  const sets = new Map<number, { samples: number; digest: string }>()
  let hour = period.from
  let samples: Sample[] = []
  const close = () => {
    if (samples.length === 0) return
    const set = sampleSet(samples)
    sets.set(hour, { samples: set.length, digest: sampleSetDigest(set) })
    samples = []
  }
  const parts = reader.sql<{ hour: number; body: Buffer }[]>`
    select hour, body from billaged.sample_part
    where series_id = ${seriesId} and hour >= ${period.from} and hour < ${period.to} order by hour`.cursor(200)
  for await (const rows of parts) {
    for (const row of rows) {
      if (row.hour !== hour) close()
      hour = row.hour
      try {
        for (const sample of decodePart(row.body)) samples.push(sample)
      } catch (error) {
        // The fold has left it out and said so.
        if (!(error instanceof CorruptPart)) throw error
      }
    }
  }
  close()
  return sets
}

async function loadEventEvidence(
  reader: PartReader,
  customerId: string,
  segment: { from: number; to: number },
): Promise<EventEvidence[]> {
  const rows = await reader.sql<{ type: string; count: number; digest: string }[]>`
    select type, count(*)::int4 as count, encode(sha256(string_agg(element, ''::bytea order by element)), 'hex') as digest
    from (
      select type, sha256(convert_to(source, 'UTF8') || '\\x00'::bytea || convert_to(id, 'UTF8') || '\\x00'::bytea || digest)
        as element
      from billaged.usage_event e
      where customer_id = ${customerId} and at_ns >= ${hourNs(segment.from)} and at_ns < ${hourNs(segment.to)}
        and not exists (select 1 from billaged.usage_void v where v.source = e.source and v.id = e.id)
    ) e
    group by type order by type collate "C"`
  return rows.map(row => ({ ...row, ...segment }))
}
