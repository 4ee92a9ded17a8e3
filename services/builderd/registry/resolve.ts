// From a reference to everything a build needs to know before it pulls: the pinned manifest, its config, its layers.

import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { invalidSource } from '../errors.ts'
import { parseDigest } from '../images/digest.ts'
import {
  configBytesMax,
  type Descriptor,
  type ImageConfig,
  type Manifest,
  parseImageConfig,
  parseManifest,
} from '../images/manifest.ts'
import { fits, formatPlatform, type Platform, selectManifest } from '../images/platform.ts'
import { type FetchOptions, fetchBlob } from './blob.ts'
import type { ImageSource } from './source.ts'

export interface ResolvedImage {
  /** Digest of the platform's own manifest, not of the index. */
  manifestDigest: string
  layers: readonly Descriptor[]
  /** Compressed. */
  bytes: number
  config: ImageConfig
}

export interface ResolveOptions extends FetchOptions {
  /** Tried in order; the next one only when the source does not know the one before. */
  tagsOrDigests: readonly string[]
  platform: Platform
  /** Compressed layers together. */
  imageBytesMax: number
}

export async function resolveImage(o: ResolveOptions): Promise<ResolvedImage> {
  const { source, platform } = o
  const { digest, manifest } = await findManifest(o)
  const total = manifest.layers.reduce((sum, layer) => sum + layer.size, 0)
  if (total > o.imageBytesMax)
    throw invalidSource(
      `${source.name} is ${total} bytes to pull; this builderd pulls at most ${o.imageBytesMax} (DOCKER_MAX_IMAGE_SIZE_GB).`,
    )
  if (manifest.config.size > configBytesMax)
    throw invalidSource(
      `The config of ${source.name} is ${manifest.config.size} bytes; at most ${configBytesMax} are read.`,
    )
  const { path } = await fetchBlob(manifest.config, o)
  const config = parseImageConfig(await readFile(path), source.name)
  if (!fits(config.platform, platform))
    throw invalidSource(
      `${source.name} is built for ${formatPlatform(config.platform)}, not for ${formatPlatform(platform)}. Choose the platform with the label purser.platform.`,
    )
  if (config.diffIds.length !== manifest.layers.length)
    throw invalidSource(`${source.name} has ${manifest.layers.length} layers but ${config.diffIds.length} diff IDs.`)
  return { manifestDigest: digest, layers: manifest.layers, bytes: total, config }
}

async function findManifest(o: ResolveOptions) {
  const { source, platform, signal } = o
  for (const tagOrDigest of o.tagsOrDigests) {
    const found = await fetchVerified(source, tagOrDigest, signal)
    if (!found) continue
    if (found.manifest.kind === 'image') return { digest: found.digest, manifest: found.manifest }
    const chosen = selectManifest(found.manifest.manifests, platform, source.name)
    const image = await fetchVerified(source, chosen.digest, signal)
    if (!image)
      throw invalidSource(`${source.name}: the index names ${chosen.digest}, which the registry does not have.`)
    if (image.manifest.kind !== 'image')
      throw invalidSource(`${source.name} has an index inside an index, which is not read.`)
    return { digest: image.digest, manifest: image.manifest }
  }
  throw invalidSource(`${source.name} has no manifest ${o.tagsOrDigests.join(', ')}. Check the name and the tag.`)
}

/** The digest is computed from the bytes; one that was asked for must come out. */
async function fetchVerified(
  source: ImageSource,
  tagOrDigest: string,
  signal: AbortSignal,
): Promise<{ digest: string; manifest: Manifest } | undefined> {
  const answer = await source.fetchManifest(tagOrDigest, signal)
  if (!answer) return undefined
  const wanted = parseDigest(tagOrDigest)
  const algorithm = wanted?.algorithm ?? 'sha256'
  const digest = `${algorithm}:${createHash(algorithm).update(answer.bytes).digest('hex')}`
  if (wanted && digest !== tagOrDigest)
    throw invalidSource(`${source.name}: the manifest that was served for ${tagOrDigest} has the digest ${digest}.`)
  return { digest, manifest: parseManifest(answer.bytes, source.name, answer.mediaType) }
}
