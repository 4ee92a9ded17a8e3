// Columns packed into one bytea: a table of them in front, each compressed by itself, so that a reader unpacks what it needs.
//
//   u8 kind · u8 version = 1 · u16 columns · per column: u8 packing (0 as it is, 1 zstd) · u32 bytes · u32 packed bytes ·
//   u32 CRC-32 of the packed bytes · then the packed columns
//
// Little endian. A version this program does not know is refused, never guessed at.

import { Buffer } from 'node:buffer'
import { constants, crc32, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { BlockError } from './bytes.ts'

const version = 1
const columnHeaderBytes = 13
/** Below this a frame's own header eats what it saves. */
const compressBytesMin = 48

export type SectionKind = 'head' | 'messages' | 'metadata'
const kindBytes: Record<SectionKind, number> = { head: 0x48, messages: 0x4d, metadata: 0x44 }

export function packSection(kind: SectionKind, columns: readonly Buffer[], level: number): Buffer {
  const packed = columns.map(column => pack(column, level))
  const head = Buffer.allocUnsafe(4 + columns.length * columnHeaderBytes)
  head[0] = kindBytes[kind]
  head[1] = version
  head.writeUInt16LE(columns.length, 2)
  packed.forEach(({ bytes, isCompressed }, i) => {
    const at = 4 + i * columnHeaderBytes
    head[at] = isCompressed ? 1 : 0
    head.writeUInt32LE(columns[i]?.length ?? 0, at + 1)
    head.writeUInt32LE(bytes.length, at + 5)
    head.writeUInt32LE(crc32(bytes), at + 9)
  })
  return Buffer.concat([head, ...packed.map(({ bytes }) => bytes)])
}

function pack(column: Buffer, level: number): { bytes: Buffer; isCompressed: boolean } {
  if (column.length < compressBytesMin) return { bytes: column, isCompressed: false }
  const bytes = zstdCompressSync(column, {
    params: { [constants.ZSTD_c_compressionLevel]: level },
    // One piece of output: the default of 16 KiB means dozens of them, and a copy at the end.
    chunkSize: Math.max(1_024, column.length >>> 1),
  })
  return bytes.length < column.length ? { bytes, isCompressed: true } : { bytes: column, isCompressed: false }
}

export class Section {
  readonly #bytes: Buffer
  readonly count: number
  readonly #starts: number[] = []

  /** @throws BlockError */
  constructor(kind: SectionKind, bytes: Buffer) {
    if (bytes.length < 4 || bytes[0] !== kindBytes[kind]) throw new BlockError(`these bytes are no ${kind} section`)
    if (bytes[1] !== version) throw new BlockError(`section version ${bytes[1]} was written by a newer program`)
    this.#bytes = bytes
    this.count = bytes.readUInt16LE(2)
    let at = 4 + this.count * columnHeaderBytes
    if (at > bytes.length) throw new BlockError(`a ${kind} section ends in its column table`)
    for (let i = 0; i < this.count; i++) {
      this.#starts.push(at)
      at += bytes.readUInt32LE(4 + i * columnHeaderBytes + 5)
    }
    if (at !== bytes.length) throw new BlockError(`a ${kind} section has ${bytes.length} bytes and should have ${at}`)
  }

  /** Unpacked, its checksum compared. @throws BlockError */
  column(index: number): Buffer {
    const start = this.#starts[index]
    if (start === undefined) throw new BlockError(`there is no column ${index}`)
    const at = 4 + index * columnHeaderBytes
    const packed = this.#bytes.subarray(start, start + this.#bytes.readUInt32LE(at + 5))
    if (crc32(packed) !== this.#bytes.readUInt32LE(at + 9)) throw new BlockError(`column ${index} is damaged`)
    if (this.#bytes[at] === 0) return packed
    const length = this.#bytes.readUInt32LE(at + 1)
    const bytes = zstdDecompressSync(packed, {
      maxOutputLength: Math.max(1, length),
      // A little more than all of it: a buffer that is filled to the brim makes zlib ask for another one.
      chunkSize: length + 1_024,
    })
    if (bytes.length !== length) throw new BlockError(`column ${index} unpacks to another length than it had`)
    return bytes
  }
}
