// One owner per folder: an advisory flock(2) on a file inside it.
//
// The kernel drops the lock when the owner dies, however it dies, so a stale file never blocks anyone; the pid inside
// is for people. Node has no flock, so libc's is called; the lock lives as long as the descriptor.

import { closeSync, constants, fsyncSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs'

export class AlreadyLocked extends Error {
  readonly path: string
  /** Who holds it, when that can be read. */
  readonly pid: number | undefined

  constructor(path: string, pid: number | undefined) {
    super(`already running${pid === undefined ? '' : ` (pid ${pid})`}: ${path} is locked`)
    this.name = 'AlreadyLocked'
    this.path = path
    this.pid = pid
  }
}

export interface Lock {
  release(): void
}

const LOCK_EX = 2
const LOCK_NB = 4

/** @throws AlreadyLocked when another process, or another part of this one, holds it */
export async function lockFile(path: string): Promise<Lock> {
  const { dlopen, types } = await import('node:ffi')
  const { functions: libc } = dlopen(null, { flock: { arguments: [types.INT_32, types.INT_32], return: types.INT_32 } })
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600)
  if (libc.flock(fd, LOCK_EX | LOCK_NB) !== 0) {
    const pid = Number.parseInt(readFileSync(fd, 'utf8'), 10)
    closeSync(fd)
    throw new AlreadyLocked(path, Number.isNaN(pid) ? undefined : pid)
  }
  try {
    ftruncateSync(fd, 0)
    writeSync(fd, `${process.pid}\n`, 0)
    fsyncSync(fd)
  } catch {
    // A full disk has no room for the pid; the lock is held all the same, and a journal must open to be drained.
  }
  // The file stays: removing it would let two owners lock two different files of one name.
  return { release: () => closeSync(fd) }
}
