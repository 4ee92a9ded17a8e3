// The bytes of a segment: one header, then frames. Pure; the files are segment.ts.
//
// A frame is 28 bytes of header and a payload (all numbers little-endian):
//
//   0  u32  marker       random, one per segment, from the segment's header
//   4  u32  length       payload bytes
//   8  u48  sequence     1, 2, 3 … over the whole journal; never given twice
//  14  u48  writtenMs    wall clock, Unix ms
//  20  u32  payloadCrc   CRC-32 of the payload
//  24  u32  headerCrc    CRC-32 of bytes 0…23, started from the segment's random seed
//
// Two checksums rather than one: when a payload rots, its header still says where the next frame begins and which
// sequence was lost; and the costly one is computed before anyone knows which segment the frame will go to. Marker and
// seed are random so that a sender cannot plant a frame inside his payload for the search after damage to find.

import { crc32 } from 'node:zlib'

export const frameHeaderBytes = 28

/** Behind every group that is written over old content, and overwritten by the next: nothing is torn where it stands. */
export const groupEnd = Buffer.alloc(frameHeaderBytes)

/** Largest payload. A frame is read back in one piece, so this bounds the memory of a reader. */
export const payloadBytesMax = 64 * 1024 * 1024

export interface FrameKey {
  marker: number
  seed: number
}

export interface FrameHeader {
  lengthBytes: number
  sequence: number
  writtenMs: number
  payloadCrc: number
}

export interface Frame extends FrameHeader {
  from: number
  to: number
  payload: Buffer
}

export interface Damage {
  from: number
  to: number
  reason: string
}

export function writeFrameHeader(target: Buffer, at: number, key: FrameKey, header: FrameHeader): void {
  target.writeUInt32LE(key.marker, at)
  target.writeUInt32LE(header.lengthBytes, at + 4)
  target.writeUIntLE(header.sequence, at + 8, 6)
  target.writeUIntLE(header.writtenMs, at + 14, 6)
  target.writeUInt32LE(header.payloadCrc, at + 20)
  target.writeUInt32LE(crc32(target.subarray(at, at + 24), key.seed), at + 24)
}

/** The header at `at`, or undefined when there is none. */
export function readFrameHeader(bytes: Buffer, at: number, key: FrameKey): FrameHeader | undefined {
  if (at + frameHeaderBytes > bytes.length || bytes.readUInt32LE(at) !== key.marker) return undefined
  if (crc32(bytes.subarray(at, at + 24), key.seed) !== bytes.readUInt32LE(at + 24)) return undefined
  const lengthBytes = bytes.readUInt32LE(at + 4)
  if (lengthBytes > payloadBytesMax) return undefined
  return {
    lengthBytes,
    sequence: bytes.readUIntLE(at + 8, 6),
    writtenMs: bytes.readUIntLE(at + 14, 6),
    payloadCrc: bytes.readUInt32LE(at + 20),
  }
}

export interface Scan {
  frames: Frame[]
  /** Ranges between frames that are none; neighbours are joined. The last one may end where the bytes end. */
  damage: Damage[]
  /** Offset in the file up to which all is decided. */
  next: number
  /** Bytes needed from `next` on before anything more can be said; 0 when all was decided. */
  wantedBytes: number
}

/**
 * Reads frames from `bytes`, which lie at offset `base` of a segment that ends, as far as readers go, at `limit`.
 *
 * Damage is anything that is not a whole frame with both checksums right. The scan goes on behind it at the next frame
 * header, so one bad byte costs one frame. Needing more bytes than it was given, it says so and returns what it has;
 * for the search after damage that is everything up to `limit`, unless `isPiecewise`, when a piece without a frame is
 * damage by itself.
 */
export function scanFrames(bytes: Buffer, base: number, limit: number, key: FrameKey, isPiecewise = false): Scan {
  const scan: Scan = { frames: [], damage: [], next: base, wantedBytes: 0 }
  const isWhole = base + bytes.length >= limit
  let sequence = 0
  while (scan.next < limit) {
    const at = scan.next - base
    if (!isWhole && at + frameHeaderBytes > bytes.length) {
      return { ...scan, wantedBytes: Math.min(frameHeaderBytes, limit - scan.next) }
    }
    const header = readFrameHeader(bytes, at, key)
    // A sequence that does not rise is a block of this very segment in the wrong place.
    if (!header || header.sequence <= sequence) {
      const found = findFrame(bytes, at + 1, key, sequence)
      if (found === undefined && !isWhole) {
        // A header may begin in this piece and end in the next.
        const searched = base + bytes.length - frameHeaderBytes + 1
        if (!isPiecewise || searched <= scan.next) return { ...scan, wantedBytes: limit - scan.next }
        addDamage(scan, searched, 'no frame header with a correct checksum')
        return scan
      }
      addDamage(scan, found === undefined ? limit : base + found, 'no frame header with a correct checksum')
      continue
    }
    const end = at + frameHeaderBytes + header.lengthBytes
    if (base + end > limit) {
      // A whole header whose payload is not there: the file was cut. Nothing can follow it.
      addDamage(scan, limit, `frame ${header.sequence} is cut short`)
      continue
    }
    if (end > bytes.length) return { ...scan, wantedBytes: end - at }
    sequence = header.sequence
    const payload = bytes.subarray(at + frameHeaderBytes, end)
    if (crc32(payload) !== header.payloadCrc) {
      addDamage(scan, base + end, `the payload of frame ${header.sequence} fails its checksum`)
      continue
    }
    scan.frames.push({ ...header, from: base + at, to: base + end, payload })
    scan.next = base + end
  }
  return scan
}

function addDamage(scan: Scan, to: number, reason: string): void {
  const last = scan.damage.at(-1)
  if (last?.to === scan.next) last.to = to
  else scan.damage.push({ from: scan.next, to, reason })
  scan.next = to
}

function findFrame(bytes: Buffer, from: number, key: FrameKey, afterSequence: number): number | undefined {
  const marker = Buffer.alloc(4)
  marker.writeUInt32LE(key.marker)
  for (let at = bytes.indexOf(marker, from); at >= 0; at = bytes.indexOf(marker, at + 1)) {
    const header = readFrameHeader(bytes, at, key)
    if (header && header.sequence > afterSequence) return at
  }
  return undefined
}

// The segment's header, written twice (two sectors), so that one bad sector does not cost 64 MiB of readable frames:
//
//   0  8 B  magic            8  u32  format version     12  u32  1: written over a released segment
//  16  16 B id              32  u32  marker             36  u32  seed
//  40  u64  first sequence  48  u64  created, Unix ms
//  56  16 B id of the segment before (zeros: none)      72  u64  where that one ended
//  80  12 B 0               92  u32  CRC-32 of bytes 0…91
//
// Magic, version and checksum keep their places in every later format, so that any program can tell "newer" from "bad".

export const formatVersion = 1
const magic = Buffer.from('PURSERJL', 'latin1')
const segmentHeaderBytes = 96
const headerCopies = [0, 4096]
/** Frames begin here. */
export const framesFrom = 8192

export interface SegmentHeader extends FrameKey {
  version: number
  id: Buffer
  firstSequence: number
  createdMs: number
  /** Behind the last frame lies `groupEnd`, and then what the file held before. */
  isReused: boolean
  /** What the writer knew to be acknowledged of the segment before when it began this one. */
  previous: { id: Buffer; end: number } | undefined
}

/** The first `framesFrom` bytes of a segment. */
export function encodeSegmentHeader(header: Omit<SegmentHeader, 'version'>): Buffer {
  const bytes = Buffer.alloc(framesFrom)
  magic.copy(bytes)
  bytes.writeUInt32LE(formatVersion, 8)
  bytes.writeUInt32LE(header.isReused ? 1 : 0, 12)
  header.id.copy(bytes, 16)
  bytes.writeUInt32LE(header.marker, 32)
  bytes.writeUInt32LE(header.seed, 36)
  bytes.writeBigUInt64LE(BigInt(header.firstSequence), 40)
  bytes.writeBigUInt64LE(BigInt(header.createdMs), 48)
  header.previous?.id.copy(bytes, 56)
  bytes.writeBigUInt64LE(BigInt(header.previous?.end ?? 0), 72)
  bytes.writeUInt32LE(crc32(bytes.subarray(0, 92)), 92)
  for (const at of headerCopies) bytes.copy(bytes, at, 0, segmentHeaderBytes)
  return bytes
}

/** From the first `framesFrom` bytes: whichever copy is right, or undefined. Of a newer format only `version` counts. */
export function decodeSegmentHeader(bytes: Buffer): SegmentHeader | undefined {
  for (const at of headerCopies) {
    const copy = bytes.subarray(at, at + segmentHeaderBytes)
    if (copy.length < segmentHeaderBytes || !copy.subarray(0, 8).equals(magic)) continue
    if (crc32(copy.subarray(0, 92)) !== copy.readUInt32LE(92)) continue
    const previousId = copy.subarray(56, 72)
    return {
      version: copy.readUInt32LE(8),
      id: copy.subarray(16, 32),
      marker: copy.readUInt32LE(32),
      seed: copy.readUInt32LE(36),
      firstSequence: Number(copy.readBigUInt64LE(40)),
      createdMs: Number(copy.readBigUInt64LE(48)),
      isReused: copy.readUInt32LE(12) === 1,
      previous: previousId.every(byte => byte === 0)
        ? undefined
        : { id: previousId, end: Number(copy.readBigUInt64LE(72)) },
    }
  }
  return undefined
}
