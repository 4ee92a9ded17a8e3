// A registry seen from one image: manifests and blobs of one repository, with one tenant's credentials.
// Spec: https://github.com/opencontainers/distribution-spec, Docker registry API v2.
//
// Redirects are followed by hand, because each one is a new decision: the target must be public (or listed), https
// unless listed, and credentials stay with the host they were given for.

import type { Dispatcher } from 'undici'
import type { Clock } from '#platform/time'
import { BuildError, invalidSource } from '../errors.ts'
import { type Descriptor, manifestBytesMax, manifestMediaTypes } from '../images/manifest.ts'
import { basicAuthorization, type Credentials, parseChallenge, readToken, tokenUrl } from './auth.ts'
import { createDialer, silenceMsMax } from './dial.ts'
import { createNetworkPolicy, type NetworkRules } from './network-policy.ts'
import { type RetryPolicy, registryRetry, retryAfterMs, TryAgain, withRetry } from './retry.ts'
import type { BlobStream, ImageSource } from './source.ts'

export interface RegistryOptions {
  /** Normalised host[:port]. */
  registry: string
  repository: string
  credentials?: Credentials | undefined
  rules: NetworkRules
  clock: Clock
  retry?: RetryPolicy
  userAgent: string
}

const redirectsMax = 5
const tokenBytesMax = 1024 * 1024
/** Under this many bytes in `silenceMsMax` a transfer counts as stalled. */
const slowBytesMin = 1024 * (silenceMsMax / 1_000)

/** @throws BuildError NETWORK_DENIED when the tenant may not use the registry */
export function openRegistry(o: RegistryOptions): ImageSource {
  const policy = createNetworkPolicy(o.rules)
  policy.requireRegistry(o.registry)
  const dialer = createDialer(policy)
  const retry = o.retry ?? registryRetry
  const name = `${o.registry}/${o.repository}`
  // Docker Hub's API lives under another name than its images.
  const apiHost = o.registry === 'docker.io' ? 'registry-1.docker.io' : o.registry
  const base = new URL(`${policy.isInsecure(o.registry) ? 'http' : 'https'}://${apiHost}/v2/${o.repository}/`)
  let authorization = o.credentials?.token ? `Bearer ${o.credentials.token}` : undefined

  /** One answer, redirects followed, credentials refreshed once. Anything but 2xx is thrown or handed to `onStatus`. */
  async function get(url: URL, headers: Record<string, string>, signal: AbortSignal): Promise<Dispatcher.ResponseData> {
    let target = url
    let hasRefreshed = false
    for (let redirects = 0; ; ) {
      requireHttps(target)
      const isOwn = target.origin === base.origin
      const response = await dialer.request({
        origin: target.origin,
        path: target.pathname + target.search,
        method: 'GET',
        signal,
        headers: {
          ...headers,
          'user-agent': o.userAgent,
          'accept-encoding': 'identity',
          ...(isOwn && authorization !== undefined ? { authorization } : {}),
        },
      })
      const { statusCode } = response
      if (statusCode === 401 && isOwn && !hasRefreshed) {
        hasRefreshed = true
        await response.body.dump()
        await authorize(headerOf(response, 'www-authenticate') ?? '', signal)
      } else if ([301, 302, 303, 307, 308].includes(statusCode)) {
        await response.body.dump()
        target = nextTarget(target, headerOf(response, 'location'), ++redirects)
      } else return response
    }
  }

  function nextTarget(from: URL, location: string | undefined, redirects: number): URL {
    if (redirects > redirectsMax) throw new BuildError('NETWORK_ERROR', `${name}: more than ${redirectsMax} redirects.`)
    if (location === undefined || !URL.canParse(location, from.href))
      throw new BuildError('NETWORK_ERROR', `${name}: ${from.host} redirects to nowhere.`)
    const url = new URL(location, from)
    if (url.protocol !== 'https:' && url.protocol !== 'http:')
      throw new BuildError(
        'NETWORK_DENIED',
        `${name}: ${from.host} redirects to ${url.protocol}, which is not followed.`,
      )
    url.username = ''
    url.password = ''
    return url
  }

  function requireHttps(url: URL) {
    if (url.protocol !== 'https:' && !policy.isInsecure(url.host))
      throw new BuildError(
        'NETWORK_DENIED',
        `${name}: ${url.host} is plain HTTP. DOCKER_INSECURE_REGISTRIES would allow it.`,
      )
  }

  async function authorize(header: string, signal: AbortSignal) {
    const challenge = parseChallenge(header)
    if (!challenge) throw denied('asks for credentials in a way that is not known')
    const hasPassword = o.credentials !== undefined && o.credentials.username !== ''
    if (o.credentials?.token) throw denied('does not accept the token')
    if (challenge.scheme === 'basic') {
      if (!o.credentials || !hasPassword) throw denied('asks for a user name and password')
      authorization = basicAuthorization(o.credentials)
      return
    }
    const url = tokenUrl(challenge, o.repository)
    requireHttps(url)
    const response = await dialer.request({
      origin: url.origin,
      path: url.pathname + url.search,
      method: 'GET',
      signal,
      headers: {
        'user-agent': o.userAgent,
        ...(o.credentials && hasPassword ? { authorization: basicAuthorization(o.credentials) } : {}),
      },
    })
    if (response.statusCode !== 200) {
      await response.body.dump()
      if (response.statusCode === 401 || response.statusCode === 403)
        throw denied(`refuses a token (its token server answered ${response.statusCode})`)
      throw answerFailure(`the token server ${url.host}`, response)
    }
    authorization = `Bearer ${readToken(await readBody(response, tokenBytesMax, 'the token'))}`
  }

  const denied = (what: string) =>
    new BuildError(
      'AUTHENTICATION_FAILED',
      `Registry ${o.registry} ${what} for ${o.repository}. Check the name, and the credentials in docker_image.auth.`,
    )

  /** A status that is not success, as what it means for the build. */
  function answerFailure(what: string, response: Dispatcher.ResponseData): Error {
    const { statusCode } = response
    if (statusCode === 401 || statusCode === 403) return denied(`answered ${statusCode}`)
    if (statusCode === 429)
      return new TryAgain(
        new BuildError(
          'REGISTRY_RATE_LIMIT',
          `Registry ${o.registry} limits how often ${what} may be fetched. Retry later, or use credentials with a higher limit.`,
        ),
        retryAfterMs(headerOf(response, 'retry-after'), o.clock),
      )
    const failure = new BuildError('NETWORK_ERROR', `${o.registry} answered ${statusCode} for ${what}.`)
    if (statusCode === 408 || statusCode >= 500)
      return new TryAgain(failure, retryAfterMs(headerOf(response, 'retry-after'), o.clock))
    return failure
  }

  // No retry here: whoever writes the bytes knows how far it got and asks again from there.
  async function openBlob(blob: Descriptor, from: number, signal: AbortSignal): Promise<BlobStream> {
    const range: Record<string, string> = from > 0 ? { range: `bytes=${from}-` } : {}
    const response = await get(new URL(`blobs/${blob.digest}`, base), range, signal)
    if (response.statusCode === 200 || response.statusCode === 206) return streamOf(response, blob, from, o.clock)
    await response.body.dump()
    if (response.statusCode === 416 && from > 0) return openBlob(blob, 0, signal)
    if (response.statusCode === 404) throw invalidSource(`${name}: the registry has no blob ${blob.digest}.`)
    throw answerFailure(`blob ${blob.digest}`, response)
  }

  return {
    name,
    registry: o.registry,
    isAnonymous: o.credentials === undefined || (o.credentials.username === '' && o.credentials.token === ''),
    fetchManifest(tagOrDigest, signal) {
      const what = `${o.repository}${tagOrDigest.includes(':') ? '@' : ':'}${tagOrDigest}`
      return withRetry(retry, signal, async () => {
        const url = new URL(`manifests/${tagOrDigest}`, base)
        const response = await get(url, { accept: manifestMediaTypes.join(', ') }, signal)
        if (response.statusCode === 404) {
          await response.body.dump()
          return undefined
        }
        if (response.statusCode !== 200) {
          await response.body.dump()
          throw answerFailure(what, response)
        }
        const bytes = await readBody(response, manifestBytesMax, `the manifest of ${what}`)
        const mediaType = headerOf(response, 'content-type')
        return mediaType === undefined ? { bytes } : { bytes, mediaType }
      })
    },
    openBlob,
    close: () => dialer.close(),
  }
}

function streamOf(response: Dispatcher.ResponseData, blob: Descriptor, from: number, clock: Clock): BlobStream {
  if (response.statusCode === 200) return { from: 0, body: paced(response.body, clock) }
  const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headerOf(response, 'content-range') ?? '')
  if (range?.[1] !== String(from) || (range[2] !== '*' && range[2] !== String(blob.size))) {
    response.body.destroy()
    throw new BuildError(
      'NETWORK_ERROR',
      `The registry answered a request for the rest of ${blob.digest} with another range.`,
    )
  }
  return { from, body: paced(response.body, clock) }
}

/** Ends a transfer that only trickles; undici ends one that says nothing at all. */
async function* paced(body: AsyncIterable<Uint8Array>, clock: Clock): AsyncGenerator<Uint8Array> {
  let sinceMs = clock.monotonicMs()
  let bytes = 0
  for await (const chunk of body) {
    bytes += chunk.byteLength
    const nowMs = clock.monotonicMs()
    if (nowMs - sinceMs >= silenceMsMax) {
      if (bytes < slowBytesMin)
        throw new TryAgain(
          new BuildError('NETWORK_ERROR', `The registry sent ${bytes} bytes in ${silenceMsMax / 1_000} s.`),
        )
      sinceMs = nowMs
      bytes = 0
    }
    yield chunk
  }
}

async function readBody(response: Dispatcher.ResponseData, bytesMax: number, what: string): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of response.body) {
    chunks.push(chunk)
    bytes += chunk.byteLength
    if (bytes > bytesMax)
      throw new BuildError('INVALID_SOURCE', `The registry sends more than ${bytesMax} bytes for ${what}.`)
  }
  return Buffer.concat(chunks)
}

function headerOf(response: Dispatcher.ResponseData, name: string): string | undefined {
  const value = response.headers[name]
  return Array.isArray(value) ? value.join(', ') : value
}
