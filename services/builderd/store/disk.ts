// The folders on disk: making them, how full they are, and taking out what nobody needs.

import { accessSync, constants, mkdirSync } from 'node:fs'
import { lchown, readdir, rm, stat, statfs } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { Folders } from '../folders.ts'
import { systemRoot } from '../folders.ts'

export function isSystemRootWritable(): boolean {
  try {
    accessSync(systemRoot, constants.W_OK | constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** @throws Error that names the setting */
export function requireFile(path: string, setting: string): void {
  try {
    accessSync(path, constants.R_OK)
  } catch (error) {
    throw new Error(`${path} cannot be read; ${setting} must name a readable file`, { cause: error })
  }
}

/** Absolute, because rootfs_path is answered to clients. @throws Error that names the folder and the setting */
export function makeFolders(folders: Folders): Folders {
  const make = (path: string, mode: number, setting: string) => {
    const absolute = resolve(path)
    try {
      mkdirSync(absolute, { recursive: true, mode })
      accessSync(absolute, constants.W_OK | constants.X_OK)
    } catch (error) {
      throw new Error(`${absolute} cannot be created or written; give builderd the right, or set ${setting}`, {
        cause: error,
      })
    }
    return absolute
  }
  return {
    root: make(folders.root, 0o700, 'PURSER_DATA_DIR'),
    scratch: make(folders.scratch, 0o750, 'UNKEY_BUILDERD_SCRATCH_DIR'),
    output: make(folders.output, 0o750, 'UNKEY_BUILDERD_ROOTFS_OUTPUT_DIR'),
    workspace: make(folders.workspace, 0o750, 'UNKEY_BUILDERD_WORKSPACE_DIR'),
    cache: make(folders.cache, 0o750, 'UNKEY_BUILDERD_CACHE_DIR'),
  }
}

/** The folder and what is in it, once: afterwards its owner tells that this was done. */
export async function giveTo(user: { uid: number; gid: number }, folder: string): Promise<void> {
  if ((await stat(folder)).uid === user.uid) return
  for (const entry of await readdir(folder, { recursive: true })) await lchown(join(folder, entry), user.uid, user.gid)
  await lchown(folder, user.uid, user.gid)
}

export interface Space {
  freeBytes: number
  totalBytes: number
}

export async function spaceOf(path: string): Promise<Space> {
  const { bavail, blocks, bsize } = await statfs(path)
  return { freeBytes: bavail * bsize, totalBytes: blocks * bsize }
}

/** New builds wait while less than this is free. */
export function freeBytesMin(totalBytes: number): number {
  return Math.max(1024 ** 3, Math.floor(totalBytes * 0.05))
}

interface CachedFile {
  path: string
  /** Undefined for parts and locks. */
  digest: string | undefined
  bytes: number
  usedAtMs: number
}

/** A build that just looked a blob up must still find it when it unpacks. */
const youngMs = 3_600_000

/** Removes what is unused for long, then the least recently used until the rest fits. @returns digests that are gone */
export async function evictBlobs(
  cacheDir: string,
  o: { nowMs: number; unusedMsMax: number; bytesMax: number },
): Promise<{ removed: string[]; bytes: number }> {
  const files = (await listCache(join(cacheDir, 'blobs'))).sort((a, b) => a.usedAtMs - b.usedAtMs)
  let bytes = files.reduce((sum, file) => sum + file.bytes, 0)
  const removed: string[] = []
  for (const file of files) {
    const ageMs = o.nowMs - file.usedAtMs
    if (ageMs < youngMs || (ageMs < o.unusedMsMax && bytes <= o.bytesMax)) continue
    await rm(file.path, { force: true })
    bytes -= file.bytes
    if (file.digest !== undefined) removed.push(file.digest)
  }
  return { removed, bytes }
}

async function listCache(root: string): Promise<CachedFile[]> {
  const names = await readdir(root, { recursive: true, withFileTypes: true }).catch(() => [])
  const files = await Promise.all(
    names
      .filter(entry => entry.isFile())
      .map(async (entry): Promise<CachedFile | undefined> => {
        const path = join(entry.parentPath, entry.name)
        const stats = await stat(path).catch(() => undefined)
        if (!stats) return undefined
        const algorithm = entry.parentPath.split('/').at(-2)
        const digest = /^[0-9a-f]+$/.test(entry.name) ? `${algorithm}:${entry.name}` : undefined
        return { path, digest, bytes: stats.size, usedAtMs: stats.mtimeMs }
      }),
  )
  return files.filter(file => file !== undefined)
}

/** Artifact folders and stagings, for whoever knows which builds still want theirs. */
export async function listArtifacts(
  outputDir: string,
): Promise<{ buildId: string; path: string; isStaging: boolean; changedAtMs: number }[]> {
  const names = await readdir(outputDir).catch(() => [])
  const found = await Promise.all(
    names.map(async name => {
      const buildId = /^\.?(build_[0-9A-Z]{26})(\.\d+)?$/.exec(name)?.[1]
      const stats = buildId === undefined ? undefined : await stat(join(outputDir, name)).catch(() => undefined)
      return buildId === undefined || !stats
        ? []
        : [{ buildId, path: join(outputDir, name), isStaging: name.startsWith('.'), changedAtMs: stats.mtimeMs }]
    }),
  )
  return found.flat()
}
