// Image references by the distribution grammar: [host[:port]/]path[:tag][@digest].
// Spec: https://github.com/distribution/reference (the grammar), Docker's rule for telling a host from a path part.

import { FieldError } from '../errors.ts'
import { parseDigest } from './digest.ts'

export interface Reference {
  /** Normalised host, with port when it is not the standard one: `docker.io`, `localhost:5000`. */
  registry: string
  /** `library/alpine` */
  repository: string
  tag: string | undefined
  /** Wins over the tag. */
  digest: string | undefined
}

const referenceBytesMax = 512
/** The limit that registries themselves keep for repository names. */
const repositoryBytesMax = 255

const hostPattern =
  /^(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?$/
const pathPartPattern = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/
const tagPattern = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/

/** @throws FieldError that names the broken rule. */
export function parseReference(text: string, defaultRegistry = 'docker.io', field = 'image_uri'): Reference {
  const refuse = (rule: string): never => {
    throw new FieldError(field, `${field} ${JSON.stringify(text.slice(0, 100))} ${rule}`)
  }
  if (text.length > referenceBytesMax) refuse(`is longer than ${referenceBytesMax} bytes`)
  if (!/^[\x21-\x7e]+$/.test(text)) refuse('must be printable ASCII without spaces, such as alpine:3.20')
  if (text.startsWith('-')) refuse('must not start with "-"')
  if (text.includes('://')) refuse('must not carry a scheme; write registry.example.com/name:tag')

  const [beforeDigest = '', digest, ...more] = text.split('@')
  if (more.length > 0) refuse('has more than one "@"')
  if (digest !== undefined && !parseDigest(digest))
    refuse('must end in @sha256:<64 hex digits> or @sha512:<128 hex digits>')

  const { host, rest } = splitHost(beforeDigest)
  if (host !== undefined && !isHost(host)) refuse(`has "${host}" where a registry host must be`)

  // Only the last part may carry a tag; a colon further left belonged to the host.
  const lastSlash = rest.lastIndexOf('/')
  const colon = rest.indexOf(':', lastSlash + 1)
  const path = colon < 0 ? rest : rest.slice(0, colon)
  const tag = colon < 0 ? undefined : rest.slice(colon + 1)
  if (tag !== undefined && !tagPattern.test(tag))
    refuse(`has the tag "${tag}"; a tag is 1–128 of A–Z a–z 0–9 _ . - and starts with none of . -`)
  for (const part of path.split('/'))
    if (!pathPartPattern.test(part)) refuse(`has "${part}" in its path; parts are a–z 0–9 joined by single . _ __ or -`)

  const registry = normaliseRegistry(host ?? defaultRegistry)
  const repository = registry === 'docker.io' && !path.includes('/') ? `library/${path}` : path
  if (repository.length > repositoryBytesMax) refuse(`names a repository longer than ${repositoryBytesMax} bytes`)
  return { registry, repository, tag: tag ?? (digest === undefined ? 'latest' : undefined), digest }
}

export function formatReference(ref: Reference): string {
  const tag = ref.tag === undefined ? '' : `:${ref.tag}`
  const digest = ref.digest === undefined ? '' : `@${ref.digest}`
  return `${ref.registry}/${ref.repository}${tag}${digest}`
}

/** A tag as `pull_tags` carries it. */
export function isTag(text: string): boolean {
  return tagPattern.test(text)
}

/** One spelling per registry, so that allow lists compare equal: lower case, no :443, Docker Hub's other names folded. */
export function normaliseRegistry(host: string): string {
  const lower = host.toLowerCase().replace(/:443$/, '')
  return lower === 'index.docker.io' || lower === 'registry-1.docker.io' ? 'docker.io' : lower
}

/** Whether `text` is host[:port] with a port that exists. */
export function isHost(text: string): boolean {
  if (!hostPattern.test(text) || text.length > 255) return false
  const port = /:(\d+)$/.exec(text.startsWith('[') ? text.slice(text.indexOf(']')) : text)?.[1]
  return port === undefined || (Number(port) >= 1 && Number(port) <= 65_535)
}

/** The first part is a host when it has a dot, a colon or a bracket, or is `localhost`. Docker also takes upper case for one;
 *  a bare upper-case word names no registry in practice, and lower-cased it would read as a path. */
function splitHost(name: string): { host: string | undefined; rest: string } {
  const slash = name.indexOf('/')
  const first = name.slice(0, Math.max(slash, 0))
  if (slash < 0 || !(/[.:[]/.test(first) || first === 'localhost')) return { host: undefined, rest: name }
  return { host: first, rest: name.slice(slash + 1) }
}
