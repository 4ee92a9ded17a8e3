// A real PostgreSQL server beside the program, for machines that have none.
//
// states: preparing → initialising (first start) → starting → running → (died → waiting → starting …) → closing → closed
// A server that dies is started again with growing pauses for as long as we live; clients see lost connections and
// reconnect. A start that fails the first time is the caller's to report.

import { chmod, chown, lchown, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { lockFile } from '#platform/lock'
import type { Logger } from '#platform/telemetry'
import { sleep } from '#platform/time'
import { type Binaries, findBinaries } from './binaries.ts'
import { makePrivate, prepareFolder, prepareSocketDir, removeUnfinished, unfinishedPrefix } from './folders.ts'
import { type Postmaster, startPostmaster } from './postmaster.ts'
import { chooseRunAs, namedAccount, type RunAs, runCommand } from './run-as.ts'
import { hbaConf, serverConf } from './server-conf.ts'
import { openSql } from './sql.ts'
import { socketUrl } from './url.ts'

export interface EmbeddedOptions {
  /** The server's folder, made when missing. */
  dir: string
  log: Logger
  /** Default true. Off only for tests. */
  fsync?: boolean
  /** Purser's data folder, an ancestor of `dir`; its parent unless given. As root, it and what lies between are opened
   *  for passing (0711) when they must be. Nothing above it is touched. */
  dataDir?: string
  /** As root: where the server's folder goes when the folders above `dir` are closed. */
  sharedStateDir?: string
}

export interface EmbeddedPostgres {
  /** Database `purser`, user `purser`, over the unix socket. */
  url: string
  socketDir: string
  port: number
  /** Of the running server; changes when it is restarted. */
  readonly pid: number
  close(): Promise<void>
}

const port = 5432
const superuser = 'purser'
/** Pauses before restarts; the last one repeats. Back within 60 s of a death, whatever the cause of the first tries. */
const restartPausesMs = [100, 500, 1_000, 2_000, 5_000, 10_000]

export async function startEmbedded(o: EmbeddedOptions): Promise<EmbeddedPostgres> {
  const { log, fsync = true } = o
  let runAs = await chooseRunAs(join(o.dir, 'data'))
  const dir = await prepareFolder({
    dir: o.dir,
    ownDir: o.dataDir ?? dirname(o.dir),
    sharedStateDir: o.sharedStateDir ?? '/var/lib/purser',
    runAs,
    log,
  })
  const lock = await lockFile(join(dir, 'lock')).catch(error => explainForeign(dir, error))
  try {
    const dataDir = join(dir, 'data')
    runAs = await chooseRunAs(dataDir)
    const binaries = await findBinaries({ copyDir: join(dir, 'bin'), runAs, log })
    await removeUnfinished(dir)
    if (!(await checkVersion(dataDir, binaries))) await initialise({ dir, dataDir, binaries, runAs, fsync, log })

    const socketDir = await prepareSocketDir(dir, port, runAs)
    const configFile = join(dir, 'server.conf')
    const hbaFile = join(dir, 'hba.conf')
    await writeShared(hbaFile, hbaConf)
    await writeShared(configFile, serverConf({ socketDir, port, hbaFile, fsync }))

    const closing = new AbortController()
    const start = () =>
      startPostmaster({ program: binaries.postgres, dataDir, configFile, runAs, log, signal: closing.signal })
    let postmaster = await start()
    try {
      await ensureDatabase(socketDir, log)
    } catch (error) {
      await postmaster.stop()
      throw error
    }
    const keeping = keepRunning(postmaster, start, closing.signal, log, next => {
      postmaster = next
    })
    let closed: Promise<void> | undefined
    async function close() {
      closing.abort()
      await keeping
      await postmaster.stop()
      lock.release()
    }
    return {
      url: socketUrl({ socketDir, port, user: superuser, database: 'purser' }),
      socketDir,
      port,
      get pid() {
        return postmaster.pid
      },
      close() {
        closed ??= close()
        return closed
      },
    }
  } catch (error) {
    lock.release()
    throw error
  }
}

/** The given database, or an embedded one in `dir`: `<dataDir>/postgres`, or for a service alone `<dataDir>/<service>/postgres`. */
export async function resolveDatabase(o: {
  url?: string | undefined
  dir: string
  dataDir?: string
  log: Logger
}): Promise<{ url: string; isEmbedded: boolean; close(): Promise<void> }> {
  if (o.url) return { url: o.url, isEmbedded: false, close: async () => {} }
  const { dir, log, dataDir } = o
  const server = await startEmbedded({ dir, log, ...(dataDir === undefined ? {} : { dataDir }) })
  return { url: server.url, isEmbedded: true, close: () => server.close() }
}

/** Returns when closing. */
async function keepRunning(
  first: Postmaster,
  start: () => Promise<Postmaster>,
  closing: AbortSignal,
  log: Logger,
  onStarted: (postmaster: Postmaster) => void,
): Promise<void> {
  const closed = new Promise<'closing'>(resolve => {
    closing.addEventListener('abort', () => resolve('closing'), { once: true })
  })
  let current = first
  while (!closing.aborted) {
    const end = await Promise.race([current.ended, closed])
    if (end === 'closing') return
    log.error({ pid: current.pid, ...end }, 'PostgreSQL died; starting it again')
    for (let attempt = 0; !closing.aborted; attempt++) {
      try {
        await sleep(restartPausesMs[Math.min(attempt, restartPausesMs.length - 1)] ?? 0, closing)
        current = await start()
        onStarted(current)
        log.info({ pid: current.pid, attempt }, 'PostgreSQL is back')
        break
      } catch (error) {
        if (!closing.aborted) log.error({ err: error, attempt }, 'PostgreSQL could not be started again yet')
      }
    }
  }
}

/** A folder that root's Purser made cannot be used by an ordinary user, and the raw EACCES does not say so. */
async function explainForeign(dir: string, error: unknown): Promise<never> {
  const { uid } = await stat(dir)
  if (!(error instanceof Error && 'code' in error && error.code === 'EACCES')) throw error
  throw new Error(
    `${dir} belongs to user id ${uid}, and this process runs as ${process.geteuid?.()}. ` +
      'Start Purser as that user, or give the folder to this one (chown -R), or choose another PURSER_DATA_DIR.',
    { cause: error },
  )
}

/** False when there is no data folder yet. */
async function checkVersion(dataDir: string, { major }: Binaries): Promise<boolean> {
  const text = await readFile(join(dataDir, 'PG_VERSION'), 'utf8').catch(error => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
    throw error
  })
  if (text === null) return false
  if (Number.parseInt(text, 10) === major) return true
  throw new Error(
    `${dataDir} was written by PostgreSQL ${text.trim()}, and this program brings ${major}. ` +
      `Dump it with the program that wrote it and restore it here, or run pg_upgrade.`,
  )
}

/**
 * The folder gets its name when it is complete, so a half-made one is never taken for a database.
 *
 * Builtin C.UTF-8: text sorts by code point, as fast as memcmp, and an index stays valid when the C library or ICU of the
 * machine changes (a libc locale's does not); upper and lower know all of Unicode.
 */
async function initialise(o: {
  dir: string
  dataDir: string
  binaries: Binaries
  runAs: RunAs | null
  fsync: boolean
  log: Logger
}): Promise<void> {
  const startedAt = performance.now()
  const unfinished = await mkdtemp(join(o.dir, unfinishedPrefix))
  const initAs = o.runAs ? await namedAccount() : null
  await makePrivate(unfinished, initAs)
  const args = ['-D', unfinished, '-U', superuser, '--encoding=UTF8', '--locale=C', '--locale-provider=builtin']
  args.push('--builtin-locale=C.UTF-8', '--auth-local=trust', '--auth-host=reject', '--no-instructions')
  if (!o.fsync) args.push('--no-sync')
  const { exitCode, output } = await runCommand(o.binaries.initdb, args, initAs)
  if (exitCode !== 0) throw new Error(`initdb failed in ${unfinished}: ${output.trim() || `exit code ${exitCode}`}`)
  if (o.runAs) await chownTree(unfinished, o.runAs)
  // Remains of something that is not a database (no PG_VERSION) would be in the way; an empty folder is replaced.
  await rename(unfinished, o.dataDir)
  o.log.info({ durationMs: Math.round(performance.now() - startedAt) }, 'database folder made')
}

/** Closed to the account that made it first, so that nothing of it can be swapped for a link on the way. */
async function chownTree(folder: string, { uid, gid }: RunAs): Promise<void> {
  await chown(folder, 0, 0)
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true })) {
    await lchown(join(entry.parentPath, entry.name), uid, gid)
  }
  await chown(folder, uid, gid)
}

async function ensureDatabase(socketDir: string, log: Logger): Promise<void> {
  const url = socketUrl({ socketDir, port, user: superuser, database: 'postgres' })
  const sql = openSql({ url, max: 1, applicationName: 'purser-start', log })
  try {
    const [found] = await sql`select from pg_database where datname = 'purser'`
    if (!found) await sql`create database purser`
  } finally {
    await sql.end({ timeout: 5 })
  }
}

/** Written beside and renamed: the server may be reading. World-readable: the server is another user, nothing is secret. */
async function writeShared(path: string, text: string): Promise<void> {
  const partial = join(dirname(path), `.${process.pid}.partial`)
  await rm(partial, { force: true })
  await writeFile(partial, text, { mode: 0o644 })
  await chmod(partial, 0o644)
  await rename(partial, path)
}
