// What a worker is told, and what it tells. Plain data: it crosses a process boundary as JSON.

import type { BuildErrorCode } from '../errors.ts'
import type { Platform } from '../images/platform.ts'
import type { RuntimeOverrides } from '../images/runtime.ts'
import type { Credentials } from '../registry/auth.ts'
import type { NetworkRules } from '../registry/network-policy.ts'
import type { InitStrategy } from '../rootfs/inject.ts'

export type JobSource =
  | {
      kind: 'registry'
      registry: string
      repository: string
      /** Tags or digests, tried in order. A build that is resumed has only the digest it pinned. */
      tagsOrDigests: readonly string[]
      credentials?: Credentials
    }
  | { kind: 'layout'; root: string; path: string; tag: string }
  | { kind: 'sample' }

export interface Job {
  source: JobSource
  /** As it was asked for, tag and all. */
  originalImage: string
  platform: Platform
  runtime: RuntimeOverrides
  initStrategy: InitStrategy
  /** Path of the init program of this builderd, when it has one. */
  initBinary?: string
  optimisation: {
    removeCache: boolean
    removeDocs: boolean
    stripDebugSymbols: boolean
    compressBinaries: boolean
    excludePatterns: readonly string[]
    preservePaths: readonly string[]
  }
  rules: NetworkRules
  imageBytesMax: number
  /** Unpacked layers, and the image, each. */
  diskBytesMax: number
  pullTimeoutMs: number
  cacheDir: string
  /** Exists, empty, only ours; the image is left here as `filesystem.tar`. */
  scratchDir: string
  userAgent: string
}

export type Step = 'resolve' | 'pull' | 'index' | 'merge' | 'write' | 'verify' | 'publish'

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'

export interface LogLine {
  level: LogLevel
  component: 'scheduler' | 'puller' | 'extractor' | 'builder' | 'optimizer' | 'publisher'
  message: string
  metadata?: Record<string, string>
}

export interface ImageMetadata {
  originalImage: string
  /** Of the platform's own manifest. */
  imageDigest: string
  /** Base first. */
  layers: readonly string[]
  labels: Record<string, string>
  command: readonly string[]
  entrypoint: readonly string[]
  workingDir: string
  env: Record<string, string>
  exposedPorts: readonly string[]
  user: string
  volumes: readonly string[]
}

export interface BuildMetrics {
  pullMs: number
  extractMs: number
  buildMs: number
  optimizeMs: number
  /** Unpacked bytes of all layers. */
  originalBytes: number
  rootfsBytes: number
  memoryPeakBytes: number
  diskBytes: number
}

export interface BuildResult {
  /** Name in the scratch directory. */
  file: string
  format: 'tar'
  rootfsBytes: number
  /** Lower-case hex SHA-256 of the whole file. */
  checksum: string
  hasInit: boolean
  metadata: ImageMetadata
  metrics: BuildMetrics
}

/** What a build needs from whoever runs it. Questions wait for their answer; the rest is told and forgotten. */
export interface BuildHost {
  log(line: LogLine): void
  /** @param percent of the whole build */
  progress(percent: number, current: string): void
  step(step: Step, event: 'started' | 'ended'): Promise<void>
  pulled(bytes: number): void
  /** The tag's digest from now on, also when the build is resumed. */
  pinned(manifestDigest: string): Promise<void>
  /** Whether the cached blob may be used for this image. */
  mayReuse(digest: string): Promise<boolean>
  /** A layer's blob is there: from the cache, or fetched from the image's own registry. */
  have(digest: string, bytes: number, how: { isAnonymous: boolean; wasCached: boolean }): Promise<void>
  /** Takes room for the image out of the tenant's storage. @throws BuildError QUOTA_EXCEEDED */
  reserve(bytes: number): Promise<void>
}

export interface FailedBuild {
  code: BuildErrorCode
  message: string
  /** For the log of the service, never for the tenant. */
  detail?: string
}
