// Real small file systems for tests of full and failing disks.
//
// Mounting needs root and Linux. Without them the test is skipped, loudly: a skipped line in the report with its reason.

import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, statfs, truncate, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import type { Skippable } from './cleanup.ts'

const run = promisify(execFile)

export interface SmallDisk {
  dir: string
  /** Takes all space but `leaveBytes`, in a file beside `dir`. */
  fill(leaveBytes?: number): Promise<void>
  /** Gives back what `fill` took. */
  free(): Promise<void>
}

/** A tmpfs of `bytes`; writes beyond it fail with ENOSPC. Undefined when the test was skipped. */
export async function smallDisk(t: Skippable, { bytes }: { bytes: number }): Promise<SmallDisk | undefined> {
  const root = await mountTmpfs(t, bytes)
  if (root === undefined) return undefined
  const dir = path.join(root, 'data')
  await mkdir(dir)
  const ballast = path.join(root, 'ballast')
  return {
    dir,
    async fill(leaveBytes = 0) {
      const { bavail, bsize } = await statfs(root)
      await writeFile(ballast, Buffer.alloc(Math.max(0, bavail * bsize - leaveBytes))).catch(error => {
        // Somebody who writes there too was quicker: it is full all the same.
        if (!(error instanceof Error && 'code' in error && error.code === 'ENOSPC')) throw error
      })
    },
    free: () => rm(ballast, { force: true }),
  }
}

export interface ThinDisk {
  dir: string
  /** Gives the device below the space that its file system believes to have. */
  grow(): Promise<void>
}

/**
 * An ext4 of 64 MiB on a device that holds only `bytes`, as on a thin-provisioned volume: write(2) succeeds, and it is
 * the fdatasync that fails. Undefined when the test was skipped.
 */
export async function thinDisk(t: Skippable, { bytes }: { bytes: number }): Promise<ThinDisk | undefined> {
  const believedBytes = 64 * 1024 * 1024
  const below = await mountTmpfs(t, bytes)
  if (below === undefined) return undefined
  const image = path.join(below, 'image')
  const dir = path.join(below, 'mounted')
  try {
    await mkdir(dir)
    await writeFile(image, '')
    await truncate(image, believedBytes)
    // Without a journal of its own: ext4 would turn read-only at the first failed commit, which is another test.
    await run('mkfs.ext4', ['-q', '-O', '^has_journal', '-E', 'nodiscard', image])
    await run('mount', ['-o', 'loop', image, dir])
  } catch (error) {
    t.skip(`no loop device to make a thin disk of: ${error instanceof Error ? error.message.split('\n')[0] : error}`)
    return undefined
  }
  return { dir, grow: async () => void (await run('mount', ['-o', `remount,size=${2 * believedBytes}`, below])) }
}

async function mountTmpfs(t: Skippable, bytes: number): Promise<string | undefined> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) {
    t.skip('a real full disk needs mount(8), which needs Linux and root')
    return undefined
  }
  const root = await mkdtemp(path.join(os.tmpdir(), 'purser-disk-'))
  try {
    await run('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'purser-test', root])
  } catch (error) {
    await rm(root, { recursive: true })
    t.skip(`mount(8) is not allowed here: ${error instanceof Error ? error.message.split('\n')[0] : error}`)
    return undefined
  }
  // Lazy: takes a mount inside this one along, and a file still open does not hold up the run.
  t.after(async () => {
    await run('umount', ['--lazy', root])
    await rm(root, { recursive: true, force: true })
  })
  return root
}
