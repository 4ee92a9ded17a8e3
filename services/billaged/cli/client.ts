import { readFileSync } from 'node:fs'
import { request as requestHttp } from 'node:http'
import { request as requestHttps } from 'node:https'
import { join } from 'node:path'
import { createClient } from '@connectrpc/connect'
import { createConnectTransport } from '@connectrpc/connect-node'
import { BillingService } from '#proto/billing/v1/billing_pb'
import { clientTls } from '../tls/workload-api.ts'
import { type Flags, UsageError } from './args.ts'

/** The RPCs, with the headers the guide's command line sends. */
export function createRpcClient(flags: Flags) {
  const authorization = flags.key === '' ? `Bearer dev_user_${flags.user}` : `Bearer ${flags.key}`
  const transport = createConnectTransport({
    baseUrl: baseUrl(flags),
    httpVersion: '1.1',
    useBinaryFormat: true,
    defaultTimeoutMs: flags.timeoutMs,
    nodeOptions: tlsOptions(flags),
    interceptors: [
      next => request => {
        if (!request.header.has('x-tenant-id')) request.header.set('x-tenant-id', flags.tenant)
        request.header.set('authorization', authorization)
        request.header.set('x-user-id', flags.user)
        return next(request)
      },
    ],
  })
  return createClient(BillingService, transport)
}

/** One JSON call of the HTTP API. Rejects with the answer's own sentence. */
export async function callApi(
  flags: Flags,
  method: string,
  path: string,
  body?: unknown,
): Promise<{ status: number; body: unknown }> {
  const url = new URL(path, baseUrl(flags))
  const request = url.protocol === 'https:' ? requestHttps : requestHttp
  const payload = body === undefined ? undefined : JSON.stringify(body)
  const { status, text } = await new Promise<{ status: number; text: string }>((resolve, reject) => {
    const call = request(url, {
      method,
      ...tlsOptions(flags),
      timeout: flags.timeoutMs,
      headers: {
        authorization: `Bearer ${operatorKey(flags)}`,
        ...(payload === undefined ? {} : { 'content-type': 'application/json' }),
      },
    })
    call.on('response', response => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }))
      response.on('error', reject)
    })
    call.on('timeout', () => call.destroy(new Error(`no answer from ${url.origin} within ${flags.timeoutMs} ms`)))
    call.on('error', reject)
    call.end(payload)
  })
  const answer: unknown = text === '' ? null : JSON.parse(text)
  if (status >= 400 && status !== 409) {
    const detail = typeof answer === 'object' && answer !== null && 'detail' in answer ? String(answer.detail) : text
    throw new Error(`${method} ${path}: ${status} ${detail}`)
  }
  return { status, body: answer }
}

function baseUrl({ server, tlsMode }: Flags): string {
  if (!['disabled', 'file', 'spiffe'].includes(tlsMode))
    throw new UsageError(`-tls-mode is ${tlsMode}; it is disabled, file or spiffe`)
  if (/^https?:\/\//.test(server)) return server
  return `${tlsMode === 'disabled' ? 'http' : 'https'}://${server}`
}

function tlsOptions({ tlsMode, tlsCert, tlsKey, tlsCa, svid }: Flags) {
  if (svid !== null) return clientTls(svid)
  if (tlsMode !== 'file') return {}
  return {
    ...(tlsCa === '' ? {} : { ca: readFileSync(tlsCa) }),
    ...(tlsCert === '' ? {} : { cert: readFileSync(tlsCert) }),
    ...(tlsKey === '' ? {} : { key: readFileSync(tlsKey) }),
  }
}

/** `-key`, its variable, or the admin.key of an installation on this machine. */
function operatorKey({ key, keyDirs }: Flags): string {
  if (key !== '') return key
  for (const dir of keyDirs) {
    try {
      return readFileSync(join(dir, 'admin.key'), 'utf8').trim()
    } catch {
      // Not there, or not ours to read: the next place.
    }
  }
  throw new UsageError(
    `no operator key: give -key or BILLAGED_API_KEY, or run where admin.key can be read (looked in ${keyDirs.join(', ')})`,
  )
}
