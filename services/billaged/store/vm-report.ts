import type { Sql } from '#platform/postgres'
import { type Cell, createCells } from '../usage/cells.ts'
import { type FoldRules, type Note, startFold } from '../usage/fold.ts'
import type { Life } from '../usage/ledger.ts'
import { countUpTo, type Marks } from '../usage/marks.ts'
import { createPeaks } from './fold-spans.ts'
import type { PartReader } from './parts.ts'
import { pushPiece } from './pieces.ts'
import { openWindow } from './window.ts'

/** Everything one VM's readings say about a span, with what lowered its bill. */
export interface VmReport {
  cell: Cell
  peakBytes: bigint
  lives: Life[]
  /** Of the readings the fold looked at, at most `notesMax`. */
  notes: Note[]
  /** How each stretch of time is known, in order. */
  timeline: { fromNs: bigint; toNs: bigint; kind: TimelineKind }[]
  /** Hosts that listed the VM. */
  instances: string[]
}

export type TimelineKind = 'measured' | 'gap' | 'unmeasured' | 'host_down' | 'disputed'

const notesMax = 10_000

export async function loadVmReport(
  reader: PartReader,
  o: {
    customerId: string
    vmId: string
    fromNs: bigint
    toNs: bigint
    rules: FoldRules
    nowNs: bigint
  },
): Promise<VmReport | null> {
  const { customerId, vmId, fromNs, toNs } = o
  const [series] = await reader.sql<{ seriesId: bigint; firstNs: bigint }[]>`
    select series_id as "seriesId", first_ns as "firstNs" from billaged.series
    where customer_id = ${customerId} and vm_id = ${vmId}`
  if (series === undefined) return null
  const window = await openWindow(reader, { ...series, customerId, vmId }, fromNs, toNs, o.rules, null)
  const { cells, add } = createCells([fromNs, toNs])
  const notes: Note[] = []
  const timeline = createTimeline(fromNs, toNs)
  const note = (found: Note) => {
    if (found.toNs >= fromNs && found.fromNs < toNs && notes.length < notesMax) notes.push(found)
  }
  const fold = startFold({ ...window, rules: o.rules, note }, stretch => {
    add(stretch)
    if (stretch.field === 'timeNs') timeline.add(stretch.fromNs, stretch.toNs, timelineKinds[stretch.kind])
    if (stretch.field === 'hostDownNs') timeline.add(stretch.fromNs, stretch.toNs, 'host_down')
  })
  const peaks = createPeaks([fromNs, toNs])
  for await (const piece of window.pieces) {
    await pushPiece(reader, series.seriesId, fold, piece)
    peaks.add(piece)
  }
  const { lives } = fold.finish(o.nowNs)
  const [cell] = cells
  if (cell === undefined) throw new Error('BUG: two edges make one cell')
  const [first, ...others] = lives
  // The life that the span begins in began at its own start mark, or with the series.
  if (first !== undefined && window.isContinued)
    first.startNs = beginningOf(window.marks, first.startNs) ?? series.firstNs
  return {
    cell,
    peakBytes: peaks.peaks[0] ?? 0n,
    lives: first === undefined ? [] : [first, ...others],
    notes,
    timeline: timeline.finish(),
    instances: await instancesOf(reader.sql, vmId),
  }
}

const timelineKinds = {
  measured: 'measured',
  shortGap: 'gap',
  longGap: 'gap',
  unmeasured: 'unmeasured',
  disputed: 'disputed',
} as const

/** The start mark of the life that runs at an instant; null when there is none since the stop before. */
function beginningOf({ starts, stops }: Marks, atNs: bigint): bigint | null {
  const start = starts[countUpTo(starts, atNs) - 1]
  const stop = stops[countUpTo(stops, atNs - 1n) - 1]
  if (start !== undefined && (stop === undefined || start >= stop)) return start
  return stop === undefined ? null : atNs
}

async function instancesOf(sql: Sql, vmId: string): Promise<string[]> {
  const rows = await sql<{ id: string }[]>`
    select distinct instance_id as id from billaged.vm_lease where vm_id = ${vmId} order by 1 limit 100`
  return rows.map(row => row.id)
}

/** Stretches of one kind that touch are one. A time is known before it is known that no host vouched for it. */
function createTimeline(fromNs: bigint, toNs: bigint) {
  const parts: VmReport['timeline'] = []
  return {
    add(from: bigint, to: bigint, kind: TimelineKind) {
      const [start, end] = [from > fromNs ? from : fromNs, to < toNs ? to : toNs]
      if (start < end) parts.push({ fromNs: start, toNs: end, kind })
    },
    finish(): VmReport['timeline'] {
      const down = parts.filter(part => part.kind === 'host_down')
      const strip: VmReport['timeline'] = []
      let next = 0
      const push = (part: VmReport['timeline'][number]) => {
        if (part.fromNs >= part.toNs) return
        const last = strip.at(-1)
        if (last?.kind === part.kind && last.toNs === part.fromNs) last.toNs = part.toNs
        else strip.push({ ...part })
      }
      for (const part of parts) {
        if (part.kind === 'host_down') continue
        let at = part.fromNs
        for (let cut = down[next]; cut !== undefined && cut.fromNs < part.toNs; cut = down[++next]) {
          push({ ...part, fromNs: at, toNs: cut.fromNs })
          push(cut)
          at = cut.toNs
        }
        push({ ...part, fromNs: at })
      }
      return strip
    },
  }
}
