import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Agent, fetch } from 'undici'
import type { Config } from '../config.ts'
import { clientTls, fetchSvid } from '../tls/workload-api.ts'

/** Wrong words on the command line: exit 2. */
export class UsageError extends Error {
  override name = 'UsageError'
}

/** An answer that says no; the sentence is the service's own. */
export class Refused extends Error {
  override name = 'Refused'
  readonly status: number
  readonly body: unknown
  constructor(status: number, detail: string, body: unknown) {
    super(detail)
    this.status = status
    this.body = body
  }
}

export interface Client {
  get<T>(path: string): Promise<T>
  post<T>(path: string, body?: unknown, headers?: Record<string, string>): Promise<T>
  text(path: string): Promise<string>
  bytes(path: string): Promise<Buffer>
}

/** Closing a month of many customers takes its time; a server that is gone is noticed by the connection. */
const timeoutMs = 15 * 60_000
const identityTimeoutMs = 10_000

/** Talks to the running service as an operator. */
export function createClient(config: Config, o: { server: string | undefined; key: string | undefined }): Client {
  const isSpiffe = config.tlsMode === 'spiffe'
  const isTls = isSpiffe || config.isTlsEnabled || config.tlsMode === 'file'
  const host = config.address === '0.0.0.0' || config.address === '::' ? '127.0.0.1' : config.address
  const given = o.server ?? config.serverAddress ?? `${host}:${config.port}`
  const base = /^https?:\/\//.test(given) ? given : `${isTls ? 'https' : 'http'}://${given}`
  const read = (path: string | undefined) => (path === undefined ? undefined : readFileSync(path))
  // Ours is the server's own configuration: its certificate is the one to trust, also when it signed itself.
  const fileTls = () => ({
    ca: read(config.tlsCaFile ?? config.tlsCertFile),
    cert: read(config.tlsCertFile),
    key: read(config.tlsKeyFile),
  })
  const connect = async () =>
    new Agent({
      headersTimeout: timeoutMs,
      bodyTimeout: timeoutMs,
      ...(isTls
        ? { connect: isSpiffe ? clientTls(await fetchSvid(config.spiffeSocket, identityTimeoutMs)) : fileTls() }
        : {}),
    })
  let connecting: Promise<Agent> | undefined
  const authorization = `Bearer ${o.key ?? config.apiKey ?? adminKey(config)}`

  async function call(method: string, path: string, body?: unknown, headers: Record<string, string> = {}) {
    connecting ??= connect()
    const dispatcher = await connecting
    const response = await fetch(new URL(path, base), {
      method,
      dispatcher,
      headers: { authorization, ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    }).catch((error: unknown) => {
      const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error)
      throw new Error(
        `no answer from ${base}: ${cause}. Is billaged running? -server, or UNKEY_BILLAGED_SERVER_ADDRESS, names another address.`,
      )
    })
    const bytes = Buffer.from(await response.arrayBuffer())
    if (response.ok) return bytes
    const text = bytes.toString('utf8')
    const problem: unknown = text.startsWith('{') ? JSON.parse(text) : null
    const detail =
      typeof problem === 'object' && problem !== null && 'detail' in problem ? String(problem.detail) : text
    throw new Refused(response.status, detail, problem)
  }
  return {
    get: async path => JSON.parse(`${await call('GET', path)}`),
    post: async (path, body, headers) => JSON.parse(`${await call('POST', path, body ?? {}, headers)}`),
    text: async path => `${await call('GET', path)}`,
    bytes: path => call('GET', path),
  }
}

/** The key that an installation on this machine made. */
function adminKey(config: Config): string {
  const dirs = [config.billagedDataDir, join(config.dataDir, 'billaged'), '/var/lib/billaged'].filter(
    dir => dir !== undefined,
  )
  for (const dir of dirs) {
    try {
      return readFileSync(join(dir, 'admin.key'), 'utf8').trim()
    } catch {
      // Not there, or not ours to read: the next place.
    }
  }
  throw new UsageError(`no operator key: give -key or BILLAGED_API_KEY (looked for admin.key in ${dirs.join(', ')})`)
}
