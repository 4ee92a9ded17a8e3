// An OCI image layout in a local folder, read like a registry: nothing in it is believed either.
// Spec: https://github.com/opencontainers/image-spec/blob/main/image-layout.md

import { createReadStream } from 'node:fs'
import { open, realpath } from 'node:fs/promises'
import { join, relative, sep } from 'node:path'
import { invalidSource, systemCodeOf } from '../errors.ts'
import { parseDigest } from '../images/digest.ts'
import { type Descriptor, manifestBytesMax, parseJson, parseManifest } from '../images/manifest.ts'
import type { ImageSource } from './source.ts'

const tagAnnotation = 'org.opencontainers.image.ref.name'

/**
 * @param root only what really lies below it is read, links resolved
 * @param path of the layout, below root
 */
export async function openLayout(root: string, path: string): Promise<ImageSource> {
  const directory = await containedPath(root, path)
  const read = async (file: string, bytesMax: number) => {
    const handle = await open(await containedPath(directory, file), 'r')
    try {
      const { size } = await handle.stat()
      if (size > bytesMax) throw invalidSource(`${path}: ${file} is ${size} bytes; at most ${bytesMax} are read.`)
      return await handle.readFile()
    } finally {
      await handle.close()
    }
  }

  return {
    name: `oci:${path}`,
    registry: 'local',
    isAnonymous: true,
    async fetchManifest(tagOrDigest) {
      const index = await read('index.json', manifestBytesMax).catch(error => {
        throw systemCodeOf(error) === 'ENOENT'
          ? invalidSource(`${path} is not an OCI layout: it has no index.json.`)
          : error
      })
      const digest = parseDigest(tagOrDigest) ? tagOrDigest : findTag(index, tagOrDigest, path)
      if (digest === undefined) return undefined
      try {
        return { bytes: await read(blobFile(digest), manifestBytesMax) }
      } catch (error) {
        if (systemCodeOf(error) === 'ENOENT') return undefined
        throw error
      }
    },
    async openBlob(blob: Descriptor, from, signal) {
      const file = await containedPath(directory, blobFile(blob.digest)).catch(error => {
        throw systemCodeOf(error) === 'ENOENT' ? invalidSource(`${path} has no blob ${blob.digest}.`) : error
      })
      return { from, body: createReadStream(file, { start: from, signal, highWaterMark: 1024 * 1024 }) }
    },
    close: async () => {},
  }
}

/** The tagged manifest; the only one of a layout that has no tags answers to `latest`. */
function findTag(index: Buffer, tag: string, path: string): string | undefined {
  const { manifests } = parseJson(index, `The index of ${path}`)
  const parsed = parseManifest(index, path)
  if (parsed.kind !== 'index' || !Array.isArray(manifests)) throw invalidSource(`${path} has no index of manifests.`)
  const tags = manifests.map((entry: unknown) => tagOf(entry))
  const at = tags.indexOf(tag)
  if (at >= 0) return parsed.manifests[at]?.digest
  return tag === 'latest' && tags.length === 1 && tags[0] === undefined ? parsed.manifests[0]?.digest : undefined
}

function tagOf(entry: unknown): string | undefined {
  if (typeof entry !== 'object' || entry === null || !('annotations' in entry)) return undefined
  const { annotations } = entry
  if (typeof annotations !== 'object' || annotations === null) return undefined
  const tag: unknown = Reflect.get(annotations, tagAnnotation)
  return typeof tag === 'string' ? tag : undefined
}

function blobFile(digest: string): string {
  const parsed = parseDigest(digest)
  if (!parsed) throw invalidSource(`${JSON.stringify(digest.slice(0, 100))} is not a digest.`)
  return join('blobs', parsed.algorithm, parsed.hex)
}

async function containedPath(root: string, path: string): Promise<string> {
  const [realRoot, real] = await Promise.all([realpath(root), realpath(join(root, path))])
  const inside = relative(realRoot, real)
  if (inside === '..' || inside.startsWith(`..${sep}`))
    throw invalidSource(`${path} leads out of the folder for local sources.`)
  return real
}
