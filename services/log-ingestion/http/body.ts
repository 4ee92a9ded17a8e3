// A request body, decoded, within its bounds: reading and decompressing stop at the cap, not after it.

import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { createBrotliDecompress, createGunzip, createInflate, createInflateRaw, createZstdDecompress } from 'node:zlib'
import type { BufferPool } from '../buffer-pool.ts'

export class BodyTooLarge extends Error {
  readonly bytesMax: number
  constructor(bytesMax: number) {
    super(`the body is larger than ${bytesMax} bytes after decompression`)
    this.bytesMax = bytesMax
  }
}

/** More decoded bytes are in work already than the process may hold. */
export class TooMuchInFlight extends Error {}

/** The compressed stream is cut or no such stream. */
export class BadCompression extends Error {}

export class UnsupportedEncoding extends Error {}

/** The sender went away before the body was complete. */
export class SenderGone extends Error {}

/** Decoded bytes in work over all requests. A key may hold as much as it leaves free: a flood by n keys holds n parts of
 *  n + 1, and whoever comes then finds one. */
export interface InflightBytes {
  /** `own` is what the same request holds already. @throws TooMuchInFlight */
  add(key: string, bytes: number, own: number): void
  remove(key: string, bytes: number): void
}

/** Kept free even while one request is alone: of what the largest body leaves. */
const spareShare = 1 / 8

/** A single request of `bodyBytesMax` always fits when nothing else is in work. */
export function createInflightBytes(bytesMax: number, bodyBytesMax: number): InflightBytes {
  const aloneMax = bytesMax - (bytesMax - bodyBytesMax) * spareShare
  const held = new Map<string, number>()
  let bytes = 0
  return {
    add(key, count, own) {
      const before = held.get(key) ?? 0
      const fits = own === bytes ? bytes + count <= aloneMax : before + count <= bytesMax - bytes - count
      if (!fits) throw new TooMuchInFlight(`${before} of ${bytesMax} bytes are in work for this key already`)
      held.set(key, before + count)
      bytes += count
    },
    remove(key, count) {
      const left = (held.get(key) ?? 0) - count
      if (left > 0) held.set(key, left)
      else held.delete(key)
      bytes -= count
    },
  }
}

/** What one request holds of them, given back at once in the end. */
export interface Reservation {
  take(bytes: number): void
  release(): void
}

export function reserve(inflight: InflightBytes, key: string): Reservation {
  let held = 0
  return {
    take(bytes) {
      inflight.add(key, bytes, held)
      held += bytes
    },
    release() {
      if (held > 0) inflight.remove(key, held)
      held = 0
    },
  }
}

export type Encoding = 'identity' | 'gzip' | 'deflate' | 'br' | 'zstd'

/** @throws UnsupportedEncoding also for stacked encodings: two bombs in one */
export function encodingOf(header: string | undefined): Encoding {
  const name = (header ?? 'identity').trim().toLowerCase()
  if (name === '' || name === 'identity') return 'identity'
  if (name === 'x-gzip' || name === 'gzip') return 'gzip'
  if (name === 'deflate' || name === 'br' || name === 'zstd') return name
  throw new UnsupportedEncoding(
    `Content-Encoding ${JSON.stringify(name.slice(0, 60))} is not one of identity, gzip, deflate, br, zstd`,
  )
}

/** Shorter bodies are a chunk or two. */
const assembledMin = 16 * 1024

export interface Body {
  bytes: Buffer
  /** Nobody reads `bytes` any more. Only the first call counts. */
  free(): void
}

export function keptBody(bytes: Buffer): Body {
  return { bytes, free: () => {} }
}

function pooledBody(whole: Buffer, length: number, pool: BufferPool): Body {
  let isFreed = false
  return {
    bytes: whole.subarray(0, length),
    free() {
      // It may be somebody else's by now.
      if (isFreed) return
      isFreed = true
      pool.give(whole)
    },
  }
}

export async function readBody(
  request: IncomingMessage,
  encoding: Encoding,
  bytesMax: number,
  reservation: Reservation,
  pool: BufferPool,
): Promise<Body> {
  const raw = await readRaw(request, bytesMax, reservation, pool)
  if (encoding === 'identity') return raw
  return keptBody(await decompress(raw.bytes, encoding, bytesMax, reservation).finally(raw.free))
}

/** Listeners rather than an async iterator: this runs for every request, and most bodies are one chunk. */
function readRaw(
  request: IncomingMessage,
  bytesMax: number,
  reservation: Reservation,
  pool: BufferPool,
): Promise<Body> {
  return new Promise((resolve, reject) => {
    let chunks: Buffer[] = []
    let length = 0
    // A long body of known length is put together as it comes, not held twice in the end. Pages that are never written cost
    // nothing, so a length that is a lie does not either.
    const declared = declaredBytes(request.headers)
    if (declared > bytesMax) return reject(new BodyTooLarge(bytesMax))
    const whole = declared > assembledMin ? pool.take(declared) : undefined
    let isSettled = false
    const settle = (error: Error | null) => {
      if (isSettled) return
      isSettled = true
      request.off('data', onData)
      request.off('end', onEnd)
      request.off('close', onGone)
      request.off('error', onGone)
      if (error !== null) {
        if (whole) pool.give(whole)
        reject(error)
      } else if (whole) resolve(pooledBody(whole, length, pool))
      else resolve(keptBody(chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks, length)))
      chunks = []
    }
    const onData = (chunk: Buffer) => {
      length += chunk.length
      if (length > (whole ? declared : bytesMax)) return settle(new BodyTooLarge(bytesMax))
      try {
        reservation.take(chunk.length)
      } catch (error) {
        return settle(error instanceof Error ? error : new Error(String(error)))
      }
      if (whole === undefined) chunks.push(chunk)
      else whole.set(chunk, length - chunk.length)
    }
    const onEnd = () => settle(null)
    const onGone = () => settle(new SenderGone('the sender went away before the end of the body'))
    request.on('data', onData)
    request.on('end', onEnd)
    request.on('close', onGone)
    request.on('error', onGone)
    if (request.destroyed && !request.complete) onGone()
  })
}

/** What the sender says the body has, before decompression; 0 when it does not say. */
export function declaredBytes(headers: IncomingHttpHeaders): number {
  return Number(headers['content-length'] ?? 0) || 0
}

const dropped: IncomingMessage[] = []

/** Reads and drops what is left of a refused body, so that its sender gets to the answer and the connection stays usable:
 *  one piece of one body in each turn of the event loop, so that refusing costs less than accepting. */
export function dropRest(request: IncomingMessage): void {
  if (request.complete) return
  request.on('data', () => {
    request.pause()
    if (dropped.push(request) === 1) setImmediate(dropNext)
  })
  request.resume()
}

function dropNext(): void {
  dropped.shift()?.resume()
  if (dropped.length > 0) setImmediate(dropNext)
}

function decompress(
  raw: Buffer,
  encoding: Exclude<Encoding, 'identity'>,
  bytesMax: number,
  reservation: Reservation,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const stream = decoderFor(encoding, raw)
    const chunks: Buffer[] = []
    let length = 0
    const fail = (error: Error) => {
      stream.destroy()
      reject(error)
    }
    stream.on('data', (chunk: Buffer) => {
      length += chunk.length
      if (length > bytesMax) return fail(new BodyTooLarge(bytesMax))
      try {
        reservation.take(chunk.length)
      } catch (error) {
        return fail(error instanceof Error ? error : new Error(String(error)))
      }
      chunks.push(chunk)
    })
    stream.on('error', error => fail(new BadCompression(`the ${encoding} stream cannot be read: ${error.message}`)))
    stream.on('end', () => resolve(Buffer.concat(chunks, length)))
    stream.end(raw)
  })
}

function decoderFor(encoding: Exclude<Encoding, 'identity'>, raw: Buffer) {
  const chunkSize = 64 * 1024
  switch (encoding) {
    case 'gzip':
      return createGunzip({ chunkSize })
    case 'br':
      return createBrotliDecompress({ chunkSize })
    case 'zstd':
      return createZstdDecompress({ chunkSize })
    case 'deflate':
      // Some senders mean the zlib format, some the raw one; the first byte tells.
      return ((raw[0] ?? 0) & 0x0f) === 8 ? createInflate({ chunkSize }) : createInflateRaw({ chunkSize })
    default:
      return encoding satisfies never
  }
}
