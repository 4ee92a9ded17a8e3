// One collector per database.
//
// The lock is flock(2) on `<db>.lock`, taken by the `flock` helper on a descriptor of ours that it inherits: the lock
// belongs to the open file, so it outlives the helper and goes when this process does, however it dies. The file
// stays for ever; removing it would let two processes lock two files of the same name.

import { spawnSync } from 'node:child_process'
import { closeSync, fsyncSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { alreadyRunning, unusableDatabase } from '../errors.ts'

export interface Lock {
  path: string
  release(): void
}

/** @throws StartError when another process holds it; the database has not been touched then. */
export function takeLock(databasePath: string): Lock {
  const path = `${databasePath}.lock`
  const fd = openLock(path, databasePath)
  try {
    const release = flock(fd, path) ?? guardWithSqlite(databasePath, path)
    ftruncateSync(fd)
    writeSync(fd, `${process.pid}\n`, 0)
    fsyncSync(fd)
    return {
      path,
      release() {
        release()
        closeSync(fd)
      },
    }
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

function openLock(path: string, databasePath: string): number {
  try {
    return openSync(path, 'a+', 0o640)
  } catch (error) {
    throw unusableDatabase(databasePath, `its lock file cannot be opened (${messageOf(error)})`, mendFor(error))
  }
}

export function mendFor(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code === 'ENOENT') return 'Create its folder and give it to this user (mode 750), or set storage.path.'
  if (code === 'EACCES' || code === 'EPERM') return 'Give its folder to this user (chown), or set storage.path.'
  if (code === 'EROFS') return 'The file system is mounted read-only; set storage.path to a writable one.'
  if (code === 'EISDIR' || code === 'ENOTDIR') return 'storage.path must name a file; a folder is in its place.'
  return 'See the reason above, or set storage.path to another file.'
}

/** Undefined when there is no `flock` helper on this machine, as on macOS. */
function flock(fd: number, path: string): (() => void) | undefined {
  // The descriptor is number 3 in the child.
  const helper = spawnSync('flock', ['-n', '3'], { stdio: ['ignore', 'ignore', 'pipe', fd], timeout: 5_000 })
  if (helper.error) {
    if ('code' in helper.error && helper.error.code === 'ENOENT') return undefined
    throw new Error(`the flock helper failed on ${path}: ${helper.error.message}`)
  }
  if (helper.status === 0) return () => {}
  if (helper.status === 1) throw alreadyRunning(holder(path), path)
  throw new Error(`the flock helper failed on ${path}: ${helper.stderr.toString().trim() || `status ${helper.status}`}`)
}

/** Without the helper: an exclusive transaction on an empty SQLite file beside it, which the kernel also ends with us. */
function guardWithSqlite(databasePath: string, lockPath: string): () => void {
  const guard = new DatabaseSync(`${databasePath}.guard`)
  try {
    guard.exec('PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE')
    return () => guard.close()
  } catch (error) {
    guard.close()
    if (messageOf(error).includes('locked')) throw alreadyRunning(holder(lockPath), lockPath)
    throw error
  }
}

function holder(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim().slice(0, 20)
  } catch {
    return ''
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
