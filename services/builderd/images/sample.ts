// A bundled image of two layers, made by code: what `builderd convert --sample` builds where there is no network.
// The second layer hides, replaces and adds, so that the first minute already shows a merge.

import { createHash } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import type { ImageSource } from '../registry/source.ts'
import { type Directory, type Node, newDirectory, rootOwned } from '../rootfs/tree.ts'
import { tarPieces } from '../tar/writer.ts'
import type { Platform } from './platform.ts'

/** 2025-01-01: nothing in the sample may depend on when it is made. */
const created = { s: 1_735_689_600, ns: 0 }

export function sampleSource(platform: Platform): ImageSource {
  const layers = [archiveOf(baseLayer()), archiveOf(topLayer())]
  const blobs = new Map<string, Buffer>()
  const keep = (bytes: Buffer) => {
    const digest = digestOf(bytes)
    blobs.set(digest, bytes)
    return { digest, size: bytes.length }
  }
  const config = keep(
    json({
      created: '2025-01-01T00:00:00Z',
      ...platform,
      config: { Env: ['GREETING=Hello from Purser'], Cmd: ['/bin/hello'], WorkingDir: '/srv' },
      rootfs: { type: 'layers', diff_ids: layers.map(digestOf) },
    }),
  )
  const manifest = json({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...config },
    layers: layers.map(layer => ({
      mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
      ...keep(gzipSync(layer)),
    })),
  })
  return {
    name: 'sample',
    registry: 'local',
    isAnonymous: true,
    fetchManifest: async () => ({ bytes: manifest }),
    async openBlob(blob, from) {
      const bytes = blobs.get(blob.digest)
      if (!bytes) throw new Error(`BUG: the sample has no blob ${blob.digest}`)
      return {
        from,
        body: (async function* () {
          yield bytes.subarray(from)
        })(),
      }
    },
    close: async () => {},
  }
}

function baseLayer(): Directory {
  const root = newDirectory(0o755, created)
  add(root, 'bin/hello', file('#!/bin/sh\necho "$GREETING"\n', 0o755))
  add(root, 'etc/passwd', file('root:x:0:0:root:/root:/bin/sh\n', 0o644))
  add(root, 'etc/group', file('root:x:0:\n', 0o644))
  add(root, 'etc/motd', file('This line is replaced by the second layer.\n', 0o644))
  add(root, 'srv/removed', file('This file is hidden by the second layer.\n', 0o644))
  return root
}

function topLayer(): Directory {
  const root = newDirectory(0o755, created)
  add(root, 'etc/motd', file('A root file system, merged from two layers by builderd.\n', 0o644))
  add(root, 'srv/.wh.removed', file('', 0o644))
  add(root, 'srv/readme', file('Built without Docker, without root and without a network.\n', 0o644))
  return root
}

function add(root: Directory, path: string, node: Node) {
  const parts = path.split('/')
  const name = parts.pop() ?? ''
  let directory = root
  for (const part of parts) {
    const known = directory.children.get(part)
    const next = known?.kind === 'directory' ? known : newDirectory(0o755, created)
    directory.children.set(part, next)
    directory = next
  }
  directory.children.set(name, node)
}

function file(text: string, mode: number): Node {
  const bytes = Buffer.from(text)
  return { kind: 'file', ...rootOwned(mode, created), size: bytes.length, body: { in: 'memory', bytes } }
}

function archiveOf(root: Directory): Buffer {
  const chunks: Buffer[] = []
  for (const piece of tarPieces(root)) {
    if ('bytes' in piece) chunks.push(piece.bytes)
    else if (piece.body.body.in === 'memory') chunks.push(piece.body.body.bytes)
  }
  return Buffer.concat(chunks)
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value))
}

function digestOf(bytes: Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}
