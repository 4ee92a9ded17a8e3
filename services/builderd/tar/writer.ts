// A tree as a tar archive: POSIX pax format, ustar headers with extended records only where ustar cannot say it.
//
// The bytes are a function of the tree alone: names in byte order, no clock, no host, no order of arrival. Of several
// names of one file the first in that order carries the body, the others are hard links to it.

import { type Directory, type File, type Node, walk } from '../rootfs/tree.ts'
import { blockBytes, encodeHeader, octalMax } from './header.ts'
import { encodePaxRecord, formatTime } from './pax.ts'

/** What the archive consists of, in order: header bytes and references to bodies. Bodies are padded by headers. */
export type TarPiece = { bytes: Buffer } | { body: File }

export function* tarPieces(root: Directory): Generator<TarPiece> {
  const firstName = new Map<Node, string>()
  yield { bytes: member('./', root, undefined) }
  for (const { path, node } of walk(root)) {
    const linkTo = node.kind === 'directory' ? undefined : firstName.get(node)
    yield { bytes: member(node.kind === 'directory' ? `${path}/` : path, node, linkTo) }
    if (node.kind === 'directory' || linkTo !== undefined) continue
    firstName.set(node, path)
    if (node.kind !== 'file' || node.size === 0) continue
    yield { body: node }
    const padding = -node.size & (blockBytes - 1)
    if (padding > 0) yield { bytes: zeros.subarray(0, padding) }
  }
  yield { bytes: zeros }
}

const zeros = Buffer.alloc(2 * blockBytes)

const typeflag: Readonly<Record<Node['kind'], string>> = {
  file: '0',
  symlink: '2',
  char: '3',
  block: '4',
  directory: '5',
  fifo: '6',
}

function member(name: string, node: Node, linkTo: string | undefined): Buffer {
  const linkName = linkTo ?? (node.kind === 'symlink' ? node.target : '')
  const size = node.kind === 'file' && linkTo === undefined ? node.size : 0
  const records: Buffer[] = []
  const record = (key: string, value: Buffer | string) => records.push(encodePaxRecord(key, value))

  const isBinary = !isUtf8(name) || !isUtf8(linkName)
  if (isBinary && (name.length > 100 || linkName.length > 100)) record('hdrcharset', 'BINARY')
  if (name.length > 100) record('path', name)
  if (linkName.length > 100) record('linkpath', linkName)
  if (size > octalMax.size) record('size', String(size))
  if (node.uid > octalMax.id) record('uid', String(node.uid))
  if (node.gid > octalMax.id) record('gid', String(node.gid))
  const plainTime = node.mtimeNs === 0 && node.mtimeS >= 0 && node.mtimeS <= octalMax.mtimeS
  if (!plainTime) record('mtime', formatTime(node.mtimeS, node.mtimeNs))
  if (linkTo === undefined)
    for (const [key, value] of [...(node.xattrs ?? [])].sort(([a], [b]) => (a < b ? -1 : 1)))
      record(`SCHILY.xattr.${key}`, value)

  const header = encodeHeader({
    name: name.slice(0, 100),
    mode: node.mode,
    uid: Math.min(node.uid, octalMax.id),
    gid: Math.min(node.gid, octalMax.id),
    size: Math.min(size, octalMax.size),
    mtimeS: Math.min(Math.max(node.mtimeS, 0), octalMax.mtimeS),
    typeflag: linkTo === undefined ? typeflag[node.kind] : '1',
    linkName: linkName.slice(0, 100),
    major: 'major' in node && linkTo === undefined ? node.major : 0,
    minor: 'minor' in node && linkTo === undefined ? node.minor : 0,
  })
  return records.length === 0 ? header : Buffer.concat([...extendedHeader(name, records), header])
}

function extendedHeader(name: string, records: readonly Buffer[]): Buffer[] {
  const data = Buffer.concat(records)
  const base = name.replace(/\/$/, '').split('/').at(-1) ?? ''
  const header = encodeHeader({
    name: `PaxHeaders.0/${base.slice(0, 80)}`,
    mode: 0o644,
    uid: 0,
    gid: 0,
    size: data.length,
    mtimeS: 0,
    typeflag: 'x',
    linkName: '',
    major: 0,
    minor: 0,
  })
  return [header, data, zeros.subarray(0, -data.length & (blockBytes - 1))]
}

function isUtf8(name: string): boolean {
  const bytes = Buffer.from(name, 'latin1')
  return Buffer.from(bytes.toString('utf8'), 'utf8').equals(bytes)
}
