// Where a process keeps its journal, and who it is. Each process locks a slot of its own under the data folder; the
// identity lies beside the journal, because a journal's records are numbered under it for ever.
//
//   <dataDir>/budgetguard/nodes/0/{node-id, journal/}

import { randomUUID } from 'node:crypto'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Journal, JournalLocked, type JournalOptions, openJournal } from '#platform/journal'

export interface Slot {
  index: number
  nodeId: string
  journal: Journal
}

export type JournalSettings = Pick<JournalOptions, 'bytesMax' | 'log' | 'registry' | 'metricPrefix' | 'clock'>

/** More processes than this on one data folder are a mistake. */
const slotsMax = 64

/** The name under which the fold releases what it has read. */
export const foldReader = 'fold'

const segmentBytes = 16 * 1024 * 1024

/** The first free slot: a dead process's slot with its journal, or a new one. */
export async function claimSlot(dir: string, settings: JournalSettings): Promise<Slot> {
  for (let index = 0; index < slotsMax; index++) {
    const slot = await openSlot(dir, index, settings)
    if (slot) return slot
  }
  throw new Error(`${dir}: all ${slotsMax} slots are taken by running processes`)
}

/** Slots beside ours whose process is gone. Each is the caller's to close. */
export async function claimDeadSlots(dir: string, own: number, settings: JournalSettings): Promise<Slot[]> {
  const names = (await readdir(dir)).filter(name => /^\d{1,2}$/.test(name) && Number(name) !== own)
  const slots: Slot[] = []
  for (const name of names) {
    const slot = await openSlot(dir, Number(name), settings)
    if (slot) slots.push(slot)
  }
  return slots
}

async function openSlot(dir: string, index: number, settings: JournalSettings): Promise<Slot | null> {
  const folder = join(dir, String(index))
  await mkdir(folder, { recursive: true, mode: 0o700 })
  try {
    const journal = await openJournal({
      ...settings,
      dir: join(folder, 'journal'),
      // A small journal still needs a few segments, or nothing could ever be released.
      segmentBytes: Math.min(segmentBytes, Math.floor(settings.bytesMax / 4)),
      readers: [foldReader],
    })
    return { index, nodeId: await readNodeId(join(folder, 'node-id')), journal }
  } catch (error) {
    if (error instanceof JournalLocked) return null
    throw error
  }
}

/** Only called under the journal's lock. */
async function readNodeId(path: string): Promise<string> {
  const known = await readFile(path, 'utf8').catch(() => '')
  if (/^[0-9a-f-]{36}\n$/.test(known)) return known.trim()
  const id = randomUUID()
  await writeFile(path, `${id}\n`, { mode: 0o600, flush: true })
  return id
}
