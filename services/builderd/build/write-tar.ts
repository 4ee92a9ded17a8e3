// The tree into a tar file, hashed on the way, in writes of a mebibyte.

import { createHash } from 'node:crypto'
import { readSync } from 'node:fs'
import { open } from 'node:fs/promises'
import type { Directory, File } from '../rootfs/tree.ts'
import { tarPieces } from '../tar/writer.ts'

const bufferBytes = 1024 * 1024
const zeros = Buffer.alloc(64 * 1024)

/** Bytes the archive will have, without writing it. */
export function tarSize(root: Directory): number {
  let bytes = 0
  for (const piece of tarPieces(root)) bytes += 'bytes' in piece ? piece.bytes.length : piece.body.size
  return bytes
}

export interface WrittenTar {
  bytes: number
  /** SHA-256, hex. */
  checksum: string
}

/** @param layers descriptors of the layer files, base first */
export async function writeTar(
  root: Directory,
  layers: readonly number[],
  path: string,
  onBytes: (bytes: number) => void = () => {},
): Promise<WrittenTar> {
  const out = await open(path, 'wx', 0o640)
  const hash = createHash('sha256')
  // Two buffers, so that one fills while the other is on its way to the disk.
  const buffers = [Buffer.allocUnsafe(bufferBytes), Buffer.allocUnsafe(bufferBytes)]
  let current = buffers[0] ?? Buffer.alloc(0)
  let filled = 0
  let bytes = 0
  let writing: Promise<unknown> = Promise.resolve()

  const flush = async () => {
    await writing
    const full = current.subarray(0, filled)
    writing = out.appendFile(full)
    // Awaited at the next flush; until then a failure must not count as unhandled.
    writing.catch(() => {})
    hash.update(full)
    bytes += filled
    current = buffers[current === buffers[0] ? 1 : 0] ?? current
    filled = 0
    onBytes(bytes)
  }

  try {
    for (const piece of tarPieces(root))
      for (const part of 'bytes' in piece ? [piece.bytes] : bodyParts(piece.body, layers)) {
        for (let at = 0; at < part.length; ) {
          const step = Math.min(part.length - at, bufferBytes - filled)
          if (part instanceof Uint8Array) part.copy(current, filled, at, at + step)
          else readExactly(part.fd, current, filled, step, part.offset + at)
          filled += step
          at += step
          if (filled === bufferBytes) await flush()
        }
      }
    if (filled > 0) await flush()
    await writing
    await out.sync()
  } finally {
    await writing.catch(() => {})
    await out.close()
  }
  return { bytes, checksum: hash.digest('hex') }
}

type BodyPart = Buffer | { fd: number; offset: number; length: number }

/** The body in order: ranges of its layer file, and zeros for the holes of a sparse file. */
function* bodyParts({ body, size }: File, layers: readonly number[]): Generator<BodyPart> {
  if (body.in === 'memory') return yield body.bytes
  const fd = layers[body.layer]
  if (fd === undefined) throw new Error(`BUG: there is no layer ${body.layer}`)
  if (!body.extents) return yield { fd, offset: body.offset, length: size }
  let at = 0
  for (const extent of body.extents) {
    yield* hole(extent.at - at)
    yield { fd, offset: extent.offset, length: extent.length }
    at = extent.at + extent.length
  }
  yield* hole(size - at)
}

function* hole(length: number): Generator<Buffer> {
  for (let left = length; left > 0; left -= zeros.length) yield left < zeros.length ? zeros.subarray(0, left) : zeros
}

/** From the page cache nearly always: the layer was written a moment ago. */
function readExactly(fd: number, buffer: Buffer, offset: number, length: number, position: number) {
  for (let done = 0; done < length; ) {
    const read = readSync(fd, buffer, offset + done, length - done, position + done)
    if (read === 0) throw new Error('BUG: a layer file is shorter than its entries say')
    done += read
  }
}
