// A finished image to its final place: staged beside it with its papers, everything synced, then one rename.

import { constants, copyFile, mkdir, open, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { BuildResult } from '../build/job.ts'
import { systemCodeOf } from '../errors.ts'
import { syncDirectory } from '../registry/blob.ts'

export interface Publication {
  scratchDir: string
  /** `<ROOTFS_OUTPUT_DIR>/<build id>` */
  targetDir: string
  /** Tells stagings of different owners apart. */
  epoch: bigint
  buildId: string
  tenantId: string
  createdAt: Date
  result: BuildResult
}

/** Replaces what an earlier attempt of the same build may have left there: its bytes were the same. */
export async function publish(p: Publication): Promise<void> {
  const { result, targetDir } = p
  const staging = join(dirname(targetDir), `.${p.buildId}.${p.epoch}`)
  await rm(staging, { recursive: true, force: true })
  await mkdir(staging, { mode: 0o750 })
  try {
    const image = join(staging, result.file)
    await move(join(p.scratchDir, result.file), image)
    await syncFile(image)
    await writeSynced(join(staging, 'metadata.json'), `${JSON.stringify(metadataFile(result), null, 2)}\n`)
    await writeSynced(join(staging, 'manifest.json'), `${JSON.stringify(manifestFile(p), null, 2)}\n`)
    // The form sha256sum -c reads.
    await writeSynced(join(staging, 'checksums.sha256'), `${result.checksum}  ${result.file}\n`)
    await syncDirectory(staging)
    await rm(targetDir, { recursive: true, force: true })
    await rename(staging, targetDir)
  } catch (error) {
    await rm(staging, { recursive: true, force: true })
    throw error
  }
  await syncDirectory(dirname(targetDir))
}

function manifestFile({ buildId, tenantId, createdAt, result }: Publication) {
  return {
    build_id: buildId,
    tenant_id: tenantId,
    created_at: createdAt.toISOString(),
    format: result.format,
    file: result.file,
    size_bytes: String(result.rootfsBytes),
    sha256: result.checksum,
    image: result.metadata.originalImage,
    image_digest: result.metadata.imageDigest,
    has_init: result.hasInit,
  }
}

/** ImageMetadata, snake_case, as older clients read it. */
function metadataFile({ metadata }: BuildResult) {
  return {
    original_image: metadata.originalImage,
    image_digest: metadata.imageDigest,
    layers: metadata.layers,
    labels: metadata.labels,
    command: metadata.command,
    entrypoint: metadata.entrypoint,
    working_dir: metadata.workingDir,
    env: metadata.env,
    exposed_ports: metadata.exposedPorts,
    user: metadata.user,
    volumes: metadata.volumes,
  }
}

/** A rename where both are on one file system, a copy where not; a clone where the file system can. */
async function move(from: string, to: string) {
  try {
    await rename(from, to)
  } catch (error) {
    if (systemCodeOf(error) !== 'EXDEV') throw error
    await copyFile(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE)
    await rm(from)
  }
}

async function writeSynced(path: string, text: string) {
  await writeFile(path, text, { flag: 'wx', mode: 0o640 })
  await syncFile(path)
}

async function syncFile(path: string) {
  const handle = await open(path, 'r')
  try {
    // A worker of another user wrote it; from here on it is the daemon's.
    if (process.getuid?.() === 0) await handle.chown(0, process.getgid?.() ?? 0)
    await handle.chmod(0o640)
    await handle.sync()
  } finally {
    await handle.close()
  }
}
