// A tar reader that is fed chunks and calls back with entries; it never opens, seeks or writes anything.
//
// States: header (wants one block) → extended (collects a long name or PAX data) → header, or → skip (over a body) →
// header; `finished` after two zero blocks. Bodies are not looked at: an entry says where its body lies, and whoever
// wrote the decompressed archive to a file can read that range later.
//
// Where dialects leave room we read as Go's archive/tar does, because the tools that build and run images do:
// links, devices and directories have no body whatever their size says; global PAX headers do nothing.

import { type Extent, printable, type TarEntry, TarError, type TarKind } from './entry.ts'
import { blockBytes, type Header, isZeroBlock, parseHeader } from './header.ts'
import { type PaxRecords, parsePax } from './pax.ts'
import { parseOldGnuExtents, parsePaxExtents, readSparseMap, type SparseMap } from './sparse.ts'

export interface TarBounds {
  /** Members still allowed; counted down, so that several archives can share one allowance. */
  entriesLeft: number
}

/** One long name or PAX header. */
const extendedBytesMax = 1024 * 1024
/** All of them in one archive. */
const extendedTotalBytesMax = 64 * 1024 * 1024
const idMax = 2 ** 32 - 2
/** What Linux can express in a device number. */
const deviceMajorMax = 0xfff
const deviceMinorMax = 0xfffff
/** Bytes the extended data of an archive may refer to; keeps positions exact in a double. */
const sizeMax = 2 ** 46

export interface TarReader {
  /** @throws TarError at the first thing that is wrong; the reader is of no use afterwards. */
  push(chunk: Uint8Array): void
  /** Tells that the archive ended; throws when it ended too early. */
  end(): void
}

type State =
  | { is: 'header' }
  | { is: 'extended'; typeflag: string; data: Buffer; filled: number; size: number }
  | { is: 'sparse'; entry: TarEntry; map: SparseMap; header: Header }
  | { is: 'skip'; left: number }
  | { is: 'finished' }

export function createTarReader(bounds: TarBounds, onEntry: (entry: TarEntry) => void): TarReader {
  const block = Buffer.alloc(blockBytes)
  let filled = 0
  let position = 0
  let extendedTotal = 0
  let zeroBlocks = 0
  let state: State = { is: 'header' }
  let pax: PaxRecords | undefined
  let longName: string | undefined
  let longLink: string | undefined

  function push(chunk: Uint8Array) {
    const data = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
    let at = 0
    while (at < data.length && state.is !== 'finished') {
      if (state.is === 'skip') {
        const step = Math.min(state.left, data.length - at)
        state.left -= step
        at += step
        position += step
        if (state.left === 0) state = { is: 'header' }
      } else if (state.is === 'extended') {
        const step = Math.min(state.data.length - state.filled, data.length - at)
        data.copy(state.data, state.filled, at, at + step)
        state.filled += step
        at += step
        position += step
        if (state.filled === state.data.length) finishExtended(state.typeflag, state.data.subarray(0, state.size))
      } else if (filled === 0 && data.length - at >= blockBytes) {
        // The common case: a whole block in this chunk, read where it lies.
        const whole = data.subarray(at, at + blockBytes)
        at += blockBytes
        position += blockBytes
        onBlock(whole)
      } else {
        const step = Math.min(blockBytes - filled, data.length - at)
        data.copy(block, filled, at, at + step)
        filled += step
        at += step
        position += step
        if (filled === blockBytes) {
          filled = 0
          onBlock(block)
        }
      }
    }
    position += data.length - at
  }

  function onBlock(bytes: Buffer) {
    if (state.is === 'sparse') return onSparseBlock(state, bytes)
    if (isZeroBlock(bytes)) {
      zeroBlocks++
      if (zeroBlocks === 2) {
        requireNothingPending()
        state = { is: 'finished' }
      }
      return
    }
    if (zeroBlocks > 0) throw new TarError('the archive goes on after a block of zeros')
    onHeader(parseHeader(bytes), bytes)
  }

  function onHeader(header: Header, bytes: Buffer) {
    if (header.size < 0 || header.size > sizeMax)
      throw new TarError(`a header has a size of ${header.size}, out of range`)
    switch (header.typeflag) {
      case 'x':
      case 'g':
      case 'L':
      case 'K': {
        extendedTotal += header.size
        if (header.size > extendedBytesMax)
          throw new TarError(`an extended header is ${header.size} bytes; at most ${extendedBytesMax} are read`)
        if (extendedTotal > extendedTotalBytesMax)
          throw new TarError(`the extended headers exceed ${extendedTotalBytesMax} bytes together`)
        const data = Buffer.allocUnsafe(padded(header.size))
        if (data.length === 0) finishExtended(header.typeflag, data)
        else state = { is: 'extended', typeflag: header.typeflag, data, filled: 0, size: header.size }
        return
      }
    }
    onMember(header, bytes)
  }

  function finishExtended(typeflag: string, data: Buffer) {
    state = { is: 'header' }
    if (typeflag === 'x') pax = parsePax(data)
    else if (typeflag === 'L') longName = untilNul(data)
    else if (typeflag === 'K') longLink = untilNul(data)
  }

  function onMember(header: Header, bytes: Buffer) {
    const extended = pax ?? {}
    const name = longName ?? sparseName(extended) ?? extended.path ?? header.name
    const kind = kindOf(header.typeflag, name)
    const storedSize = kind === 'file' ? (extended.size ?? header.size) : 0
    const entry: TarEntry = {
      name,
      kind,
      mode: header.mode & 0o7777,
      uid: idOf(extended.uid ?? header.uid, 'uid', name),
      gid: idOf(extended.gid ?? header.gid, 'gid', name),
      mtimeS: extended.mtime?.s ?? header.mtimeS,
      mtimeNs: extended.mtime?.ns ?? 0,
      size: storedSize,
      offset: position,
      linkName: kind === 'symlink' || kind === 'hardlink' ? (longLink ?? extended.linkpath ?? header.linkName) : '',
      major: 0,
      minor: 0,
      ...(extended.xattrs && { xattrs: extended.xattrs }),
    }
    if (kind === 'char' || kind === 'block') {
      if (header.major < 0 || header.major > deviceMajorMax || header.minor < 0 || header.minor > deviceMinorMax)
        throw new TarError(`"${printable(name)}" has the device number ${header.major}:${header.minor}, out of range`)
      entry.major = header.major
      entry.minor = header.minor
    }
    if (storedSize > sizeMax) throw new TarError(`"${printable(name)}" has a size of ${storedSize}, out of range`)
    pax = undefined
    longName = undefined
    longLink = undefined
    countEntry()

    const map: SparseMap | undefined =
      header.typeflag === 'S'
        ? parseOldGnuExtents(bytes)
        : kind === 'file'
          ? parsePaxExtents(extended.sparse)
          : undefined
    if (map?.wantsBlock) {
      state = { is: 'sparse', entry, map, header }
      return
    }
    emit(entry, map)
  }

  /** Continues a sparse map that is stored in blocks before the body. */
  function onSparseBlock({ entry, map }: { entry: TarEntry; map: SparseMap }, bytes: Buffer) {
    const isInBody = map.storage === 'body'
    readSparseMap(map, bytes)
    if (isInBody) {
      entry.size -= blockBytes
      if (entry.size < 0) throw new TarError(`"${printable(entry.name)}" has a sparse map that is longer than its body`)
    }
    if (!map.wantsBlock) emit(entry, map)
  }

  function emit(entry: TarEntry, map: SparseMap | undefined) {
    const stored = entry.size
    entry.offset = position
    if (map) {
      entry.extents = placeExtents(entry, map, stored)
      entry.size = map.realSize
    }
    onEntry(entry)
    const left = padded(stored)
    state = left > 0 ? { is: 'skip', left } : { is: 'header' }
  }

  function countEntry() {
    bounds.entriesLeft--
    if (bounds.entriesLeft < 0) throw new TarError('the image has more entries than are read')
  }

  function requireNothingPending() {
    if (pax || longName !== undefined || longLink !== undefined)
      throw new TarError('the archive ends after an extended header that belongs to nothing')
  }

  function end() {
    if (state.is === 'finished') return
    if (state.is !== 'header' || filled > 0) throw new TarError('the archive is cut off in the middle')
    requireNothingPending()
  }

  return { push, end }
}

function padded(size: number): number {
  return Math.ceil(size / blockBytes) * blockBytes
}

function untilNul(data: Buffer): string {
  const end = data.indexOf(0)
  return data.toString('latin1', 0, end < 0 ? data.length : end)
}

function kindOf(typeflag: string, name: string): TarKind {
  switch (typeflag) {
    case '\0':
      // V7 had no directories: a trailing slash makes one.
      return name.endsWith('/') ? 'directory' : 'file'
    case '0':
    case '7':
    case 'S':
      return 'file'
    case '1':
      return 'hardlink'
    case '2':
      return 'symlink'
    case '3':
      return 'char'
    case '4':
      return 'block'
    case '5':
      return 'directory'
    case '6':
      return 'fifo'
    default:
      throw new TarError(`"${printable(name)}" has the member type "${printable(typeflag)}", which is not known`)
  }
}

function idOf(value: number, what: string, name: string): number {
  if (value < 0 || value > idMax) throw new TarError(`"${printable(name)}" has the ${what} ${value}, out of range`)
  return value
}

function sparseName(records: PaxRecords): string | undefined {
  return records.sparse?.findLast(([key]) => key === 'name')?.[1]
}

/** Lays the pieces one after the other in the stored body, checking that they are in order and inside the file. */
function placeExtents(entry: TarEntry, map: SparseMap, stored: number): readonly Extent[] {
  const extents: Extent[] = []
  let offset = entry.offset
  let end = 0
  for (const piece of map.pieces) {
    if (piece.at < end || piece.at + piece.length > map.realSize)
      throw new TarError(`"${printable(entry.name)}" has a sparse map whose pieces overlap or leave the file`)
    end = piece.at + piece.length
    if (piece.length > 0) extents.push({ at: piece.at, offset, length: piece.length })
    offset += piece.length
  }
  if (offset - entry.offset !== stored)
    throw new TarError(`"${printable(entry.name)}" has a sparse map that does not add up to its body`)
  return extents
}
