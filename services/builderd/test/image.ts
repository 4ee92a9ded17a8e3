// Whole images for tests: layers in, manifest, config and blobs out; as an OCI layout on disk when a tool wants one.

import { createHash } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync, zstdCompressSync } from 'node:zlib'

export interface TestImage {
  manifest: Buffer
  manifestDigest: string
  config: Buffer
  /** By digest; config and layers. */
  blobs: Map<string, Buffer>
  layerDigests: string[]
}

export interface ImageOptions {
  compression?: 'gzip' | 'zstd' | 'none'
  /** Merged over the config document. */
  config?: Record<string, unknown>
  /** Changes descriptors before the manifest is written, to make them lie. */
  tamper?: (layers: { mediaType: string; digest: string; size: number }[]) => void
}

export function makeImage(layers: readonly Buffer[], o: ImageOptions = {}): TestImage {
  const compression = o.compression ?? 'gzip'
  const blobs = new Map<string, Buffer>()
  const keep = (bytes: Buffer) => {
    const digest = sha256(bytes)
    blobs.set(digest, bytes)
    return { digest, size: bytes.length }
  }
  const suffix = compression === 'none' ? '' : `+${compression}`
  const descriptors = layers.map(layer => ({
    mediaType: `application/vnd.oci.image.layer.v1.tar${suffix}`,
    ...keep(compression === 'gzip' ? gzipSync(layer) : compression === 'zstd' ? zstdCompressSync(layer) : layer),
  }))
  const layerDigests = descriptors.map(d => d.digest)
  o.tamper?.(descriptors)
  const config = json({
    created: '2024-05-06T07:08:09Z',
    os: 'linux',
    architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
    config: { Env: ['PATH=/bin'], Cmd: ['/bin/run'] },
    rootfs: { type: 'layers', diff_ids: layers.map(sha256) },
    ...o.config,
  })
  const manifest = json({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...keep(config) },
    layers: descriptors,
  })
  return { manifest, manifestDigest: sha256(manifest), config, blobs, layerDigests }
}

export function writeLayout(directory: string, image: TestImage, tag: string) {
  mkdirSync(join(directory, 'blobs', 'sha256'), { recursive: true })
  writeFileSync(join(directory, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}')
  for (const [digest, bytes] of [...image.blobs, [image.manifestDigest, image.manifest] as const])
    writeFileSync(join(directory, 'blobs', 'sha256', digest.slice('sha256:'.length)), bytes)
  const manifest = {
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    digest: image.manifestDigest,
    size: image.manifest.length,
    annotations: { 'org.opencontainers.image.ref.name': tag },
  }
  writeFileSync(
    join(directory, 'index.json'),
    json({ schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json', manifests: [manifest] }),
  )
}

export function sha256(bytes: Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value))
}
