// Every line of every process, kept beside the data: `logs/<name>.log`, rotated by size.

import { createWriteStream, mkdirSync, renameSync, rmSync, statSync, type WriteStream } from 'node:fs'
import { join } from 'node:path'

export interface LogFile {
  write(line: string): void
  close(): Promise<void>
}

const fileBytesMax = 10 * 1024 * 1024
/** The current file and this many before it. */
const keptFiles = 3

export function openLogFile(dir: string, name: string, bytesMax = fileBytesMax): LogFile {
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  const path = join(dir, `${name}.log`)
  let bytes = statSync(path, { throwIfNoEntry: false })?.size ?? 0
  let stream = append(path)

  const rotate = () => {
    stream.end()
    rmSync(`${path}.${keptFiles}`, { force: true })
    for (let i = keptFiles - 1; i >= 1; i--) moveIfThere(`${path}.${i}`, `${path}.${i + 1}`)
    moveIfThere(path, `${path}.1`)
    stream = append(path)
    bytes = 0
  }

  return {
    write(line) {
      // A full disk must not stop the services: what cannot be written here is still shipped and printed.
      stream.write(`${line}\n`, () => {})
      bytes += line.length + 1
      if (bytes >= bytesMax) rotate()
    },
    close: () => new Promise(resolve => stream.end(() => resolve())),
  }
}

function append(path: string): WriteStream {
  const stream = createWriteStream(path, { flags: 'a', mode: 0o600 })
  stream.on('error', () => {})
  return stream
}

function moveIfThere(from: string, to: string) {
  if (statSync(from, { throwIfNoEntry: false })) renameSync(from, to)
}
