// CreateBuild's rules: a BuildConfig as it came in, a request that can be trusted out. The first six checks and their
// texts are the guide's, in its order.

import { type BuildConfig, InitStrategy, type TenantTier } from '#proto/builder/v1/builder_pb'
import { FieldError } from './errors.ts'
import { hostPlatform, type Platform, parsePlatform } from './images/platform.ts'
import { formatReference, isTag, normaliseRegistry, parseReference, type Reference } from './images/reference.ts'
import type { RuntimeOverrides } from './images/runtime.ts'
import type { RequestedLimits } from './quotas/limits.ts'
import type { Credentials } from './registry/auth.ts'
import { compileGlobs } from './rootfs/globs.ts'
import type { InitStrategy as Init } from './rootfs/inject.ts'

/** A request that is right but for a part that is not there yet. */
export class NotThereYet extends Error {}

export type RequestedSource =
  | { kind: 'docker_image'; reference: Reference; pullTags: readonly string[]; credentials: Credentials | undefined }
  | { kind: 'layout'; path: string; tag: string }

export interface BuildRequest {
  tenantId: string
  customerId: string
  /** The tier the caller believes to have; only ever logged. */
  claimedTier: TenantTier
  source: RequestedSource
  /** For people: the reference as it is understood. */
  imageRef: string
  platform: Platform
  priority: number
  runtime: RuntimeOverrides
  initStrategy: Init
  optimisation: {
    removeCache: boolean
    removeDocs: boolean
    stripDebugSymbols: boolean
    compressBinaries: boolean
    excludePatterns: readonly string[]
    preservePaths: readonly string[]
  }
  limits: RequestedLimits | undefined
  name: string
  labels: Readonly<Record<string, string>>
}

const tenantPattern = /^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$/
const labelsMax = 64
const labelKeyBytesMax = 128
const labelValueBytesMax = 1024
const nameBytesMax = 256
const environmentBytesMax = 512 * 1024
const pullTagsMax = 32
const listMax = 1_024

const knownLabels = [
  'format',
  'platform',
  'free-bytes',
  'journal',
  'compress',
  'verity',
  'sbom',
  'sign',
  'boot-proof',
  'priority',
  'dockerfile',
  'archive',
  'watch-tag',
] as const

export function isTenantId(text: string): boolean {
  return tenantPattern.test(text) && !text.includes('..')
}

/** @throws FieldError, NotThereYet */
export function readRequest(config: BuildConfig | undefined, defaultRegistry: string, nodeArch: string): BuildRequest {
  if (!config) throw new FieldError('config', 'build config is required')
  if (!config.tenant) throw new FieldError('config.tenant', 'tenant context is required')
  if (config.tenant.tenantId === '') throw new FieldError('config.tenant.tenant_id', 'tenant ID is required')
  if (!config.source) throw new FieldError('config.source', 'build source is required')
  if (!config.target) throw new FieldError('config.target', 'build target is required')
  if (!config.strategy) throw new FieldError('config.strategy', 'build strategy is required')
  const { sourceType } = config.source
  if (sourceType.case === 'dockerImage' && sourceType.value.imageUri === '')
    throw new FieldError('docker_image.image_uri', 'docker image URI is required')
  if (sourceType.case === 'gitRepository' && sourceType.value.repositoryUrl === '')
    throw new FieldError('git_repository.repository_url', 'git repository URL is required')
  if (sourceType.case === 'archive' && sourceType.value.archiveUrl === '')
    throw new FieldError('archive.archive_url', 'archive URL is required')
  if (sourceType.case === undefined) throw new FieldError('config.source', 'unsupported source type')

  if (!isTenantId(config.tenant.tenantId))
    throw new FieldError(
      'config.tenant.tenant_id',
      'tenant ID must be 1–128 of A–Z a–z 0–9 . _ : @ -, starting with a letter or digit',
    )
  bounded('config.tenant.customer_id', config.tenant.customerId, nameBytesMax)
  bounded('config.build_name', config.buildName, nameBytesMax)
  const labels = readLabels(config.labels)
  const { source, imageRef } = readSource(config, defaultRegistry)
  const { runtime, initStrategy, optimisation } = readTarget(config)
  return {
    tenantId: config.tenant.tenantId,
    customerId: config.tenant.customerId,
    claimedTier: config.tenant.tier,
    source,
    imageRef,
    platform: labels.platform === undefined ? hostPlatform(nodeArch) : parsePlatform(labels.platform),
    priority: labels.priority,
    runtime,
    initStrategy,
    optimisation,
    limits: readLimits(config),
    name: config.buildName,
    labels: config.labels,
  }
}

function readSource(config: BuildConfig, defaultRegistry: string): { source: RequestedSource; imageRef: string } {
  const strategy = config.strategy?.strategyType.case
  const sourceType = config.source?.sourceType
  if (strategy === undefined) throw new FieldError('config.strategy', 'build strategy is required: set docker_extract')
  if (sourceType?.case !== 'dockerImage')
    throw new NotThereYet(
      `Building from ${sourceType?.case === 'archive' ? 'an archive' : 'a git repository'} is not there yet; use docker_image.`,
    )
  if (strategy !== 'dockerExtract')
    throw new FieldError(
      'config.strategy',
      `${snake(strategy)} needs a git or archive source; use docker_extract for docker_image`,
    )
  const { imageUri, auth, pullTags } = sourceType.value

  const layout = /^oci:(.+?)(?::([A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?$/.exec(imageUri)
  if (layout) {
    const [, path = '', tag = 'latest'] = layout
    bounded('docker_image.image_uri', imageUri, 512)
    if (path.startsWith('/') || path.includes('\0') || path.split('/').includes('..'))
      throw new FieldError(
        'docker_image.image_uri',
        'image_uri oci:PATH must be a path below LOCAL_SOURCES_DIR without ".."',
      )
    return { source: { kind: 'layout', path, tag }, imageRef: imageUri }
  }
  const prefix = /^(oci-archive|docker-archive|docker-daemon):/.exec(imageUri)?.[1]
  if (prefix !== undefined)
    throw new NotThereYet(`${prefix}: is not there yet; use a registry, or oci: for a local layout.`)

  const reference = parseReference(imageUri, defaultRegistry)
  if (pullTags.length > pullTagsMax)
    throw new FieldError(
      'docker_image.pull_tags',
      `pull_tags has ${pullTags.length} entries; at most ${pullTagsMax} are tried`,
    )
  for (const tag of pullTags)
    if (!isTag(tag))
      throw new FieldError(
        'docker_image.pull_tags',
        `pull_tags has ${JSON.stringify(tag.slice(0, 100))}, which is not a tag`,
      )
  if (auth?.registry && normaliseRegistry(auth.registry) !== reference.registry)
    throw new FieldError(
      'docker_image.auth.registry',
      `auth.registry is ${JSON.stringify(auth.registry.slice(0, 100))}, but the image is on ${reference.registry}`,
    )
  for (const [field, value] of Object.entries({
    username: auth?.username,
    password: auth?.password,
    token: auth?.token,
  }))
    if (value !== undefined && (value.length > 16_384 || (field !== 'password' && /[^\x21-\x7e]/.test(value))))
      throw new FieldError(`docker_image.auth.${field}`, `auth.${field} must be printable ASCII of at most 16384 bytes`)
  const credentials =
    auth && (auth.username !== '' || auth.token !== '')
      ? { username: auth.username, password: auth.password, token: auth.token }
      : undefined
  return { source: { kind: 'docker_image', reference, pullTags, credentials }, imageRef: formatReference(reference) }
}

function readTarget(config: BuildConfig): Pick<BuildRequest, 'runtime' | 'initStrategy' | 'optimisation'> {
  const target = config.target?.targetType
  if (target?.case === 'containerImage') {
    if (target.value.layers.length > 0)
      throw new FieldError('container_image.layers', 'container_image.layers must be empty')
    throw new NotThereYet('container_image as a target is not there yet; use microvm_rootfs.')
  }
  if (target?.case !== 'microvmRootfs')
    throw new FieldError('config.target', 'build target is required: set microvm_rootfs')
  const { initStrategy, runtimeConfig, optimization, preservePaths } = target.value
  const strategy = config.strategy?.strategyType
  const excludePatterns = [
    ...(optimization?.excludePatterns ?? []),
    ...(strategy?.case === 'dockerExtract' ? strategy.value.excludePatterns : []),
  ]
  const preserved = [...(optimization?.preservePaths ?? []), ...preservePaths]
  compileGlobs(excludePatterns, 'exclude_patterns')
  compileGlobs(preserved, 'preserve_paths')
  return {
    runtime: readRuntime(runtimeConfig),
    initStrategy: readInit(initStrategy),
    optimisation: {
      removeCache: optimization?.removeCache ?? false,
      removeDocs: optimization?.removeDocs ?? false,
      stripDebugSymbols: optimization?.stripDebugSymbols ?? false,
      compressBinaries: optimization?.compressBinaries ?? false,
      excludePatterns,
      preservePaths: preserved,
    },
  }
}

function readInit(strategy: InitStrategy): Init {
  switch (strategy) {
    case InitStrategy.UNSPECIFIED:
    case InitStrategy.TINI:
      return 'tini'
    case InitStrategy.DIRECT:
      return 'direct'
    case InitStrategy.CUSTOM:
      return 'custom'
    default:
      throw new FieldError('microvm_rootfs.init_strategy', `init_strategy ${String(strategy)} is not known`)
  }
}

type RuntimeConfig = {
  command: string[]
  entrypoint: string[]
  workingDir: string
  environment: Record<string, string>
  exposedPorts: string[]
}

function readRuntime(runtime: RuntimeConfig | undefined): RuntimeOverrides {
  const { command = [], entrypoint = [], workingDir = '', environment = {}, exposedPorts = [] } = runtime ?? {}
  for (const [field, list] of Object.entries({ command, entrypoint, exposed_ports: exposedPorts })) {
    if (list.length > listMax)
      throw new FieldError(
        `runtime_config.${field}`,
        `${field} has ${list.length} entries; at most ${listMax} are taken`,
      )
    for (const text of list) clean(`runtime_config.${field}`, text)
  }
  if (workingDir !== '' && !workingDir.startsWith('/'))
    throw new FieldError('runtime_config.working_dir', 'working_dir must be an absolute path')
  clean('runtime_config.working_dir', workingDir)
  let bytes = 0
  for (const [key, value] of Object.entries(environment)) {
    if (key === '' || key.includes('='))
      throw new FieldError('runtime_config.environment', 'environment has a name that is empty or holds "="')
    clean('runtime_config.environment', key)
    clean('runtime_config.environment', value)
    bytes += Buffer.byteLength(key) + Buffer.byteLength(value) + 2
  }
  if (bytes > environmentBytesMax)
    throw new FieldError(
      'runtime_config.environment',
      `environment is ${bytes} bytes; at most ${environmentBytesMax} are taken`,
    )
  for (const port of exposedPorts)
    if (!/^[0-9]{1,5}(-[0-9]{1,5})?(\/(tcp|udp|sctp))?$/.test(port))
      throw new FieldError(
        'runtime_config.exposed_ports',
        `exposed_ports has ${JSON.stringify(port.slice(0, 100))}; write 8080 or 53/udp`,
      )
  return { command, entrypoint, workingDir, environment, exposedPorts }
}

/** Labels of our own are instructions; a misspelt one must not be ignored. */
function readLabels(labels: Readonly<Record<string, string>>): { platform: string | undefined; priority: number } {
  const entries = Object.entries(labels)
  if (entries.length > labelsMax)
    throw new FieldError('config.labels', `labels has ${entries.length} entries; at most ${labelsMax} are taken`)
  for (const [key, value] of entries) {
    bounded('config.labels', key, labelKeyBytesMax)
    bounded('config.labels', value, labelValueBytesMax)
    if (key.startsWith('purser.')) readOwnLabel(key.slice('purser.'.length), value)
  }
  const priority = labels['purser.priority'] ?? '0'
  if (!/^-?([0-9]|10)$/.test(priority))
    throw new FieldError('config.labels', 'purser.priority must be a whole number from -10 to 10')
  return { platform: labels['purser.platform'], priority: Number(priority) }
}

function readOwnLabel(name: string, value: string) {
  if (!knownLabels.some(known => known === name)) {
    const near =
      knownLabels.find(known => known.startsWith(name.slice(0, 3))) ?? knownLabels.find(known => known[0] === name[0])
    throw new FieldError(
      'config.labels',
      `purser.${name} is not a label of builderd${near ? `; did you mean purser.${near}?` : ''}`,
    )
  }
  switch (name) {
    case 'platform':
    case 'priority':
      return
    case 'format':
      if (value === 'tar') return
      if (!['ext4', 'oci', 'squashfs', 'erofs'].includes(value))
        throw new FieldError('config.labels', `purser.format "${value}" is not known; tar is`)
      throw new NotThereYet(`purser.format=${value} is not there yet; use tar.`)
    case 'compress':
      if (value === 'none') return
      throw new NotThereYet(`purser.compress=${value} is not there yet; use none.`)
    default:
      throw new NotThereYet(`The label purser.${name} is not there yet.`)
  }
}

function readLimits({ limits }: BuildConfig): RequestedLimits | undefined {
  if (!limits) return undefined
  const figures = {
    buildsMax: limits.maxConcurrentBuilds,
    dailyBuildsMax: limits.maxDailyBuilds,
    buildMinutesMax: limits.maxBuildTimeMinutes,
    timeoutS: limits.timeoutSeconds,
    memoryBytesMax: Number(limits.maxMemoryBytes),
    coresMax: limits.maxCpuCores,
    diskBytesMax: Number(limits.maxDiskBytes),
    storageBytesMax: Number(limits.maxStorageBytes),
  }
  for (const [field, value] of Object.entries(figures))
    if (value < 0) throw new FieldError('config.limits', `limits has a negative ${field}`)
  return {
    ...figures,
    registries: limits.allowedRegistries.map(normaliseRegistry),
    gitHosts: limits.allowedGitHosts,
    blockedCommands: limits.blockedCommands,
    sandboxLevel: limits.sandboxLevel,
  }
}

function bounded(field: string, text: string, bytesMax: number) {
  clean(field, text)
  if (Buffer.byteLength(text) > bytesMax)
    throw new FieldError(field, `${field} is ${Buffer.byteLength(text)} bytes; at most ${bytesMax} are taken`)
}

function clean(field: string, text: string) {
  if (text.includes('\0')) throw new FieldError(field, `${field} holds a NUL character`)
}

function snake(name: string): string {
  return name.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`)
}
