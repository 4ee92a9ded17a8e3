// Space on mounted file systems: /proc/self/mountinfo says which, statfs says how full.
//
// statfs on a dead network or USB mount never returns and occupies one of the four threads of the pool. So each mount
// has one call under way at most, a stuck mount is reported as device_error until its call returns, and once two
// mounts are stuck no further statfs is started: the other threads are needed for everything else.

import { statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { gauge, type Reading } from '../sample.ts'
import { type Roots, readProc } from './files.ts'

export interface Mount {
  /** major:minor of the backing device. */
  device: string
  /** What was mounted, e.g. /dev/sda1. */
  source: string
  fstype: string
  mountpoint: string
  /** The path inside the file system that is mounted here; not `/` for bind mounts. */
  root: string
  isReadOnly: boolean
}

export interface FilesystemOptions {
  /** Mount points to report whatever their type; empty: all local disks. */
  mounts: readonly string[]
  /** How long one statfs may take before its mount counts as stuck. */
  deadlineMs: number
}

const mountsMax = 32
const stuckMax = 2

export function filesystemSource(roots: Roots, o: FilesystemOptions): () => Promise<Reading[]> {
  const underWay = new Map<string, Promise<unknown>>()

  const readMount = async (mount: Mount): Promise<Reading[]> => {
    const labels = { device: mount.source, fstype: mount.fstype, mountpoint: mount.mountpoint }
    const state = [gauge('node_filesystem_readonly', mount.isReadOnly ? 1 : 0, labels)]
    const failed = () => [...state, gauge('node_filesystem_device_error', 1, labels)]
    if (underWay.has(mount.mountpoint) || underWay.size >= stuckMax) return failed()
    const call = statfs(join(roots.rootfs, mount.mountpoint))
    const stuck = Symbol('stuck')
    let timer: NodeJS.Timeout | undefined
    underWay.set(mount.mountpoint, call)
    const forget = () => underWay.delete(mount.mountpoint)
    call.then(forget, forget)
    try {
      const late = new Promise<typeof stuck>(resolve => {
        timer = setTimeout(() => resolve(stuck), o.deadlineMs)
      })
      const space = await Promise.race([call, late])
      if (space === stuck) return failed()
      return [
        gauge('node_filesystem_size_bytes', space.blocks * space.bsize, labels),
        gauge('node_filesystem_free_bytes', space.bfree * space.bsize, labels),
        gauge('node_filesystem_avail_bytes', space.bavail * space.bsize, labels),
        gauge('node_filesystem_files', space.files, labels),
        gauge('node_filesystem_files_free', space.ffree, labels),
        ...state,
        gauge('node_filesystem_device_error', 0, labels),
      ]
    } catch {
      return failed()
    } finally {
      clearTimeout(timer)
    }
  }

  return async () => {
    const text = readProc(roots, 'self/mountinfo')
    const mounts = text === undefined ? mountsWithoutProcfs() : chooseMounts(parseMountinfo(text), o.mounts)
    const readings: Reading[] = []
    // One after the other: the stuck ones among them must not be started all at once.
    for (const mount of mounts) readings.push(...(await readMount(mount)))
    return readings
  }
}

export function parseMountinfo(text: string): Mount[] {
  const mounts: Mount[] = []
  for (const line of text.split('\n')) {
    const [before = '', after] = splitOnce(line, ' - ')
    const [, , device, root, mountpoint] = before.split(' ')
    const [fstype, source, superOptions] = after?.split(' ') ?? []
    if (!device || !root || !mountpoint || !fstype || source === undefined) continue
    mounts.push({
      device,
      source: unescapePath(source),
      fstype,
      mountpoint: unescapePath(mountpoint),
      root: unescapePath(root),
      // From the superblock, not the mount: a sandboxed unit sees every mount read-only.
      isReadOnly: (superOptions ?? '').split(',').includes('ro'),
    })
  }
  return mounts
}

function splitOnce(text: string, separator: string): [string, string?] {
  const at = text.indexOf(separator)
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + separator.length)]
}

function unescapePath(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)))
}

/** Types that hold no files of their own, or hold them on another machine, where a statfs may hang for minutes. */
const skippedTypes =
  /^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|efivarfs|erofs|fusectl|hugetlbfs|iso9660|mqueue|nsfs|overlay|proc|pstore|ramfs|rpc_pipefs|rootfs|securityfs|selinuxfs|squashfs|sysfs|tmpfs|tracefs|nfs4?|cifs|smb3?|ncpfs|9p|afs|ceph|glusterfs|lustre|beegfs|fuse\..*|fuse|virtiofs)$/

/** One mount per backing device, the whole one before a bind mount and the shortest path first; `/` always. */
export function chooseMounts(mounts: readonly Mount[], wanted: readonly string[]): Mount[] {
  const chosen = new Map<string, Mount>()
  for (const mount of mounts) {
    if (wanted.length > 0 ? !wanted.includes(mount.mountpoint) : !isLocalDisk(mount)) continue
    const key = wanted.length > 0 ? mount.mountpoint : mount.device
    const known = chosen.get(key)
    // A later line of the same mount point covers the earlier one.
    if (!known || known.mountpoint === mount.mountpoint || rank(mount) < rank(known)) chosen.set(key, mount)
  }
  return [...chosen.values()].slice(0, mountsMax)
}

function isLocalDisk(mount: Mount): boolean {
  return mount.mountpoint === '/' || !skippedTypes.test(mount.fstype)
}

function rank(mount: Mount): number {
  return (mount.root === '/' ? 0 : 1_000_000) + mount.mountpoint.length
}

function mountsWithoutProcfs(): Mount[] {
  if (process.platform === 'linux' || process.platform === 'win32') return []
  return [{ device: '/', source: 'rootfs', fstype: 'unknown', mountpoint: '/', root: '/', isReadOnly: false }]
}

export const filesystemHelp = {
  node_filesystem_size_bytes: 'Size of the file system.',
  node_filesystem_free_bytes: 'Free space, the share reserved for root included.',
  node_filesystem_avail_bytes: 'Free space open to everyone.',
  node_filesystem_files: 'Inodes in total.',
  node_filesystem_files_free: 'Inodes free.',
  node_filesystem_readonly: '1 when the file system is mounted read-only.',
  node_filesystem_device_error: '1 when asking for its space failed or never returned.',
} as const
