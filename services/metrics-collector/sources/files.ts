// Reading the kernel's files. A file that is not there is "absent", which is normal: boards differ. Every other
// failure is an error of the source that asked.

import { readdirSync, readFileSync, realpathSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

export interface Roots {
  procfs: string
  sysfs: string
  rootfs: string
}

/** A kernel file is a page or two; /proc/stat of a 512-core box is 60 KiB. Past this, something else is mounted there. */
const fileBytesMax = 4 * 1024 * 1024

/** procfs answers from memory at once, so a blocking read costs less than a trip through the thread pool. */
export function readProc(roots: Roots, path: string): string | undefined {
  try {
    return bounded(readFileSync(join(roots.procfs, path)), path)
  } catch (error) {
    if (isAbsent(error)) return undefined
    throw error
  }
}

/** sysfs asks drivers, and a driver may take its time: never block the event loop on one. */
export async function readSys(roots: Roots, path: string): Promise<string | undefined> {
  try {
    return bounded(await readFile(join(roots.sysfs, path)), path).trim()
  } catch (error) {
    if (isAbsent(error) || isNotNow(error)) return undefined
    throw error
  }
}

export async function readSysNumber(roots: Roots, path: string): Promise<number | undefined> {
  const text = await readSys(roots, path)
  return text !== undefined && /^-?\d+$/.test(text) ? Number(text) : undefined
}

/** Entry names, sorted as a person would (`cpu2` before `cpu10`); none when the folder is absent. */
export async function listSys(roots: Roots, path: string, pattern: RegExp): Promise<string[]> {
  try {
    const names = await readdir(join(roots.sysfs, path))
    return names.filter(name => pattern.test(name)).sort(byNumber)
  } catch (error) {
    if (isAbsent(error)) return []
    throw error
  }
}

export function hasSys(roots: Roots, path: string): boolean {
  try {
    readdirSync(join(roots.sysfs, path))
    return true
  } catch {
    return false
  }
}

/** Where a sysfs link leads, e.g. hwmon0/device → …/platform/coretemp.0. */
export function resolveSys(roots: Roots, path: string): string | undefined {
  try {
    return realpathSync(join(roots.sysfs, path))
  } catch {
    return undefined
  }
}

/** Number of open descriptors of this process; undefined where there is no procfs. */
export function countProcEntries(roots: Roots, path: string): number | undefined {
  try {
    return readdirSync(join(roots.procfs, path)).length
  } catch {
    return undefined
  }
}

const byNumber = new Intl.Collator('en', { numeric: true }).compare

function bounded(content: Buffer, path: string): string {
  if (content.length > fileBytesMax)
    throw new Error(`${path} has ${content.length} bytes; a kernel file has at most ${fileBytesMax}`)
  return content.toString('utf8')
}

export function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''
}

function isAbsent(error: unknown): boolean {
  // EOPNOTSUPP: /proc/pressure on a kernel booted with psi=0.
  return ['ENOENT', 'ENOTDIR', 'ENODEV', 'ENXIO', 'EOPNOTSUPP', 'ENOTSUP'].includes(codeOf(error))
}

/** What drivers say when the thing exists but has no value at the moment: an interface that is down, a sleeping sensor. */
function isNotNow(error: unknown): boolean {
  return ['EINVAL', 'EIO', 'EAGAIN', 'ENODATA', 'ETIMEDOUT', 'EBUSY', 'EPERM', 'EACCES'].includes(codeOf(error))
}
