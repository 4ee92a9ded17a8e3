// OCI and Docker manifests, indexes and image configurations: bytes from a stranger in, small typed values out.
// Specs: https://github.com/opencontainers/image-spec (manifest.md, image-index.md, config.md), Docker image manifest v2.2.

import { invalidSource } from '../errors.ts'
import { parseDigest } from './digest.ts'
import type { Platform } from './platform.ts'

/** Registries refuse larger manifests too; the config of a real image is a few KiB. */
export const manifestBytesMax = 4 * 1024 * 1024
export const configBytesMax = 4 * 1024 * 1024
const layersMax = 512
const indexEntriesMax = 1_000
/** Environment entries, ports, volumes, labels: each list of a config. */
const configListMax = 4_096

export const manifestMediaTypes = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.docker.distribution.manifest.v2+json',
] as const

const indexTypes: readonly string[] = [manifestMediaTypes[0], manifestMediaTypes[2]]
const imageTypes: readonly string[] = [manifestMediaTypes[1], manifestMediaTypes[3]]
const configTypes: readonly string[] = [
  'application/vnd.oci.image.config.v1+json',
  'application/vnd.docker.container.image.v1+json',
]
const layerTypes: readonly string[] = [
  'application/vnd.oci.image.layer.v1.tar',
  'application/vnd.oci.image.layer.v1.tar+gzip',
  'application/vnd.oci.image.layer.v1.tar+zstd',
  'application/vnd.docker.image.rootfs.diff.tar',
  'application/vnd.docker.image.rootfs.diff.tar.gzip',
  'application/vnd.docker.image.rootfs.diff.tar.zstd',
]

export interface Descriptor {
  mediaType: string
  digest: string
  /** Bytes. */
  size: number
  platform?: Platform
  isAttestation: boolean
}

export type Manifest =
  | { kind: 'index'; manifests: readonly Descriptor[] }
  | { kind: 'image'; config: Descriptor; layers: readonly Descriptor[] }

/** @param name what to call it in messages; @param contentType as the registry declared it, when it did */
export function parseManifest(bytes: Uint8Array, name: string, contentType?: string): Manifest {
  if (bytes.byteLength > manifestBytesMax)
    throw invalidSource(`The manifest of ${name} is ${bytes.byteLength} bytes; at most ${manifestBytesMax} are read.`)
  const json = parseJson(bytes, `The manifest of ${name}`)
  const declared = contentType?.split(';')[0]?.trim().toLowerCase()
  const mediaType = stringOf(json.mediaType)
  if (json.schemaVersion === 1 || declared?.startsWith('application/vnd.docker.distribution.manifest.v1+'))
    throw invalidSource(`${name} has a schema 1 manifest, which nothing can verify. Push it again with a current tool.`)
  if (json.schemaVersion !== 2) throw invalidSource(`The manifest of ${name} has no schemaVersion 2.`)
  // One document that is both an index and an image would mean different things to different readers (CVE-2021-41190).
  if (mediaType !== undefined && declared !== undefined && isKnown(declared) && mediaType !== declared)
    throw invalidSource(`The manifest of ${name} calls itself ${mediaType} but was served as ${declared}.`)
  if (json.manifests !== undefined && json.layers !== undefined)
    throw invalidSource(`The manifest of ${name} claims to be an index and an image at once.`)

  const type = mediaType ?? declared
  if (json.manifests !== undefined && (type === undefined || !imageTypes.includes(type))) return parseIndex(json, name)
  if (json.layers !== undefined && (type === undefined || !indexTypes.includes(type))) return parseImage(json, name)
  throw invalidSource(`The manifest of ${name} (${type ?? 'no media type'}) is neither an image nor an index.`)
}

function isKnown(mediaType: string): boolean {
  return indexTypes.includes(mediaType) || imageTypes.includes(mediaType)
}

function parseIndex(json: Json, name: string): Manifest {
  const entries = listOf(json.manifests, indexEntriesMax, `The index of ${name}`)
  return { kind: 'index', manifests: entries.map((entry, i) => parseDescriptor(entry, `Entry ${i + 1} of ${name}`)) }
}

function parseImage(json: Json, name: string): Manifest {
  const config = parseDescriptor(json.config, `The config of ${name}`)
  if (!configTypes.includes(config.mediaType))
    throw invalidSource(`${name} is not a container image: its config is ${config.mediaType}.`)
  const layers = listOf(json.layers, layersMax, `The layer list of ${name}`).map((entry, i) => {
    const what = `Layer ${i + 1} of ${name}`
    if (objectOf(entry)?.urls !== undefined)
      throw invalidSource(`${what} is a foreign layer whose bytes are not in the registry; such layers are not read.`)
    const layer = parseDescriptor(entry, what)
    if (!layerTypes.includes(layer.mediaType))
      throw invalidSource(`${what} has media type ${layer.mediaType}; tar, tar+gzip and tar+zstd layers are read.`)
    return layer
  })
  return { kind: 'image', config, layers }
}

function parseDescriptor(value: unknown, what: string): Descriptor {
  const json = objectOf(value)
  const mediaType = stringOf(json?.mediaType)
  const digest = stringOf(json?.digest)
  const size = json?.size
  if (!json || mediaType === undefined || digest === undefined) throw invalidSource(`${what} is not a descriptor.`)
  if (!parseDigest(digest)) throw invalidSource(`${what} has the digest ${quote(digest)}; sha256 and sha512 are known.`)
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0)
    throw invalidSource(`${what} has the size ${quote(String(size))}.`)
  const platform = parsePlatformField(json.platform)
  const isAttestation = stringOf(objectOf(json.annotations)?.['vnd.docker.reference.type']) !== undefined
  return { mediaType: mediaType.toLowerCase(), digest, size, isAttestation, ...(platform && { platform }) }
}

function parsePlatformField(value: unknown): Platform | undefined {
  const json = objectOf(value)
  const os = stringOf(json?.os)
  const architecture = stringOf(json?.architecture)
  if (os === undefined || architecture === undefined) return undefined
  const variant = stringOf(json?.variant)
  return variant === undefined || variant === '' ? { os, architecture } : { os, architecture, variant }
}

export interface ImageConfig {
  platform: Platform
  /** Seconds and nanoseconds since 1970; zero when the image does not say. */
  created: { s: number; ns: number }
  env: readonly string[]
  entrypoint: readonly string[]
  command: readonly string[]
  workingDir: string
  user: string
  /** As written: `80/tcp`. */
  exposedPorts: readonly string[]
  volumes: readonly string[]
  labels: Readonly<Record<string, string>>
  stopSignal: string
  /** Digests of the uncompressed layers, base first. */
  diffIds: readonly string[]
}

export function parseImageConfig(bytes: Uint8Array, name: string): ImageConfig {
  const what = `The config of ${name}`
  const json = parseJson(bytes, what)
  const config = objectOf(json.config) ?? {}
  const rootfs = objectOf(json.rootfs)
  const platform = parsePlatformField(json)
  if (!platform) throw invalidSource(`${what} names no os and architecture.`)
  const diffIds = stringsOf(rootfs?.diff_ids, `${what}: rootfs.diff_ids`, layersMax)
  const unknown = diffIds.find(id => !parseDigest(id))
  if (unknown !== undefined)
    throw invalidSource(`${what} has the diff ID ${quote(unknown)}; sha256 and sha512 are known.`)
  return {
    platform,
    created: parseCreated(stringOf(json.created)),
    env: stringsOf(config.Env, `${what}: Env`),
    entrypoint: stringsOf(config.Entrypoint, `${what}: Entrypoint`),
    command: stringsOf(config.Cmd, `${what}: Cmd`),
    workingDir: stringOf(config.WorkingDir) ?? '',
    user: stringOf(config.User) ?? '',
    exposedPorts: keysOf(config.ExposedPorts, `${what}: ExposedPorts`),
    volumes: keysOf(config.Volumes, `${what}: Volumes`),
    labels: labelsOf(config.Labels, `${what}: Labels`),
    stopSignal: stringOf(config.StopSignal) ?? '',
    diffIds,
  }
}

/** RFC 3339 with up to nine fraction digits; anything else, and years nobody can mean, count as "not said". */
function parseCreated(text: string | undefined): { s: number; ns: number } {
  if (text === undefined || text.length > 64) return { s: 0, ns: 0 }
  try {
    const { epochNanoseconds } = Temporal.Instant.from(text)
    const s = epochNanoseconds / 1_000_000_000n
    if (epochNanoseconds < 0n || s >= 1n << 33n) return { s: 0, ns: 0 }
    return { s: Number(s), ns: Number(epochNanoseconds % 1_000_000_000n) }
  } catch {
    return { s: 0, ns: 0 }
  }
}

type Json = Readonly<Record<string, unknown>>

export function parseJson(bytes: Uint8Array, what: string): Json {
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (error) {
    throw invalidSource(`${what} is not JSON.`, error)
  }
  const json = objectOf(value)
  if (!json) throw invalidSource(`${what} is not a JSON object.`)
  return json
}

function objectOf(value: unknown): Json | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : undefined
}

function stringOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}

function listOf(value: unknown, max: number, what: string): readonly unknown[] {
  if (!Array.isArray(value)) throw invalidSource(`${what} is not a list.`)
  if (value.length > max) throw invalidSource(`${what} has ${value.length} entries; at most ${max} are read.`)
  return value
}

function stringsOf(value: unknown, what: string, max = configListMax): readonly string[] {
  if (value === undefined || value === null) return []
  return listOf(value, max, what).map(item => cleanString(item, what))
}

/** Go writes a set as an object with empty values. */
function keysOf(value: unknown, what: string): readonly string[] {
  if (value === undefined || value === null) return []
  return stringsOf(Object.keys(objectOf(value) ?? {}), what).toSorted()
}

function labelsOf(value: unknown, what: string): Readonly<Record<string, string>> {
  const entries = Object.entries(objectOf(value) ?? {})
  listOf(entries, configListMax, what)
  return Object.fromEntries(entries.map(([key, text]) => [cleanString(key, what), cleanString(text, what)]))
}

function cleanString(value: unknown, what: string): string {
  if (typeof value !== 'string') throw invalidSource(`${what} holds something that is not text.`)
  if (value.includes('\0')) throw invalidSource(`${what} holds a NUL character.`)
  return value
}

function quote(text: string): string {
  return JSON.stringify(text.slice(0, 100))
}
