import { appendFile, lstat, mkdir, readFile, rename, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Counter } from 'prom-client'
import { z } from 'zod'
import type { HealthCheck } from '#platform/http'
import type { Journal } from '#platform/journal'
import type { Base } from '#platform/lifecycle'
import { digestPart } from '../samples/part.ts'
import type { DamagedPart } from './parts.ts'

/** What could not be read: set aside under `<data>/corrupt/` for a person, listed in a file beside it until that person
 *  removes the list, and told by /health and `billaged verify`. Reading goes on behind it. */
export interface Damage {
  /** From here on what this journal finds is told, too. */
  watch(journal: Journal): void
  part(error: Error, part: DamagedPart): void
  /** An acknowledged batch that does not decode or that the database refuses. */
  batch(name: string, payload: Uint8Array, error: unknown): Promise<string>
  health(): Promise<HealthCheck>
  /** One sentence each. */
  list(): Promise<string[]>
  close(): Promise<void>
}

/** The journal keeps its copies in a folder of its own; by this link they lie with all the others. */
export async function prepareCorruptFolder(dataDir: string): Promise<string> {
  const folder = join(dataDir, 'corrupt')
  const damaged = join(dataDir, 'journal', 'damaged')
  for (const dir of [folder, join(dataDir, 'journal')]) await mkdir(dir, { recursive: true, mode: 0o700 })
  const there = await lstat(damaged).catch(() => null)
  if (there?.isSymbolicLink()) return folder
  // Of an earlier version: kept whole.
  if (there !== null) await rename(damaged, join(folder, 'journal'))
  await symlink(join('..', 'corrupt'), damaged)
  return folder
}

export async function openDamage(folder: string, base: Base): Promise<Damage> {
  const listPath = join(folder, 'damage.ndjson')
  const counter = new Counter({
    name: 'billaged_damaged_total',
    help: 'Parts, journal ranges and batches found unreadable and set aside under corrupt/.',
    labelNames: ['what'],
    registers: [base.registry],
  })
  for (const what of ['part', 'batch', 'journal']) counter.inc({ what }, 0)
  const found = new Map<string, Entry>()
  const read = async () => {
    const text = await readFile(listPath, 'utf8').catch(() => '')
    const entries = text.split('\n').flatMap(line => parseEntry(line) ?? [])
    // A list that was taken away was looked at.
    found.clear()
    for (const entry of entries) found.set(entry.key, entry)
    return entries
  }
  await read()
  let journal: Journal | undefined
  let writing = Promise.resolve()

  function note(kind: Entry['kind'], key: string, reason: string, save?: () => Promise<unknown>) {
    if (found.has(key)) return
    const entry = { key, kind, reason, foundAt: new Date(base.clock.now()).toISOString() }
    found.set(key, entry)
    counter.inc({ what: kind })
    base.log.error({ what: kind, key, reason }, 'damage: it is set aside and left out, what lies around it is read')
    writing = writing
      .then(async () => {
        await save?.()
        await appendFile(listPath, `${JSON.stringify(entry)}\n`, { mode: 0o600 })
      })
      .catch((error: unknown) => {
        base.log.warn({ err: error, folder }, 'damaged bytes could not be copied aside')
      })
  }

  function lookAtJournal() {
    for (const { segment, from, to, reason } of journal?.damaged ?? [])
      note('journal', `${segment}-${from}-${to}`, `journal segment ${segment}, bytes ${from}–${to}: ${reason}`)
  }

  async function list() {
    lookAtJournal()
    await writing
    return (await read()).map(({ reason, foundAt }) => `${reason} (found ${foundAt})`)
  }

  return {
    watch(opened) {
      journal = opened
      lookAtJournal()
    },
    part(error, { seriesId, hour, body }) {
      const name = `part-${seriesId}-${hour}-${digestPart(body).toString('hex').slice(0, 16)}`
      const where = `part of series ${seriesId}, hour ${new Date(hour * 3_600_000).toISOString()}`
      const path = join(folder, `${name}.part`)
      note('part', name, `${where}: ${error.message}`, () => writeFile(path, body, { mode: 0o600 }))
    },
    async batch(name, payload, error) {
      const path = join(folder, `${name}.record`)
      const message = error instanceof Error ? error.message : String(error)
      note('batch', name, `acknowledged batch ${name}: ${message}`, () => writeFile(path, payload, { mode: 0o600 }))
      await writing
      return path
    },
    async health() {
      const problems = await list()
      if (problems.length === 0) return { status: 'ok' }
      const detail = `${problems.length} damaged and set aside, listed in ${listPath}; the last: ${problems.at(-1)}`
      return { status: 'degraded', detail }
    },
    list,
    async close() {
      lookAtJournal()
      await writing
    },
  }
}

const entrySchema = z.object({
  key: z.string(),
  kind: z.enum(['part', 'batch', 'journal']),
  reason: z.string(),
  foundAt: z.string(),
})
type Entry = z.infer<typeof entrySchema>

/** Null: half a line, of a crash. */
function parseEntry(line: string): Entry | null {
  try {
    return entrySchema.parse(JSON.parse(line))
  } catch {
    return null
  }
}
