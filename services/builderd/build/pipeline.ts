// One build from reference to image file: resolve → pull → index → merge → write → verify.
//
// Everything it produces lies in the job's scratch directory; publishing is for whoever runs it. The same job gives the
// same bytes: no clock, host, path or order of arrival reaches the image.

import { closeSync, openSync, readSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '#platform/time'
import { asBuildError, BuildError, invalidSource } from '../errors.ts'
import { effectiveRuntime, envOf, plainPorts } from '../images/runtime.ts'
import { sampleSource } from '../images/sample.ts'
import { fetchBlob } from '../registry/blob.ts'
import { openRegistry } from '../registry/client.ts'
import { openLayout } from '../registry/layout.ts'
import { type ResolvedImage, resolveImage } from '../registry/resolve.ts'
import { registryRetry } from '../registry/retry.ts'
import type { ImageSource } from '../registry/source.ts'
import { resolveUser } from '../rootfs/accounts.ts'
import { compileGlobs } from '../rootfs/globs.ts'
import { injectInitContract } from '../rootfs/inject.ts'
import { openLayer } from '../rootfs/merge.ts'
import { optimise } from '../rootfs/optimise.ts'
import { find } from '../rootfs/paths.ts'
import { type Directory, newDirectory } from '../rootfs/tree.ts'
import { TarError } from '../tar/entry.ts'
import type { BuildHost, BuildResult, Job, Step } from './job.ts'
import { unpackLayer } from './layer-file.ts'
import { verifyTar } from './verify.ts'
import { tarSize, writeTar } from './write-tar.ts'

/** Names in one image, missing parents included. */
const entriesMax = 1_000_000
const parallelPullsMax = 4
/** passwd and group of an image are read up to this many bytes. */
const accountFileBytesMax = 1024 * 1024

export interface BuildContext {
  host: BuildHost
  clock: Clock
  signal: AbortSignal
}

/** @throws BuildError, or the signal's reason when aborted */
export async function runBuild(job: Job, context: BuildContext): Promise<BuildResult> {
  const source = await openSource(job, context.clock)
  try {
    return await buildFrom(source, job, context)
  } catch (error) {
    context.signal.throwIfAborted()
    throw error instanceof TarError ? invalidSource(`${error.message}.`) : asBuildError(error)
  } finally {
    await source.close()
  }
}

async function buildFrom(source: ImageSource, job: Job, { host, clock, signal }: BuildContext): Promise<BuildResult> {
  const ms: Record<Step, number> = { resolve: 0, pull: 0, index: 0, merge: 0, write: 0, verify: 0, publish: 0 }
  const inStep = async <T>(step: Step, work: () => Promise<T>): Promise<T> => {
    const startedMs = clock.monotonicMs()
    await host.step(step, 'started')
    const result = await work()
    ms[step] = Math.round(clock.monotonicMs() - startedMs)
    await host.step(step, 'ended')
    return result
  }

  const { image, blobs } = await pull(source, job, { host, clock, signal }, inStep)
  const layerFds: number[] = []
  try {
    const root = newDirectory(0o755, image.config.created)
    const originalBytes = await inStep('index', () => unpackAll(image, blobs, root, layerFds, job, host, signal))
    const { hasInit } = await inStep('merge', () => finishTree(root, image, layerFds, job, host))
    const path = join(job.scratchDir, 'filesystem.tar')
    const written = await inStep('write', async () => {
      const bytes = tarSize(root)
      if (bytes > job.diskBytesMax)
        throw new BuildError(
          'QUOTA_EXCEEDED',
          `The image comes to ${bytes} bytes; a build of this tenant may write ${job.diskBytesMax}.`,
        )
      await host.reserve(bytes)
      return writeTar(root, layerFds, path, done => host.progress(75 + Math.floor((done / bytes) * 15), 'write'))
    })
    await inStep('verify', async () => {
      const entries = await verifyTar(path, root, written, signal)
      host.log({
        level: 'info',
        component: 'optimizer',
        message: `verified ${entries} entries, sha256 ${written.checksum}`,
      })
    })
    return {
      file: 'filesystem.tar',
      format: 'tar',
      rootfsBytes: written.bytes,
      checksum: written.checksum,
      hasInit,
      metadata: metadataOf(image, job),
      metrics: {
        pullMs: ms.resolve + ms.pull,
        extractMs: ms.index + ms.merge,
        buildMs: ms.write,
        optimizeMs: ms.verify,
        originalBytes,
        rootfsBytes: written.bytes,
        memoryPeakBytes: process.resourceUsage().maxRSS * 1024,
        diskBytes: originalBytes + written.bytes,
      },
    }
  } finally {
    for (const fd of layerFds) closeSync(fd)
  }
}

async function openSource({ source, platform, rules, userAgent }: Job, clock: Clock): Promise<ImageSource> {
  switch (source.kind) {
    case 'registry':
      return openRegistry({ ...source, rules, clock, userAgent })
    case 'layout':
      return openLayout(source.root, source.path)
    case 'sample':
      return sampleSource(platform)
    default:
      return source satisfies never
  }
}

type InStep = <T>(step: Step, work: () => Promise<T>) => Promise<T>

async function pull(source: ImageSource, job: Job, { host, signal: outer }: BuildContext, inStep: InStep) {
  const timeout = AbortSignal.timeout(job.pullTimeoutMs)
  const signal = AbortSignal.any([outer, timeout])
  const fetchOptions = { source, cacheDir: job.cacheDir, retry: registryRetry, signal }
  try {
    const image = await inStep('resolve', async () => {
      host.progress(1, 'resolve')
      const resolved = await resolveImage({
        ...fetchOptions,
        tagsOrDigests: tagsOf(job),
        platform: job.platform,
        imageBytesMax: job.imageBytesMax,
        mayReuse: false,
        onBytes: bytes => host.pulled(bytes),
      })
      await host.pinned(resolved.manifestDigest)
      host.log({ level: 'info', component: 'puller', message: `${source.name} is ${resolved.manifestDigest}` })
      return resolved
    })
    const blobs = await inStep('pull', () => pullLayers(image, fetchOptions, host))
    return { image, blobs }
  } catch (error) {
    outer.throwIfAborted()
    if (timeout.aborted)
      throw new BuildError(
        'NETWORK_ERROR',
        `Pulling ${source.name} took longer than ${job.pullTimeoutMs} ms (DOCKER_PULL_TIMEOUT).`,
      )
    throw error
  }
}

function tagsOf({ source }: Job): readonly string[] {
  if (source.kind === 'registry') return source.tagsOrDigests
  return [source.kind === 'layout' ? source.tag : 'latest']
}

/** Paths of the layers' blobs, base first. The same blob may be several layers; it is fetched once. */
async function pullLayers(
  image: ResolvedImage,
  o: Omit<Parameters<typeof fetchBlob>[1], 'onBytes' | 'mayReuse'>,
  host: BuildHost,
): Promise<string[]> {
  const wanted = [...new Map(image.layers.map(layer => [layer.digest, layer])).values()]
  const paths = new Map<string, string>()
  let pulledBytes = 0
  const onBytes = (bytes: number) => {
    pulledBytes += bytes
    host.pulled(bytes)
    host.progress(5 + Math.floor((Math.min(pulledBytes, image.bytes) / (image.bytes || 1)) * 45), 'pull')
  }
  const cancel = new AbortController()
  const signal = AbortSignal.any([o.signal, cancel.signal])
  const pullNext = async () => {
    for (let layer = wanted.shift(); layer; layer = wanted.shift()) {
      const { digest, size } = layer
      const mayReuse = await host.mayReuse(digest)
      const { path, wasCached } = await fetchBlob(layer, { ...o, signal, onBytes, mayReuse })
      paths.set(digest, path)
      await host.have(digest, size, { isAnonymous: o.source.isAnonymous, wasCached })
      const number = image.layers.findIndex(l => l.digest === digest) + 1
      const how = wasCached ? 'in the cache' : `${size} bytes`
      host.log({
        level: 'info',
        component: 'puller',
        message: `layer ${number}/${image.layers.length} ${digest}: ${how}`,
      })
    }
  }
  const pullers = Array.from({ length: parallelPullsMax }, pullNext)
  try {
    await Promise.all(pullers)
  } catch (error) {
    // The first failure is the reason; the others only stop.
    cancel.abort(error)
    await Promise.allSettled(pullers)
    throw error
  }
  return image.layers.map(layer => paths.get(layer.digest) ?? '')
}

/** Layer by layer, base first: what a layer links to must already be in the tree. */
async function unpackAll(
  image: ResolvedImage,
  blobs: readonly string[],
  root: Directory,
  layerFds: number[],
  job: Job,
  host: BuildHost,
  signal: AbortSignal,
): Promise<number> {
  const bounds = { entriesLeft: entriesMax, nodesLeft: entriesMax }
  let total = 0
  for (const [index, blobPath] of blobs.entries()) {
    const name = `Layer ${index + 1} of ${blobs.length} (${image.layers[index]?.digest})`
    const layer = openLayer(root, index, bounds)
    const layerPath = join(job.scratchDir, `layer-${index}.tar`)
    try {
      const unpacked = await unpackLayer({
        blobPath,
        diffId: image.config.diffIds[index] ?? '',
        layerPath,
        bounds,
        bytesLeft: job.diskBytesMax - total,
        diskBytesMax: job.diskBytesMax,
        name,
        signal,
        onEntry: layer.add,
        onBytes: () => host.progress(50 + Math.floor((index / blobs.length) * 25), 'index'),
      })
      layer.merge()
      total += unpacked
      host.log({
        level: 'info',
        component: 'extractor',
        message: `layer ${index + 1}/${blobs.length} merged, ${unpacked} bytes unpacked`,
      })
    } catch (error) {
      throw error instanceof TarError ? invalidSource(`${name}: ${error.message}.`) : error
    }
    layerFds.push(openSync(layerPath, 'r'))
  }
  return total
}

async function finishTree(
  root: Directory,
  image: ResolvedImage,
  layerFds: readonly number[],
  job: Job,
  host: BuildHost,
): Promise<{ hasInit: boolean }> {
  const { optimisation } = job
  const removed = optimise(root, {
    ...optimisation,
    isExcluded: compileGlobs(optimisation.excludePatterns, 'exclude_patterns'),
    isPreserved: compileGlobs(optimisation.preservePaths, 'preserve_paths'),
  })
  if (removed > 0) host.log({ level: 'info', component: 'optimizer', message: `took ${removed} names out, as asked` })
  if (optimisation.compressBinaries)
    host.log({
      level: 'warn',
      component: 'optimizer',
      message: 'compress_binaries is not done: programs stay as they are',
    })

  const text = (path: string) => readText(root, path, layerFds)
  const { hasInit } = injectInitContract(root, {
    runtime: effectiveRuntime(image.config, job.runtime),
    account: resolveUser(image.config.user, text('/etc/passwd'), text('/etc/group')),
    user: image.config.user,
    stopSignal: image.config.stopSignal,
    strategy: job.initStrategy,
    requestedEntrypoint: job.runtime.entrypoint,
    initBinary: job.initBinary === undefined ? undefined : await readFile(job.initBinary),
    created: image.config.created,
  })
  if (!hasInit)
    host.log({
      level: 'warn',
      component: 'builder',
      message:
        'no /usr/bin/metald-init in this image: this builderd has no init program (INIT_BINARY). /container.cmd and /container.env are there.',
    })
  return { hasInit }
}

/** A small text file of the image; empty when there is none. */
function readText(root: Directory, path: string, layerFds: readonly number[]): string {
  const node = find(root, path)
  if (node?.kind !== 'file' || node.size > accountFileBytesMax) return ''
  if (node.body.in === 'memory') return node.body.bytes.toString('utf8')
  const fd = layerFds[node.body.layer]
  if (fd === undefined || node.body.extents) return ''
  const bytes = Buffer.alloc(node.size)
  readSync(fd, bytes, 0, bytes.length, node.body.offset)
  return bytes.toString('utf8')
}

function metadataOf(image: ResolvedImage, job: Job): BuildResult['metadata'] {
  const { config } = image
  return {
    originalImage: job.originalImage,
    imageDigest: image.manifestDigest,
    layers: image.layers.map(layer => layer.digest),
    labels: { ...config.labels },
    command: config.command,
    entrypoint: config.entrypoint,
    workingDir: config.workingDir,
    env: envOf(config.env),
    exposedPorts: plainPorts(config.exposedPorts),
    user: config.user,
    volumes: config.volumes,
  }
}
