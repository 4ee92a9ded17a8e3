// The 512-byte header block of tar in its dialects: V7, POSIX ustar, GNU, star; and the one we write, ustar.
// Spec: POSIX pax "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".

import { TarError } from './entry.ts'

export const blockBytes = 512

export interface Header {
  name: string
  mode: number
  uid: number
  gid: number
  size: number
  mtimeS: number
  typeflag: string
  linkName: string
  major: number
  minor: number
  dialect: 'v7' | 'ustar' | 'gnu' | 'star'
}

/** Fields as [offset, length]. */
const field = {
  name: [0, 100],
  mode: [100, 8],
  uid: [108, 8],
  gid: [116, 8],
  size: [124, 12],
  mtime: [136, 12],
  checksum: [148, 8],
  typeflag: [156, 1],
  linkName: [157, 100],
  magic: [257, 8],
  major: [329, 8],
  minor: [337, 8],
  prefix: [345, 155],
  starPrefix: [345, 131],
} as const

type Field = readonly [offset: number, length: number]

export function isZeroBlock(block: Buffer): boolean {
  return block.equals(zeroBlock)
}

const zeroBlock = Buffer.alloc(blockBytes)

export function parseHeader(block: Buffer): Header {
  verifyChecksum(block)
  const dialect = dialectOf(block)
  const plain = dialect === 'v7'
  const prefix =
    dialect === 'ustar' ? textOf(block, field.prefix) : dialect === 'star' ? textOf(block, field.starPrefix) : ''
  const base = textOf(block, field.name)
  return {
    name: prefix === '' ? base : `${prefix}/${base}`,
    mode: numberOf(block, field.mode, 'mode'),
    uid: numberOf(block, field.uid, 'uid'),
    gid: numberOf(block, field.gid, 'gid'),
    size: numberOf(block, field.size, 'size'),
    mtimeS: numberOf(block, field.mtime, 'mtime'),
    typeflag: block.toString('latin1', field.typeflag[0], field.typeflag[0] + 1),
    linkName: textOf(block, field.linkName),
    major: plain ? 0 : numberOf(block, field.major, 'device major'),
    minor: plain ? 0 : numberOf(block, field.minor, 'device minor'),
    dialect,
  }
}

/** The sum counts the checksum field as spaces. Old writers summed signed bytes, so both sums are taken. */
function verifyChecksum(block: Buffer) {
  const stored = numberOf(block, field.checksum, 'checksum')
  let unsigned = 8 * 0x20
  let high = 0
  for (let i = 0; i < blockBytes; i++) {
    if (i === 148) i = 156
    const byte = block[i] ?? 0
    unsigned += byte
    high += byte >> 7
  }
  if (stored !== unsigned && stored !== unsigned - 256 * high) throw new TarError('a header block has a wrong checksum')
}

function dialectOf(block: Buffer): Header['dialect'] {
  const magic = block.toString('latin1', field.magic[0], field.magic[0] + field.magic[1])
  if (magic === 'ustar  \0') return 'gnu'
  if (magic.startsWith('ustar\0')) return block.toString('latin1', 508, 512) === 'tar\0' ? 'star' : 'ustar'
  return 'v7'
}

function textOf(block: Buffer, [offset, length]: Field): string {
  const end = block.indexOf(0, offset)
  return block.toString('latin1', offset, end < 0 || end > offset + length ? offset + length : end)
}

/** Octal text, or big-endian two's complement when the top bit is set ("base-256"). */
function numberOf(block: Buffer, [offset, length]: Field, what: string): number {
  const first = block[offset] ?? 0
  if (first & 0x80) return base256Of(block, offset, length, what)
  // Hand-rolled because this runs seven times per entry on a million entries.
  let at = offset
  const end = offset + length
  while (at < end && block[at] === 0x20) at++
  let value = 0
  while (at < end) {
    const byte = block[at] ?? 0
    if (byte < 0x30 || byte > 0x37) break
    value = value * 8 + (byte - 0x30)
    at++
  }
  for (; at < end; at++) {
    const byte = block[at]
    if (byte !== 0 && byte !== 0x20) throw new TarError(`a header has a ${what} that is not an octal number`)
  }
  return value
}

function base256Of(block: Buffer, offset: number, length: number, what: string): number {
  const isNegative = ((block[offset] ?? 0) & 0x40) !== 0
  let value = BigInt((block[offset] ?? 0) & 0x7f)
  if (isNegative) value -= 0x80n
  for (let i = offset + 1; i < offset + length; i++) value = value * 256n + BigInt(block[i] ?? 0)
  const number = Number(value)
  if (!Number.isSafeInteger(number)) throw new TarError(`a header has a ${what} of ${value}, out of range`)
  return number
}

/** What ustar can hold in its number fields; larger or negative values go to PAX records. */
export const octalMax = { id: 0o7777777, size: 0o77777777777, mtimeS: 0o77777777777 } as const

/** A ustar header. Numbers must fit (see octalMax) and the name and link fit 100 bytes. */
export function encodeHeader(h: Omit<Header, 'dialect'>): Buffer {
  const block = Buffer.alloc(blockBytes)
  block.write(h.name, field.name[0], field.name[1], 'latin1')
  putOctal(block, field.mode, h.mode)
  putOctal(block, field.uid, h.uid)
  putOctal(block, field.gid, h.gid)
  putOctal(block, field.size, h.size)
  putOctal(block, field.mtime, h.mtimeS)
  block.write(h.typeflag, field.typeflag[0], 1, 'latin1')
  block.write(h.linkName, field.linkName[0], field.linkName[1], 'latin1')
  block.write('ustar\x0000', field.magic[0], field.magic[1], 'latin1')
  putOctal(block, field.major, h.major)
  putOctal(block, field.minor, h.minor)
  let sum = 8 * 0x20
  for (const byte of block) sum += byte
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, field.checksum[0], 8, 'latin1')
  return block
}

function putOctal(block: Buffer, [offset, length]: Field, value: number) {
  block.write(value.toString(8).padStart(length - 1, '0'), offset, length - 1, 'latin1')
}
