// The folders of an embedded server and who may enter them.
//
//   <dir>/            0711 when root, else 0700; holds lock, server.conf, hba.conf, local.conf (the operator's)
//   <dir>/data/       PGDATA, 0700, the server's
//   <dir>/run/        the socket, 0700, the server's
//   <dir>/bin/<v>/    a copy of the programs, only when they could not be run where they are
//
// Who can connect: whoever can enter run/, that is the server's own user id and root. There is no TCP and no password;
// the folder is the gate. As root the user id is one that nobody else has.

import { createHash } from 'node:crypto'
import { chmod, chown, lstat, mkdir, mkdtemp, readdir, realpath, rm, rmdir, stat, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import type { Logger } from '#platform/telemetry'
import { type RunAs, runCommand } from './run-as.ts'

/** sun_path less its final NUL: 108 on Linux, 104 on macOS and the BSDs. */
const socketPathBytesMax = process.platform === 'linux' ? 107 : 103

/**
 * Makes the server's folder and returns its real path. As root, the folders above must let the server's user pass: those
 * from `ownDir` down are Purser's and are opened to passing (0711); a closed one further up is somebody's home, which is
 * left alone: then the server's folder moves to `sharedStateDir` and a link takes its place.
 */
export async function prepareFolder(o: {
  dir: string
  ownDir: string
  sharedStateDir: string
  runAs: RunAs | null
  log: Logger
}): Promise<string> {
  const { runAs, log } = o
  const dir = resolve(o.dir)
  await mkdir(dir, { recursive: true, mode: 0o700 })
  if (!runAs) {
    const real = await realpath(dir)
    if ((await stat(real)).uid === process.geteuid?.()) await chmod(real, 0o700)
    return real
  }
  // Through the link that an earlier start may have left here.
  const real = await realpath(dir)
  await chmod(real, 0o711)
  if (await canEnter(real, runAs)) return real
  for (const folder of between(dirname(dir), resolve(o.ownDir))) await openToPassing(folder)
  if (await canEnter(real, runAs)) return real

  const closed = await firstClosed(real)
  const isEmpty = (await readdir(real)).length === 0
  if (!isEmpty) {
    throw new Error(
      `user id ${runAs.uid}, which runs PostgreSQL, cannot reach ${dir}: ${closed} is closed to others. ` +
        `Allow passing with chmod o+x ${closed}, or move the data folder (PURSER_DATA_DIR) to where others may pass.`,
    )
  }
  await mkdir(o.sharedStateDir, { recursive: true, mode: 0o711 })
  const moved = await mkdtemp(join(o.sharedStateDir, 'postgres-'))
  await chmod(moved, 0o711)
  try {
    await rmdir(dir)
    await symlink(moved, dir)
  } catch (error) {
    await rmdir(moved)
    throw error
  }
  log.warn({ dir, moved }, `the database lives in ${moved}: ${closed} is closed to user id ${runAs.uid}`)
  if (!(await canEnter(moved, runAs))) {
    throw new Error(`user id ${runAs.uid} cannot reach ${moved}; set PURSER_DATA_DIR to a folder that others may pass`)
  }
  return realpath(moved)
}

/** From `folder` up to `top`, both included; none when `top` is no ancestor. */
function between(folder: string, top: string): string[] {
  const folders: string[] = []
  for (let at = folder; ; at = dirname(at)) {
    folders.push(at)
    if (at === top) return folders
    if (at === dirname(at)) return []
  }
}

async function openToPassing(folder: string): Promise<void> {
  const { mode, uid } = await stat(folder)
  if (uid === 0 && (mode & 0o011) !== 0o011) await chmod(folder, (mode & 0o7777) | 0o011)
}

async function canEnter(folder: string, runAs: RunAs): Promise<boolean> {
  const { exitCode } = await runCommand('/bin/sh', ['-c', 'cd -- "$1"', 'sh', folder], runAs)
  return exitCode === 0
}

async function firstClosed(dir: string): Promise<string> {
  const parts = dir.split('/')
  for (let i = 1; i <= parts.length; i++) {
    const folder = parts.slice(0, i).join('/') || '/'
    if (((await stat(folder)).mode & 0o001) === 0) return folder
  }
  return dir
}

/** A folder that only the server may enter (and root). */
export async function makePrivate(folder: string, runAs: RunAs | null): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  if (runAs) await chown(folder, runAs.uid, runAs.gid)
  await chmod(folder, 0o700)
}

/** `<dir>/run`, or a short folder outside when the socket's path would not fit; the same one at the next start. */
export async function prepareSocketDir(dir: string, port: number, runAs: RunAs | null): Promise<string> {
  const fits = (folder: string) => Buffer.byteLength(`${folder}/.s.PGSQL.${port}`) <= socketPathBytesMax
  const near = join(dir, 'run')
  if (fits(near)) {
    await makePrivate(near, runAs)
    return near
  }
  const name = createHash('sha256').update(dir).digest('hex').slice(0, 16)
  const bases = runAs ? ['/run/purser', tmpdir(), '/tmp'] : [tmpdir(), '/tmp']
  for (const base of bases) {
    const folder = base === '/run/purser' ? join(base, name) : join(base, `purser-${process.geteuid?.() ?? 0}-${name}`)
    if (!fits(`${folder}-XXXXXX`)) continue
    try {
      if (base === '/run/purser') await mkdir(base, { recursive: true, mode: 0o711 })
      return await claim(folder, runAs)
    } catch {
      // Not writable: the next base.
    }
  }
  throw new Error(
    `no folder for the socket of PostgreSQL: ${bases.join(', ')} are not writable or their paths too long`,
  )
}

/** A name in a shared /tmp can be foreseen and taken by someone else; then a random one serves. */
async function claim(folder: string, runAs: RunAs | null): Promise<string> {
  const owners = [runAs?.uid, process.geteuid?.()]
  const existing = await lstat(folder).catch(() => null)
  if (existing && !(existing.isDirectory() && owners.includes(existing.uid) && (existing.mode & 0o077) === 0)) {
    const other = await mkdtemp(`${folder}-`)
    await makePrivate(other, runAs)
    return other
  }
  await makePrivate(folder, runAs)
  return folder
}

/** Leftovers of an initdb that was killed. Best effort: one that still runs keeps its own folder and harms nobody. */
export async function removeUnfinished(dir: string): Promise<void> {
  for (const name of await readdir(dir)) {
    if (basename(name).startsWith(unfinishedPrefix))
      await rm(join(dir, name), { recursive: true, force: true }).catch(() => {})
  }
}

export const unfinishedPrefix = 'data.unfinished-'
