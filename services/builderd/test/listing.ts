// A folder as lines that can be compared: what is where, with every attribute an image carries.

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { type BigIntStats, lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'

/** path → attributes; hard links name the first path of their inode. */
export function listFolder(root: string): Map<string, string> {
  const lines = new Map<string, string>()
  const firstName = new Map<bigint, string>()
  const visit = (relative: string) => {
    const path = join(root, relative)
    const stats = lstatSync(path, { bigint: true })
    const first = stats.isDirectory() ? undefined : firstName.get(stats.ino)
    if (first === undefined) firstName.set(stats.ino, relative)
    lines.set(relative, first === undefined ? describe(path, stats) : `= ${first}`)
    if (stats.isDirectory())
      for (const name of readdirSync(path).sort()) visit(relative === '' ? name : `${relative}/${name}`)
  }
  visit('')
  lines.delete('')
  return lines
}

function describe(path: string, stats: BigIntStats): string {
  const owner = `${stats.uid}:${stats.gid}`
  const time = stats.mtimeNs
  if (stats.isSymbolicLink()) return `link ${owner} ${readlinkSync(path)}`
  const meta = `${(stats.mode & 0o7777n).toString(8)} ${owner} ${time}`
  if (stats.isDirectory()) return `directory ${meta}`
  if (stats.isFile()) return `file ${meta} ${createHash('sha256').update(readFileSync(path)).digest('hex')}`
  if (stats.isFIFO()) return `fifo ${meta}`
  return `device ${meta} ${stats.isCharacterDevice() ? 'c' : 'b'} ${stats.rdev}`
}

/** Extracts with GNU tar into `into`, attributes and all. */
export function extract(archive: string, into: string) {
  execFileSync('tar', [
    '-xpf',
    archive,
    '-C',
    into,
    '--same-owner',
    '--numeric-owner',
    '--xattrs',
    '--xattrs-include=*',
  ])
}
