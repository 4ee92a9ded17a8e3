// builderd's bundled two-layer image as an OCI layout on disk, so that the demo builds it through the front door.

import { createHash } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { sampleSource } from '../../services/builderd/images/sample.ts'

interface Descriptor {
  mediaType: string
  digest: string
  size: number
}

/** Writes `<dir>/{oci-layout,index.json,blobs/…}` with the tag `latest`. The same bytes every time. */
export async function writeSampleLayout(dir: string): Promise<void> {
  const platform = { os: 'linux', architecture: process.arch === 'arm64' ? 'arm64' : 'amd64' }
  const source = sampleSource(platform)
  const never = new AbortController().signal
  const manifest = await source.fetchManifest('latest', never)
  if (!manifest) throw new Error('BUG: the sample has no manifest')
  const { config, layers } = JSON.parse(manifest.bytes.toString('utf8')) as { config: Descriptor; layers: Descriptor[] }
  mkdirSync(join(dir, 'blobs', 'sha256'), { recursive: true })
  const keep = (digest: string, bytes: Uint8Array) => writeFileSync(join(dir, 'blobs', ...digest.split(':')), bytes)
  for (const blob of [config, ...layers]) {
    const chunks: Uint8Array[] = []
    for await (const chunk of (await source.openBlob({ ...blob, isAttestation: false }, 0, never)).body)
      chunks.push(chunk)
    keep(blob.digest, Buffer.concat(chunks))
  }
  const digest = `sha256:${createHash('sha256').update(manifest.bytes).digest('hex')}`
  keep(digest, manifest.bytes)
  writeFileSync(join(dir, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }))
  writeFileSync(
    join(dir, 'index.json'),
    JSON.stringify({
      schemaVersion: 2,
      manifests: [
        {
          mediaType: 'application/vnd.oci.image.manifest.v1+json',
          digest,
          size: manifest.bytes.length,
          platform,
          annotations: { 'org.opencontainers.image.ref.name': 'latest' },
        },
      ],
    }),
  )
}
