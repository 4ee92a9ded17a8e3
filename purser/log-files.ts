// Every line of every process, kept beside the data: `logs/<name>.log`, rotated by size.
//
// Written synchronously: a line costs microseconds in the page cache, is there when we are killed, and files change
// names only between lines.

import { closeSync, mkdirSync, openSync, renameSync, rmSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'

export interface LogFile {
  write(line: string): void
  close(): void
}

const fileBytesMax = 10 * 1024 * 1024
/** The current file and this many before it. */
const keptFiles = 3

export function openLogFile(dir: string, name: string, bytesMax = fileBytesMax): LogFile {
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  const path = join(dir, `${name}.log`)
  let bytes = statSync(path, { throwIfNoEntry: false })?.size ?? 0
  let fd: number | undefined = openSync(path, 'a', 0o600)

  const rotate = () => {
    if (fd !== undefined) closeSync(fd)
    fd = undefined
    rmSync(`${path}.${keptFiles}`, { force: true })
    for (let i = keptFiles - 1; i >= 1; i--) moveIfThere(`${path}.${i}`, `${path}.${i + 1}`)
    moveIfThere(path, `${path}.1`)
    fd = openSync(path, 'a', 0o600)
    bytes = 0
  }

  return {
    write(line) {
      if (fd === undefined) return
      try {
        bytes += writeSync(fd, `${line}\n`)
        if (bytes >= bytesMax) rotate()
      } catch {
        // A full disk must not stop the services: what cannot be written here is still shipped and printed.
      }
    },
    close() {
      if (fd !== undefined) closeSync(fd)
      fd = undefined
    },
  }
}

function moveIfThere(from: string, to: string) {
  if (statSync(from, { throwIfNoEntry: false })) renameSync(from, to)
}
