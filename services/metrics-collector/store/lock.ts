// One collector per database: flock on `<db>.lock`, held by an open descriptor of this process, so the kernel drops
// it however we die. The file stays for ever; removing it would let two processes lock two files of one name.

import { AlreadyLocked, type Lock, lockFile } from '#platform/lock'
import { alreadyRunning, unusableDatabase } from '../errors.ts'

/** @throws StartError when another process holds it; the database has not been touched then. */
export async function takeLock(databasePath: string): Promise<Lock> {
  const path = `${databasePath}.lock`
  try {
    return await lockFile(path)
  } catch (error) {
    if (error instanceof AlreadyLocked) throw alreadyRunning(error.pid, path)
    const reason = error instanceof Error ? error.message : String(error)
    throw unusableDatabase(databasePath, `its lock file cannot be opened (${reason})`, mendFor(error))
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
