// Where a request may carry its key, in the order in which it is looked for.

import type { IncomingHttpHeaders } from 'node:http'

/** The ladder of the native routes: X-API-Key; Bearer K; bare K. Undefined when there is none. */
export function nativeCredential(headers: IncomingHttpHeaders): string | undefined {
  const own = single(headers['x-api-key'])
  if (own) return own
  const { authorization } = headers
  if (!authorization) return undefined
  // Exactly one space: with two the whole header is the key, which is then unknown.
  const parts = authorization.split(' ')
  return parts.length === 2 && parts[0]?.toLowerCase() === 'bearer' ? parts[1] || undefined : authorization
}

interface Asking {
  headers: IncomingHttpHeaders
  parameters: URLSearchParams
}

/** The newer protocols also take `ApiKey base64(id:K)`, `ApiKey K`, Basic with K as password, Datadog's header and parameter. */
export function protocolCredential({ headers, parameters }: Asking): string | undefined {
  const own = single(headers['x-api-key'])
  if (own) return own
  const match = /^(apikey|basic) +(\S+)$/i.exec(headers.authorization ?? '')
  if (match) {
    const [, scheme = '', value = ''] = match
    const decoded = Buffer.from(value, 'base64').toString('utf8')
    const colon = decoded.indexOf(':')
    const isPair =
      colon >= 0 && Buffer.from(decoded).toString('base64').replaceAll('=', '') === value.replaceAll('=', '')
    if (isPair) return decoded.slice(colon + 1) || undefined
    return scheme.toLowerCase() === 'apikey' ? value : undefined
  }
  return nativeCredential(headers) ?? single(headers['dd-api-key']) ?? (parameters.get('dd-api-key') || undefined)
}

/** Routes under /admin: a bearer token, or a key in X-API-Key. */
export function adminCredential(headers: IncomingHttpHeaders): string | undefined {
  const match = /^bearer +(\S+)$/i.exec(headers.authorization ?? '')
  return match?.[1] ?? single(headers['x-api-key'])
}

function single(value: string | string[] | undefined): string | undefined {
  const first = Array.isArray(value) ? value[0] : value
  return first === undefined || first === '' ? undefined : first
}
