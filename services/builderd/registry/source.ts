// Where an image's bytes come from. Nothing a source says is believed: digests are computed by whoever reads.

import type { Descriptor } from '../images/manifest.ts'

export interface ImageSource {
  /** For messages: `docker.io/library/alpine`. */
  name: string
  /** The host bytes are counted under; `local` for what needs no network. */
  registry: string
  /** No credentials of the tenant were used: anyone could have fetched the same bytes. */
  isAnonymous: boolean
  /** @param tagOrDigest @returns undefined when the source knows no such manifest */
  fetchManifest(tagOrDigest: string, signal: AbortSignal): Promise<{ bytes: Buffer; mediaType?: string } | undefined>
  /** The blob's bytes from `from` on, or from 0 when the source cannot skip; the answer says which. */
  openBlob(blob: Descriptor, from: number, signal: AbortSignal): Promise<BlobStream>
  close(): Promise<void>
}

export interface BlobStream {
  from: number
  body: AsyncIterable<Uint8Array>
}
