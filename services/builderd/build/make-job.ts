// A stored build as the job a worker gets.

import type { Credentials } from '../registry/auth.ts'
import type { BuildRequest } from '../request.ts'
import type { Job, JobSource } from './job.ts'

export interface JobSettings {
  insecureRegistries: readonly string[]
  allowedPrivateHosts: readonly string[]
  imageBytesMax: number
  pullTimeoutMs: number
  cacheDir: string
  localSourcesDir: string | undefined
  initBinary: string | undefined
  userAgent: string
}

export function makeJob(
  request: BuildRequest,
  o: JobSettings & {
    scratchDir: string
    registries: readonly string[] | undefined
    diskBytesMax: number
    /** Set once the tag was resolved: a build that goes on builds what it began with. */
    manifestDigest: string | null
    credentials: Credentials | undefined
  },
): Job {
  return {
    source: sourceOf(request, o),
    originalImage: request.imageRef,
    platform: request.platform,
    runtime: request.runtime,
    initStrategy: request.initStrategy,
    ...(o.initBinary === undefined ? {} : { initBinary: o.initBinary }),
    optimisation: request.optimisation,
    rules: {
      allowedRegistries: o.registries,
      insecureRegistries: o.insecureRegistries,
      allowedPrivateHosts: o.allowedPrivateHosts,
    },
    imageBytesMax: o.imageBytesMax,
    diskBytesMax: o.diskBytesMax,
    pullTimeoutMs: o.pullTimeoutMs,
    cacheDir: o.cacheDir,
    scratchDir: o.scratchDir,
    userAgent: o.userAgent,
  }
}

function sourceOf(
  { source }: BuildRequest,
  o: { manifestDigest: string | null; credentials: Credentials | undefined; localSourcesDir: string | undefined },
): JobSource {
  if (source.kind === 'layout') {
    if (o.localSourcesDir === undefined) throw new Error('BUG: a local source was accepted without LOCAL_SOURCES_DIR')
    return { kind: 'layout', root: o.localSourcesDir, path: source.path, tag: o.manifestDigest ?? source.tag }
  }
  const { registry, repository, tag, digest } = source.reference
  const first = digest ?? tag ?? 'latest'
  return {
    kind: 'registry',
    registry,
    repository,
    tagsOrDigests: o.manifestDigest === null ? [first, ...source.pullTags] : [o.manifestDigest],
    ...(o.credentials && { credentials: o.credentials }),
  }
}
