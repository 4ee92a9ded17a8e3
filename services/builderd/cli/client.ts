// The connection of builderd-cli: from flags and environment to an RPC client.

import { readFileSync } from 'node:fs'
import { type Client, createClient } from '@connectrpc/connect'
import { createConnectTransport } from '@connectrpc/connect-node'
import { parseDuration } from '#platform/time'
import { BuilderService } from '#proto/builder/v1/builder_pb'
import { UsageError } from './flags.ts'

export const connectionOptions = {
  server: { type: 'string' },
  user: { type: 'string' },
  tenant: { type: 'string' },
  'tls-mode': { type: 'string' },
  'spiffe-socket': { type: 'string' },
  'tls-cert': { type: 'string' },
  'tls-key': { type: 'string' },
  'tls-ca': { type: 'string' },
  timeout: { type: 'string' },
  'api-key': { type: 'string' },
} as const

type ConnectionFlags = { [K in keyof typeof connectionOptions]?: string | undefined }

export interface Connection {
  client: Client<typeof BuilderService>
  tenantId: string
  userId: string
  /** For unary calls; streams have none. */
  timeoutMs: number
}

/** @throws UsageError */
export function connect(flags: ConnectionFlags, env: Readonly<Record<string, string | undefined>>): Connection {
  const named = (name: string) => env[`UNKEY_BUILDERD_${name}`]
  const server = flags.server ?? named('SERVER_ADDRESS') ?? 'http://localhost:8082'
  if (!/^https?:\/\//.test(server) || !URL.canParse(server))
    throw new UsageError(`--server ${JSON.stringify(server)} must be a URL such as http://localhost:8082`)
  const tenantId = flags.tenant ?? named('TENANT_ID') ?? 'cli-tenant'
  const userId = flags.user ?? named('USER_ID') ?? 'cli-user'
  const mode = flags['tls-mode'] ?? named('TLS_MODE') ?? 'disabled'
  if (mode !== 'disabled' && mode !== 'file')
    throw new UsageError(
      mode === 'spiffe'
        ? '--tls-mode spiffe is not there yet; use file'
        : `--tls-mode ${mode} must be disabled or file`,
    )
  const apiKey = flags['api-key'] ?? named('API_KEY')
  const transport = createConnectTransport({
    baseUrl: server,
    httpVersion: '1.1',
    nodeOptions: mode === 'file' ? readTls(flags) : {},
    interceptors: [
      next => request => {
        request.header.set('x-tenant-id', tenantId)
        // Without a key the label that older servers take; it names a person and proves nothing.
        request.header.set('authorization', `Bearer ${apiKey ?? `dev_user_${userId}`}`)
        return next(request)
      },
    ],
  })
  return {
    client: createClient(BuilderService, transport),
    tenantId,
    userId,
    timeoutMs: readTimeout(flags.timeout ?? '30s'),
  }
}

function readTimeout(text: string): number {
  try {
    return parseDuration(text)
  } catch (error) {
    throw new UsageError(`--timeout ${error instanceof Error ? error.message : text}`)
  }
}

function readTls(flags: ConnectionFlags) {
  const read = (name: 'tls-cert' | 'tls-key' | 'tls-ca') => {
    const path = flags[name]
    if (path === undefined) return undefined
    try {
      return readFileSync(path)
    } catch (error) {
      throw new UsageError(
        `--${name} ${path} cannot be read: ${error instanceof Error ? error.message : String(error)}`,
      )
    }
  }
  const [cert, key, ca] = [read('tls-cert'), read('tls-key'), read('tls-ca')]
  return { ...(cert && { cert }), ...(key && { key }), ...(ca && { ca }) }
}
