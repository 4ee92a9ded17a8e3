// Talks to the services as the outside does: JSON over HTTP, with the credential each door wants.

import { mintToken } from '#platform/tenancy/token'
import type { Clock } from '#platform/time'
import type { ServiceName } from '../plan.ts'

export interface Caller {
  urlOf(name: ServiceName): string
  get<T>(name: ServiceName, path: string): Promise<T>
  /** As `tenant` when one is given. */
  post<T>(
    name: ServiceName,
    path: string,
    body: unknown,
    o?: { tenant?: string; headers?: Record<string, string> },
  ): Promise<T>
  /** Without throwing on refusals: the demo counts them. */
  send(name: ServiceName, path: string, body: unknown, headers: Record<string, string>): Promise<Response>
}

const timeoutMs = 30_000

export function openCaller(o: {
  urlOf: (name: ServiceName) => string | undefined
  secret: Buffer
  clock: Clock
  adminKey: string
}): Caller {
  const urlOf = (name: ServiceName) => {
    const url = o.urlOf(name)
    if (url === undefined) throw new Error(`${name} is not running`)
    return url
  }
  // Operators of this machine may mint what the services accept from each other; customers' calls bring their own keys.
  const operator = (name: ServiceName, tenant?: string): Record<string, string> => {
    if (name === 'budgetguard') return { 'x-admin-key': o.adminKey }
    const claims = {
      audience: name,
      role: 'owner' as const,
      subject: 'demo',
      clock: o.clock,
      ...(tenant === undefined ? {} : { tenant }),
    }
    return { authorization: `Bearer ${mintToken(o.secret, claims)}` }
  }
  const request = (name: ServiceName, path: string, init: RequestInit) =>
    fetch(urlOf(name) + path, { ...init, signal: AbortSignal.timeout(timeoutMs) })
  const answerOf = async <T>(name: ServiceName, path: string, response: Response): Promise<T> => {
    const text = await response.text()
    if (!response.ok) throw new Error(`${name} ${path} answered ${response.status}: ${text.slice(0, 400)}`)
    return (text === '' ? undefined : JSON.parse(text)) as T
  }
  const json = (body: unknown, headers: Record<string, string>): RequestInit => ({
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  })
  return {
    urlOf,
    get: async (name, path) => answerOf(name, path, await request(name, path, { headers: operator(name) })),
    post: async (name, path, body, { tenant, headers } = {}) =>
      answerOf(name, path, await request(name, path, json(body, { ...operator(name, tenant), ...headers }))),
    send: (name, path, body, headers) => request(name, path, json(body, headers)),
  }
}
