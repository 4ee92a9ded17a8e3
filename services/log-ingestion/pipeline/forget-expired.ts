// What has expired also leaves the segments that the journal keeps to refill a restored database, within a day like
// everywhere. A segment goes whole, half a day after its first entry expired, and all before it go with it.
//
// Which entries a segment holds is read from it when it is half a day old: younger ones hold nothing that is overdue, and
// where much arrives none gets that old.

import type { Journal, JournalPosition } from '#platform/journal'
import { segmentBegunMs } from '#platform/journal/position'
import type { Clock } from '#platform/time'
import { levelAt } from '../level.ts'
import { RowWalk, readRecord } from '../record.ts'
import { keepOf, type RetentionRule } from '../store/visibility.ts'
import type { Acceptance } from './acceptance.ts'
import { forgetWritten } from './forget-deleted.ts'

const keepMs = 12 * 3_600_000
/** Read in one round: some tens of milliseconds, in pieces. */
const roundBytesMax = 8 * 1024 * 1024
const pieceBytes = 256 * 1024
/** Of one segment. Beyond that entries are judged by the shortest rule that their tenant has. */
const groupsMax = 2_000

/** Entries of one tenant, service and level; service null: of any. */
interface Group {
  tenant: string
  service: string | null
  level: string
  oldestMs: number
}

/** The answer is to be called now and then. */
export function createForgetExpired(o: {
  journal: Journal
  acceptance: Acceptance
  retention: () => readonly RetentionRule[]
  clock: Clock
}): () => Promise<void> {
  const { journal, clock } = o
  const segments = new Map<string, Map<string, Group>>()
  let position: JournalPosition | null = null

  /** Everything in segments that are old enough, a piece at a time. */
  const look = async () => {
    for (let bytes = 0; bytes < roundBytesMax; ) {
      const { batches } = await journal.read(position, { bytesMax: pieceBytes })
      for (const { segment, to, payload } of batches) {
        if (segmentBegunMs(segment) > clock.now() - keepMs) return
        const groups = segments.get(segment) ?? new Map<string, Group>()
        segments.set(segment, groups)
        addRows(groups, payload)
        position = { segment, offset: to }
        bytes += payload.length
      }
      if (batches.length === 0) return
    }
  }

  /** Segments that went by themselves. */
  const drop = async () => {
    const { batches } = await journal.read(null, { bytesMax: 1 })
    const oldest = batches[0]?.segment ?? journal.end.segment
    for (const id of segments.keys()) if (id < oldest) segments.delete(id)
  }

  return async () => {
    const rules = o.retention()
    if (rules.every(rule => rule.keepMs === null)) return
    await look()
    await drop()
    const nowMs = clock.now()
    const due = [...segments].filter(([, groups]) => isDue(groups.values(), rules, nowMs)).map(([id]) => id)
    const newest = due.sort().at(-1)
    if (newest !== undefined) await forgetWritten(o, segmentBegunMs(newest))
  }
}

function addRows(groups: Map<string, Group>, payload: Buffer): void {
  const record = readRecord(payload)
  const { tenant } = record
  for (const walk = new RowWalk(record); walk.next(); ) {
    const level = levelAt(walk.level)
    const isFull = groups.size >= groupsMax
    const service = isFull && !groups.has(idOf(tenant, walk.service, level)) ? null : walk.service
    const id = idOf(tenant, service, level)
    const atMs = walk.seconds * 1_000 + walk.nanos / 1_000_000
    const group = groups.get(id)
    if (group) group.oldestMs = Math.min(group.oldestMs, atMs)
    else groups.set(id, { tenant, service, level, oldestMs: atMs })
  }
}

const idOf = (tenant: string, service: string | null, level: string) => `${tenant}\0${level}\0${service ?? '\0'}`

function isDue(groups: Iterable<Group>, rules: readonly RetentionRule[], nowMs: number): boolean {
  const ofTenant = new Map<string, readonly RetentionRule[]>()
  for (const { tenant, service, level, oldestMs } of groups) {
    const ours = ofTenant.get(tenant) ?? rules.filter(rule => rule.tenant === null || rule.tenant === tenant)
    ofTenant.set(tenant, ours)
    const keep = service === null ? shortest(ours) : keepOf(ours, service, level)
    if (keep !== null && oldestMs + keep + keepMs < nowMs) return true
  }
  return false
}

function shortest(rules: readonly RetentionRule[]): number | null {
  const keeps = rules.flatMap(rule => (rule.keepMs === null ? [] : [rule.keepMs]))
  return keeps.length === 0 ? null : Math.min(...keeps)
}
