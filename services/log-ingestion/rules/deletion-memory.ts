// Deletions that this replica has heard of, in its data folder: what the database may lose and the journal must.
//
//   heard ──▶ heard       the database was restored from a backup older than the deletion: it is told again, before anything
//                         that the journal still keeps comes back
//   heard ──▶ forgotten   half a day later: kept segments from before the deletion are gone (pipeline/forget-deleted.ts)
//   forgotten ──▶ gone    no backup is that old any more

import { readFile, rename, writeFile } from 'node:fs/promises'
import type { Sql } from '#platform/postgres'
import type { Logger } from '#platform/telemetry'
import type { Clock } from '#platform/time'
import { type DeletionRequest, insertLostDeletions } from '../store/rules/deletions.ts'

export interface DeletionMemory {
  /** Kept before it returns, or said why not. */
  note(jobs: readonly DeletionRequest[]): Promise<void>
  /** Tells the database those that it does not know any more; how many. */
  restore(sql: Sql): Promise<number>
  /** What was accepted before this time, and deleted by a request from before the other, is still in the journal. */
  due(requestedBeforeMs: number): { acceptedBeforeMs: number } | undefined
  /** It is not any more. */
  forgotten(acceptedBeforeMs: number): Promise<void>
}

interface Known extends DeletionRequest {
  isForgotten: boolean
}

/** Longer than backups are kept as a rule. */
const keepMs = 90 * 86_400_000
const countMax = 10_000

export async function openDeletionMemory(o: { file: string; clock: Clock; log: Logger }): Promise<DeletionMemory> {
  const { clock, log } = o
  let known = new Map((await readKnown(o.file, log)).map(job => [job.id, job]))

  const save = async () => {
    const fromMs = clock.now() - keepMs
    const jobs = [...known.values()].filter(job => Date.parse(job.requestedAt) > fromMs).slice(-countMax)
    known = new Map(jobs.map(job => [job.id, job]))
    const text = JSON.stringify(jobs, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value))
    const temporary = `${o.file}.${process.pid}`
    try {
      await writeFile(temporary, text, { mode: 0o600, flush: true })
      await rename(temporary, o.file)
    } catch (error) {
      log.warn({ err: error }, 'deletions were not kept on disk: a database restored from a backup would not know them')
    }
  }

  return {
    async note(jobs) {
      const news = jobs.filter(job => !known.has(job.id))
      if (news.length === 0) return
      for (const { id, tenant, q, fromNs, toNs, reason, requestedBy, requestedAt, acceptedBeforeUs } of news) {
        const job = { id, tenant, q, fromNs, toNs, reason, requestedBy, requestedAt, acceptedBeforeUs }
        known.set(id, { ...job, isForgotten: false })
      }
      await save()
    },
    async restore(sql) {
      const lost = await insertLostDeletions(sql, [...known.values()])
      if (lost > 0) log.warn({ deletions: lost }, 'the database had lost deletions; they are done again')
      return lost
    },
    due(requestedBeforeMs) {
      const times = [...known.values()]
        .filter(job => !job.isForgotten && Date.parse(job.requestedAt) <= requestedBeforeMs)
        .map(job => Number(job.acceptedBeforeUs / 1_000n))
      return times.length === 0 ? undefined : { acceptedBeforeMs: Math.max(...times) }
    },
    async forgotten(acceptedBeforeMs) {
      for (const job of known.values())
        if (Number(job.acceptedBeforeUs / 1_000n) <= acceptedBeforeMs) job.isForgotten = true
      await save()
    },
  }
}

async function readKnown(file: string, log: Logger): Promise<Known[]> {
  const text = await readFile(file, 'utf8').catch(() => '[]')
  try {
    const rows: unknown = JSON.parse(text)
    if (!Array.isArray(rows)) throw new Error('it is no list')
    return rows.map(row => ({
      ...row,
      fromNs: BigInt(row.fromNs),
      toNs: BigInt(row.toNs),
      acceptedBeforeUs: BigInt(row.acceptedBeforeUs),
    }))
  } catch (error) {
    log.error({ err: error, file }, 'the deletions this replica knew of cannot be read; those in the database hold')
    return []
  }
}
