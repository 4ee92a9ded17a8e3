// One blob into the cache: resumable, verified while it streams, fetched once however many builds want it.
//
// <digest>.<origin>.part grows while bytes come and survives cuts, restarts and crashes; whoever goes on hashes what is
// there first. It belongs to one repository: a part of a private blob must not complete a guess from elsewhere. <digest> appears by rename when size and digest are right, and never changes. <digest>.lock is held by the one
// process that fetches; the others wait for the file.

import { createHash, type Hash } from 'node:crypto'
import { type FileHandle, mkdir, open, rename, rm, stat, utimes } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { AlreadyLocked, type Lock, lockFile } from '#platform/lock'
import { sleep } from '#platform/time'
import { BuildError, invalidSource } from '../errors.ts'
import { parseDigest } from '../images/digest.ts'
import type { Descriptor } from '../images/manifest.ts'
import { type RetryPolicy, TryAgain, withRetry } from './retry.ts'
import type { ImageSource } from './source.ts'

export interface FetchOptions {
  source: ImageSource
  cacheDir: string
  retry: RetryPolicy
  signal: AbortSignal
  /** Bytes that came over the network, as they come. */
  onBytes: (bytes: number) => void
  /** Whether bytes that are in the cache already may be used; false fetches them again, into the same place. */
  mayReuse: boolean
}

export interface FetchedBlob {
  path: string
  wasCached: boolean
}

const lockPollMs = 100

/** `blobs/sha256/ab/<hex>` */
export function blobPath(cacheDir: string, digest: string): string {
  const parsed = parseDigest(digest)
  if (!parsed) throw new Error(`BUG: ${digest} was not checked to be a digest`)
  return join(cacheDir, 'blobs', parsed.algorithm, parsed.hex.slice(0, 2), parsed.hex)
}

export async function fetchBlob(blob: Descriptor, o: FetchOptions): Promise<FetchedBlob> {
  const path = blobPath(o.cacheDir, blob.digest)
  await mkdir(dirname(path), { recursive: true, mode: 0o750 })
  const before = await sizeOf(path)
  if (o.mayReuse && before === blob.size) return reuse(path)
  const lock = await acquire(`${path}.lock`, o.signal)
  try {
    // Whoever held the lock before us may have finished what we want.
    if (o.mayReuse && before === undefined && (await sizeOf(path)) === blob.size) return reuse(path)
    await download(blob, path, o)
    return { path, wasCached: false }
  } finally {
    // Others may wait on this very file, so it only goes once there is nothing left to wait for.
    if ((await sizeOf(path)) !== undefined) await rm(`${path}.lock`, { force: true })
    lock.release()
  }
}

/** The time of the file is when it was last used: the cache keeps what is young. */
async function reuse(path: string): Promise<FetchedBlob> {
  const now = new Date()
  await utimes(path, now, now)
  return { path, wasCached: true }
}

function originKey(source: ImageSource): string {
  return createHash('sha256').update(source.name).digest('hex').slice(0, 16)
}

async function acquire(path: string, signal: AbortSignal): Promise<Lock> {
  for (;;) {
    try {
      return await lockFile(path)
    } catch (error) {
      if (!(error instanceof AlreadyLocked)) throw error
      await sleep(lockPollMs, signal)
    }
  }
}

async function download(blob: Descriptor, path: string, o: FetchOptions) {
  const partPath = `${path}.${originKey(o.source)}.part`
  const part = await open(partPath, 'a+', 0o640)
  let outcome: 'whole' | 'cut' | 'wrong' = 'cut'
  try {
    const progress = await resumeFrom(part, blob)
    let lastFailedAt = -1
    await withRetry(
      o.retry,
      o.signal,
      () => transfer(blob, part, progress, o),
      () => {
        const moved = progress.bytes > lastFailedAt && lastFailedAt >= 0
        lastFailedAt = progress.bytes
        return moved
      },
    )
    const actual = progress.hash.digest('hex')
    outcome = 'wrong'
    if (actual !== parseDigest(blob.digest)?.hex)
      throw invalidSource(
        `${o.source.name}: the bytes of ${blob.digest} have the digest ${actual.slice(0, 16)}…; they were thrown away.`,
      )
    outcome = 'whole'
    await part.sync()
  } catch (error) {
    if (error instanceof WrongSize) outcome = 'wrong'
    throw error
  } finally {
    await part.close()
    if (outcome === 'wrong') await rm(partPath, { force: true })
  }
  await rename(partPath, path)
  await syncDirectory(dirname(path))
}

interface Progress {
  bytes: number
  hash: Hash
}

/** What an earlier try left, hashed again: bytes on disk are as little to be trusted as bytes on the wire. */
async function resumeFrom(part: FileHandle, blob: Descriptor): Promise<Progress> {
  const progress = { bytes: 0, hash: newHash(blob) }
  const { size } = await part.stat()
  if (size > blob.size) {
    await part.truncate(0)
    return progress
  }
  const buffer = Buffer.allocUnsafe(1024 * 1024)
  while (progress.bytes < size) {
    const { bytesRead } = await part.read(buffer, 0, buffer.length, progress.bytes)
    if (bytesRead === 0) break
    progress.hash.update(buffer.subarray(0, bytesRead))
    progress.bytes += bytesRead
  }
  return progress
}

async function transfer(blob: Descriptor, part: FileHandle, progress: Progress, o: FetchOptions) {
  if (progress.bytes === blob.size && blob.size > 0) return
  const { from, body } = await o.source.openBlob(blob, progress.bytes, o.signal)
  if (from !== progress.bytes) {
    await part.truncate(0)
    progress.bytes = 0
    progress.hash = newHash(blob)
  }
  for await (const chunk of body) {
    o.onBytes(chunk.byteLength)
    if (progress.bytes + chunk.byteLength > blob.size)
      throw new WrongSize(
        `${o.source.name}: more bytes came for ${blob.digest} than the ${blob.size} its manifest says.`,
      )
    await part.appendFile(chunk)
    progress.hash.update(chunk)
    progress.bytes += chunk.byteLength
  }
  if (progress.bytes < blob.size)
    throw new TryAgain(
      new BuildError(
        'NETWORK_ERROR',
        `${o.source.name}: ${blob.digest} ended after ${progress.bytes} of ${blob.size} bytes.`,
      ),
    )
}

class WrongSize extends BuildError {
  constructor(message: string) {
    super('INVALID_SOURCE', message)
  }
}

function newHash(blob: Descriptor): Hash {
  return createHash(parseDigest(blob.digest)?.algorithm ?? 'sha256')
}

async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size
  } catch {
    return undefined
  }
}

export async function syncDirectory(path: string) {
  const directory = await open(path, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}
