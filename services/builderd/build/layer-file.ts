// A blob into an uncompressed layer file, its diff ID proved and its entries handed on while it streams.

import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { createGunzip, createZstdDecompress } from 'node:zlib'
import { BuildError, invalidSource, systemCodeOf } from '../errors.ts'
import { parseDigest } from '../images/digest.ts'
import type { TarEntry } from '../tar/entry.ts'
import { createTarReader, type TarBounds } from '../tar/reader.ts'

export interface UnpackOptions {
  blobPath: string
  diffId: string
  /** Where the uncompressed layer goes; created. */
  layerPath: string
  bounds: TarBounds
  /** Uncompressed bytes the build may still write. */
  bytesLeft: number
  /** The tenant's whole allowance, for the message. */
  diskBytesMax: number
  /** "layer 2 of 5" */
  name: string
  signal: AbortSignal
  onEntry: (entry: TarEntry) => void
  onBytes: (unpacked: number) => void
}

/** zlib hands out what it inflates in pieces of this size; its default of 16 KiB costs nearly half the speed. */
const chunkBytes = 1024 * 1024

/** @returns uncompressed bytes. The caller reads bodies from `layerPath` afterwards. */
export async function unpackLayer(o: UnpackOptions): Promise<number> {
  const algorithm = parseDigest(o.diffId)?.algorithm ?? 'sha256'
  const hash = createHash(algorithm)
  const reader = createTarReader(o.bounds, o.onEntry)
  const out = await open(o.layerPath, 'wx', 0o600)
  let bytes = 0
  try {
    for await (const chunk of await inflated(o.blobPath, o.signal)) {
      bytes += chunk.byteLength
      if (bytes > o.bytesLeft)
        throw new BuildError(
          'QUOTA_EXCEEDED',
          `The image unpacks to more than ${o.diskBytesMax} bytes, the disk a build of this tenant may use. Use a smaller image or a higher tier.`,
        )
      hash.update(chunk)
      reader.push(chunk)
      await out.writeFile(chunk)
      o.onBytes(bytes)
    }
    reader.end()
  } catch (error) {
    throw decompressionFailure(error, o.name)
  } finally {
    await out.close()
  }
  const actual = `${algorithm}:${hash.digest('hex')}`
  if (actual !== o.diffId)
    throw invalidSource(`${o.name} unpacks to ${actual}, but the config of the image says ${o.diffId}.`)
  return bytes
}

/** The compression is told by the first bytes, not by the media type: writers get that wrong. */
async function inflated(path: string, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
  const raw = createReadStream(path, { signal, highWaterMark: chunkBytes })
  const magic = await firstBytes(path)
  const inflate =
    magic[0] === 0x1f && magic[1] === 0x8b
      ? createGunzip({ chunkSize: chunkBytes })
      : magic.readUInt32LE(0) === 0xfd2fb528
        ? createZstdDecompress({ chunkSize: chunkBytes })
        : undefined
  if (!inflate) return raw
  raw.once('error', error => inflate.destroy(error))
  inflate.once('close', () => raw.destroy())
  return raw.pipe(inflate)
}

async function firstBytes(path: string): Promise<Buffer> {
  const magic = Buffer.alloc(4)
  const handle: FileHandle = await open(path, 'r')
  try {
    await handle.read(magic, 0, 4, 0)
  } finally {
    await handle.close()
  }
  return magic
}

function decompressionFailure(error: unknown, name: string): unknown {
  const code = systemCodeOf(error)
  if (code?.startsWith('Z_') || code?.startsWith('ZSTD_') || code === 'ERR_BUFFER_OUT_OF_BOUNDS')
    return invalidSource(`${name} is damaged: it does not decompress (${code}).`, error)
  return error
}
