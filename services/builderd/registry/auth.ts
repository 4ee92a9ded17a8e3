// The WWW-Authenticate dance of registries: Basic, or a Bearer token fetched from a realm.
// Spec: https://distribution.github.io/distribution/spec/auth/token/

import { BuildError } from '../errors.ts'

export interface Credentials {
  username: string
  password: string
  /** A ready registry token; used as Bearer as it is. */
  token: string
}

export interface Challenge {
  scheme: 'basic' | 'bearer'
  parameters: Readonly<Record<string, string>>
}

/** The first challenge we can answer; Bearer wins when both are offered. */
export function parseChallenge(header: string): Challenge | undefined {
  const found: Challenge[] = []
  // A challenge is a scheme and then key="value" pairs; several may share one header.
  for (const [, scheme = '', rest = ''] of header.matchAll(
    /\b(basic|bearer)\b((?:\s*,?\s*[a-z_]+=(?:"[^"]*"|[^\s,"]+))*)/gi,
  )) {
    const pairs = [...rest.matchAll(/([a-z_]+)=(?:"([^"]*)"|([^\s,"]+))/gi)]
    const parameters = Object.fromEntries(
      pairs.map(([, key = '', quoted, bare]) => [key.toLowerCase(), quoted ?? bare ?? '']),
    )
    found.push({ scheme: scheme.toLowerCase() === 'basic' ? 'basic' : 'bearer', parameters })
  }
  return found.find(challenge => challenge.scheme === 'bearer') ?? found[0]
}

export function basicAuthorization(credentials: Credentials): string {
  return `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64')}`
}

/** The URL a token is fetched from. @throws BuildError when the realm is not one */
export function tokenUrl(challenge: Challenge, repository: string): URL {
  const { realm = '', service } = challenge.parameters
  if (!URL.canParse(realm))
    throw new BuildError(
      'NETWORK_ERROR',
      `The registry asks for a token from ${JSON.stringify(realm.slice(0, 100))}, which is not a URL.`,
    )
  const url = new URL(realm)
  if (service !== undefined) url.searchParams.set('service', service)
  // Never the challenge's own scope: we ask for what we need, whatever the registry would like us to ask for.
  url.searchParams.set('scope', `repository:${repository}:pull`)
  return url
}

export function readToken(body: Buffer): string {
  let json: unknown
  try {
    json = JSON.parse(body.toString('utf8'))
  } catch {
    json = undefined
  }
  if (typeof json === 'object' && json !== null)
    for (const key of ['token', 'access_token'] as const) {
      const token: unknown = Reflect.get(json, key)
      // It goes into a header as it is, so it must be one token68.
      if (typeof token === 'string' && /^[\x21-\x7e]{1,65536}$/.test(token)) return token
    }
  throw new BuildError('NETWORK_ERROR', 'The token server of the registry answered without a token.')
}
