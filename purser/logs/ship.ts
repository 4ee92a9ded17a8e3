// `purser logs ship FILE…|-|journald`: carries log files into the service, and loses and repeats nothing on the way.
//
// Files are followed across rotation and truncation; stack traces stay with their line. A batch is noted before it leaves
// and forgotten when it is acknowledged, so that after a crash the same bytes go out under the same Idempotency-Key.

import { globSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { AlreadyLocked } from '#platform/lock'
import { sleep, systemClock } from '#platform/time'
import { clientFlags, openClient } from './client.ts'
import { readFlags } from './flags.ts'
import { type CommandContext, CommandFailed, Misuse } from './main.ts'
import { type Continuation, singleLines, stackTraces, startsAt } from './ship/events.ts'
import { type Batch, type FollowedFile, followFile } from './ship/followed-file.ts'
import { createProgress, progressLine, type ShipTotals } from './ship/progress.ts'
import { createSender, type Sender } from './ship/sender.ts'
import { journaldBatches, stdinBatches } from './ship/streams.ts'

const pollEveryMs = 200
const globEveryMs = 5_000
const filesMax = 1_000

export async function ship(args: readonly string[], { env }: CommandContext): Promise<number> {
  const { values, words } = readFlags(args, {
    ...clientFlags,
    service: { type: 'string' },
    level: { type: 'string' },
    multiline: { type: 'string' },
    from: { type: 'string' },
    state: { type: 'string' },
    once: { type: 'boolean' },
    journalctl: { type: 'string' },
    json: { type: 'boolean' },
  })
  if (words.length === 0) throw new Misuse('name files to ship, - for standard input, or journald')
  if (words.length > 1 && words.some(word => word === '-' || word === 'journald'))
    throw new Misuse('- and journald are shipped alone')
  const start = values.from ?? 'beginning'
  if (start !== 'beginning' && start !== 'end') throw new Misuse('--from is beginning or end')
  const continues = continuationOf(values.multiline)
  const dir = values.state ?? join(env.PURSER_DATA_DIR ?? '.purser', 'ship')
  const client = await openClient(env, values)

  const stop = new AbortController()
  process.once('SIGINT', () => stop.abort())
  process.once('SIGTERM', () => stop.abort())
  const warn = (message: string) => void process.stderr.write(`${process.stderr.isTTY ? '\r\x1b[K' : ''}${message}\n`)
  const parameters = new URLSearchParams()
  for (const name of ['service', 'level'] as const) if (values[name] !== undefined) parameters.set(name, values[name])
  if (values.tenant !== undefined) parameters.set('tenant', values.tenant)
  const sender = createSender({ client, parameters, stop: stop.signal, warn })

  const totals: ShipTotals = { files: 0, bytesShipped: 0, bytesTotal: 0, rowsAcknowledged: 0, rowsRejected: 0 }
  const measure = createProgress(() => systemClock.monotonicMs())
  const show = () => {
    const progress = measure(totals)
    if (values.json) process.stdout.write(`${JSON.stringify(progress)}\n`)
    else if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${progressLine(progress)}`)
  }
  const showing = setInterval(show, 1_000)
  const carry = (batch: Batch) => carryOne(sender, batch, totals)
  try {
    if (words[0] === '-') await shipStream(stdinBatches(process.stdin, continues), carry, totals)
    else if (words[0] === 'journald') {
      const command = values.journalctl ?? 'journalctl'
      const batches = journaldBatches({ dir, follow: values.once !== true, start, stop: stop.signal, command })
      await shipStream(batches, carry, totals)
    } else
      await shipFiles(
        { patterns: words, dir, continues, start, isOnce: values.once === true, stop: stop.signal, warn },
        carry,
        totals,
      )
  } finally {
    clearInterval(showing)
  }
  show()
  if (!values.json) process.stderr.write(`${process.stderr.isTTY ? '\r\x1b[K' : ''}${progressLine(measure(totals))}\n`)
  return 0
}

/** False: stopped before it was acknowledged. */
async function carryOne(sender: Sender, batch: Batch, totals: ShipTotals): Promise<boolean> {
  const sent = await sender.send(batch)
  if (!sent) return false
  batch.acknowledged()
  totals.rowsAcknowledged += sent.accepted
  totals.rowsRejected += sent.rejected
  return true
}

async function shipStream(
  batches: AsyncGenerator<Batch>,
  carry: (batch: Batch) => Promise<boolean>,
  totals: ShipTotals,
): Promise<void> {
  totals.files = 1
  for await (const batch of batches) {
    totals.bytesTotal += batch.bytes
    if (!(await carry(batch))) return
    totals.bytesShipped += batch.bytes
  }
}

interface FilesPlan {
  patterns: readonly string[]
  dir: string
  continues: Continuation
  start: 'beginning' | 'end'
  isOnce: boolean
  stop: AbortSignal
  warn: (message: string) => void
}

/** Each file has its own loop: one that is refused or quiet does not hold up the others. */
async function shipFiles(o: FilesPlan, carry: (batch: Batch) => Promise<boolean>, totals: ShipTotals): Promise<void> {
  const followed = new Map<string, FollowedFile>()
  const loops: Promise<void>[] = []
  const failure = new AbortController()
  const ends = AbortSignal.any([o.stop, failure.signal])
  let failed: unknown

  const follow = async (path: string) => {
    const file = await followFile({ ...o, path, now: () => systemClock.monotonicMs() }).catch(error => {
      if (error instanceof AlreadyLocked)
        throw new CommandFailed(
          `another shipper follows ${path} with ${o.dir}; stop it, or give this one its own --state`,
        )
      throw error
    })
    followed.set(path, file)
    loops.push(
      keepShipping(file).catch(error => {
        failed ??= error
        failure.abort()
      }),
    )
  }
  const keepShipping = async (file: FollowedFile) => {
    while (!ends.aborted) {
      const batch = await file.next(o.isOnce)
      count()
      if (batch) {
        if (!(await carry(batch))) return
        count()
      } else if (o.isOnce) return
      else await sleep(pollEveryMs, ends).catch(() => {})
    }
  }
  const count = () => {
    totals.files = followed.size
    totals.bytesTotal = 0
    totals.bytesShipped = 0
    for (const file of followed.values()) {
      const { total, shipped } = file.sizes()
      totals.bytesTotal += total
      totals.bytesShipped += shipped
    }
  }
  try {
    do {
      for (const path of pathsOf(o.patterns))
        if (!followed.has(path)) {
          if (followed.size >= filesMax)
            throw new CommandFailed(`more than ${filesMax} files; start one shipper per part`)
          await follow(path)
        }
      if (followed.size === 0 && o.isOnce) throw new CommandFailed(`no file matches ${o.patterns.join(' ')}`)
      if (!o.isOnce) await sleep(globEveryMs, ends).catch(() => {})
    } while (!o.isOnce && !ends.aborted)
    await Promise.all(loops)
    if (failed) throw failed
  } finally {
    failure.abort()
    await Promise.all(loops)
    for (const file of followed.values()) await file.close()
  }
}

/** A pattern in quotes is looked at again and again: files that appear later are followed too. */
function pathsOf(patterns: readonly string[]): string[] {
  const paths = patterns.flatMap(pattern => (/[*?[{]/.test(pattern) ? globSync(pattern) : [pattern]))
  return [...new Set(paths.map(path => resolve(path)))].filter(path => !/\.(?:gz|zst|xz|bz2)$/.test(path)).sort()
}

function continuationOf(flag: string | undefined): Continuation {
  if (flag === undefined || flag === 'traces') return stackTraces
  if (flag === 'off') return singleLines
  try {
    return startsAt(flag)
  } catch (error) {
    throw new Misuse(
      `--multiline is traces, off, or a regular expression that the first line of an event matches: ${error instanceof Error ? error.message : String(error)}`,
    )
  }
}
