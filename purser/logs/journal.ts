// `purser logs journal status | inspect DIR | drain DIR`: what waits on disk, seen without touching it, or stored for a
// replica that is gone.

import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { formatProblems, loadConfig } from '#platform/config'
import { framesFrom } from '#platform/journal/frame'
import { listSegments, readFrames, readSegmentHeader, segmentPath } from '#platform/journal/segment'
import { createLog } from '#platform/telemetry'
import { rfc3339, systemClock } from '#platform/time'
import { databaseUrlOf, spec } from '../../services/log-ingestion/config.ts'
import { drainJournal } from '../../services/log-ingestion/pipeline/drain.ts'
import { readRecord } from '../../services/log-ingestion/record.ts'
import { openTerminal, table } from '../terminal.ts'
import { clientFlags, openClient } from './client.ts'
import { readFlags } from './flags.ts'
import { type CommandContext, CommandFailed, Misuse } from './main.ts'

const patienceMs = 60_000

export async function journal(args: readonly string[], { env }: CommandContext): Promise<number> {
  const { values, words } = readFlags(args, { ...clientFlags, json: { type: 'boolean' } })
  const [verb, dir, ...more] = words
  const wantsDir = { status: false, inspect: true, drain: true }[verb ?? '']
  if (wantsDir === undefined || more.length > 0 || (dir !== undefined) !== wantsDir)
    throw new Misuse('try: purser logs journal status | inspect DIR | drain DIR')
  if (verb === 'status' || dir === undefined) return await status(env, values)
  return verb === 'inspect' ? await inspect(dir, values.json === true) : await drain(dir, env, values.json === true)
}

async function status(
  env: CommandContext['env'],
  flags: { url?: string | undefined; key?: string | undefined; json?: boolean | undefined },
): Promise<number> {
  const client = await openClient(env, flags)
  const response = await fetch(`${client.url}/metrics`, { headers: client.headers() }).catch(() => undefined)
  if (!response?.ok) throw new CommandFailed(`${client.url}/metrics does not answer`)
  const text = await response.text()
  const names = ['bytes', 'capacity_bytes', 'disk_bytes', 'pending_rows', 'oldest_pending_seconds', 'damaged_ranges']
  const found = names.map(name => {
    const value = new RegExp(`^log_ingestion_journal_${name}(?:\\{[^}]*\\})? (\\S+)`, 'm').exec(text)?.[1] ?? '?'
    return [name, value] as const
  })
  if (flags.json === true) process.stdout.write(`${JSON.stringify(Object.fromEntries(found), null, 2)}\n`)
  else openTerminal().print(table(['JOURNAL', ''], found))
  return 0
}

/** Reads segments as they are: no lock, nothing cut or set aside. */
async function inspect(dir: string, isJson: boolean): Promise<number> {
  const folder = (await listSegments(join(dir, 'journal')).catch(() => undefined)) ? join(dir, 'journal') : dir
  const ids = await listSegments(folder).catch(() => {
    throw new CommandFailed(`${dir} holds no journal`)
  })
  for (const id of ids) {
    const file = await open(segmentPath(folder, id), 'r')
    try {
      const header = await readSegmentHeader(file)
      if (!header) {
        process.stdout.write(`${id}  header unreadable\n`)
        continue
      }
      const limit = (await file.stat()).size
      for (let from = framesFrom; from < limit; ) {
        const scan = await readFrames(file, header, { from, limit, bytesMax: 4 * 1024 * 1024 })
        for (const frame of scan.frames) {
          const { tenant, key, protocol, rows, receivedUs, rowsBefore } = readRecord(frame.payload)
          const received = rfc3339(Number(receivedUs / 1_000n))
          process.stdout.write(
            isJson
              ? `${JSON.stringify({ segment: id, from: frame.from, to: frame.to, tenant, key, protocol, rows, received, rowsBefore: String(rowsBefore) })}\n`
              : `${id} ${frame.from}–${frame.to}  ${received}  ${tenant}  ${key}  ${protocol}  ${rows} rows\n`,
          )
        }
        from = scan.next
      }
    } finally {
      await file.close()
    }
  }
  return 0
}

async function drain(dir: string, env: CommandContext['env'], isJson: boolean): Promise<number> {
  const loaded = loadConfig(spec, { env })
  if (!loaded.ok) throw new CommandFailed(formatProblems('log-ingestion', loaded.problems))
  const databaseUrl = databaseUrlOf(loaded.config)
  if (databaseUrl === undefined)
    throw new CommandFailed('say which database: LOG_INGESTION_DATABASE_URL or PURSER_DATABASE_URL')
  const log = createLog({ service: 'drain', level: 'silent', format: 'json' })
  const { dedupeWindowMs } = loaded.config
  const drained = await drainJournal({ dir, databaseUrl, dedupeWindowMs, patienceMs, clock: systemClock, log }).catch(
    error => {
      throw new CommandFailed(error instanceof Error ? error.message : String(error))
    },
  )
  const { stored, quarantined, duplicates, deletions, bytesLeft, problem } = drained
  if (isJson) process.stdout.write(`${JSON.stringify(drained, null, 2)}\n`)
  else
    process.stdout.write(
      `stored ${stored}  quarantined ${quarantined}  duplicates ${duplicates}  bytes left ${bytesLeft}\n`,
    )
  if (deletions > 0)
    process.stderr.write(
      `${deletions} deletions from after these entries were accepted look once more; a running service erases what they find\n`,
    )
  if (problem !== undefined) process.stderr.write(`not all of it: ${problem}\n`)
  return problem === undefined ? 0 : 1
}
