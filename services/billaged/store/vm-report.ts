import type { Sql } from '#platform/postgres'
import { larger } from '../bigint.ts'
import { type Cell, createCells } from '../usage/cells.ts'
import { type FoldRules, type Note, startFold } from '../usage/fold.ts'
import { withoutHost } from '../usage/host-down.ts'
import { createLives, type Life } from '../usage/lives.ts'
import { loadLeases } from './leases.ts'
import { loadMarks, loadReadings, type PartReader } from './series.ts'

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

export type TimelineKind = 'measured' | 'gap' | 'unmeasured' | 'host_down'

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
    leaseNs: bigint
  },
): Promise<VmReport | null> {
  const { customerId, vmId, fromNs, toNs } = o
  const [series] = await reader.sql<{ seriesId: bigint }[]>`
    select series_id as "seriesId" from billaged.series where customer_id = ${customerId} and vm_id = ${vmId}`
  if (series === undefined) return null
  const marks = await loadMarks(reader, customerId, vmId)
  const leases = await loadLeases(reader.sql, vmId, fromNs, toNs)
  const { isContinued, hours } = await loadReadings(reader, series.seriesId, fromNs, toNs)
  const { cells, add } = createCells([fromNs, toNs])
  const notes: Note[] = []
  const timeline = createTimeline(fromNs, toNs)
  const lives = createLives(marks, { nowNs: o.nowNs, leaseNs: o.leaseNs })
  const note = (found: Note) => {
    if (found.toNs >= fromNs && found.fromNs < toNs && notes.length < notesMax) notes.push(found)
  }
  const fold = startFold({ marks, rules: o.rules, isContinued, note }, stretch => {
    add(stretch)
    if (stretch.field === 'timeNs')
      timeline.add(
        stretch.fromNs,
        stretch.toNs,
        stretch.kind === 'measured' ? 'measured' : stretch.kind === 'unmeasured' ? 'unmeasured' : 'gap',
      )
    for (const down of withoutHost(stretch, leases)) {
      add(down)
      timeline.add(down.fromNs, down.toNs, 'host_down')
    }
  })
  let peakBytes = 0n
  for await (const readings of hours)
    for (const reading of readings) {
      fold.push(reading)
      lives.read(reading.atNs)
      if (reading.atNs >= fromNs && reading.atNs < toNs) peakBytes = larger(peakBytes, reading.low.memoryBytes)
    }
  fold.finish()
  const [cell] = cells
  if (cell === undefined) throw new Error('BUG: two edges make one cell')
  return {
    cell,
    peakBytes,
    lives: lives.finish(leases.spans.at(-1)?.toNs ?? null),
    notes,
    timeline: timeline.finish(),
    instances: await instancesOf(reader.sql, vmId),
  }
}

async function instancesOf(sql: Sql, vmId: string): Promise<string[]> {
  const rows = await sql<{ id: string }[]>`
    select distinct instance_id as id from billaged.vm_lease where vm_id = ${vmId} order by 1 limit 100`
  return rows.map(row => row.id)
}

/** Stretches of one kind that touch are one; a host that was down is cut out of the gap it lies in. */
function createTimeline(fromNs: bigint, toNs: bigint) {
  const parts: VmReport['timeline'] = []
  return {
    add(from: bigint, to: bigint, kind: TimelineKind) {
      const [start, end] = [from > fromNs ? from : fromNs, to < toNs ? to : toNs]
      if (start >= end) return
      const last = parts.at(-1)
      if (kind === 'host_down' && last !== undefined && last.fromNs <= start && last.toNs >= end) {
        parts.pop()
        const cut = [
          { ...last, toNs: start },
          { fromNs: start, toNs: end, kind },
          { ...last, fromNs: end },
        ]
        for (const part of cut) if (part.fromNs < part.toNs) parts.push(part)
      } else if (last?.kind === kind && last.toNs === start) last.toNs = end
      else parts.push({ fromNs: start, toNs: end, kind })
    },
    finish: () => parts,
  }
}
