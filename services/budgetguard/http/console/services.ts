// GET /console/services: what runs, asked now.

import type { FastifyInstance } from 'fastify'
import { request as ask } from 'undici'
import type { Health } from '#platform/http'
import { mintToken } from '#platform/tenancy/token'
import type { Clock } from '#platform/time'
import type { ConsoleService } from '../../api.ts'
import { isObject } from '../../dialects/openai/chat.ts'
import type { ConsoleUpstream } from './upstreams.ts'

const timeoutMs = 2_000
const bodyBytesMax = 256 * 1024

export function registerServices(
  scope: FastifyInstance,
  o: { upstreams: readonly ConsoleUpstream[]; secret: Buffer; clock: Clock; health: Health; version: string },
): void {
  scope.get('/console/services', async (): Promise<ConsoleService[]> => {
    const startedMs = o.clock.monotonicMs()
    const [own, ...others] = await Promise.all([
      o.health.report(),
      ...o.upstreams.map(upstream => look(upstream, o.secret, o.clock)),
    ])
    const self: ConsoleService = {
      name: 'budgetguard',
      path: '',
      isConfigured: true,
      status: own.status === 'draining' ? 'degraded' : own.status,
      detail: worst(own.dependencies),
      latencyMs: Math.round(o.clock.monotonicMs() - startedMs),
      version: o.version,
    }
    return [self, ...others]
  })
}

async function look(upstream: ConsoleUpstream, secret: Buffer, clock: Clock): Promise<ConsoleService> {
  const { name, path, url, audience } = upstream
  const shape = { name, path, isConfigured: url !== undefined, version: null }
  if (url === undefined) return { ...shape, status: 'off', detail: 'no address is configured', latencyMs: null }
  const token = mintToken(secret, { audience, role: 'viewer', subject: 'console', clock })
  const startedMs = clock.monotonicMs()
  try {
    const signal = AbortSignal.timeout(timeoutMs)
    const get = (page: string) => ask(new URL(page, url), { headers: { authorization: `Bearer ${token}` }, signal })
    let response = await get('/health/detailed')
    if (response.statusCode === 404) {
      // The collector has no details; its /health says enough.
      await response.body.dump()
      response = await get('/health')
    }
    const body = await boundedJson(response.body)
    const latencyMs = Math.round(clock.monotonicMs() - startedMs)
    const answer = isObject(body) ? body : {}
    const version = typeof answer.version === 'string' ? answer.version : null
    const status =
      response.statusCode >= 500 || answer.status === 'down'
        ? 'down'
        : response.statusCode >= 400 || answer.status === 'degraded' || answer.status === 'draining'
          ? 'degraded'
          : 'ok'
    const detail = response.statusCode >= 400 ? `answered ${response.statusCode}` : worst(answer.dependencies)
    return { ...shape, status, detail, latencyMs, version }
  } catch (error) {
    const isLate = error instanceof Error && error.name === 'TimeoutError'
    return {
      ...shape,
      status: 'down',
      detail: isLate ? `no answer within ${timeoutMs} ms` : 'not reachable',
      latencyMs: null,
    }
  }
}

async function boundedJson(body: AsyncIterable<Buffer>): Promise<unknown> {
  const parts: Buffer[] = []
  let bytes = 0
  for await (const chunk of body) {
    bytes += chunk.length
    if (bytes > bodyBytesMax) return null
    parts.push(chunk)
  }
  try {
    return JSON.parse(Buffer.concat(parts).toString('utf8'))
  } catch {
    return null
  }
}

/** The first dependency that is not well, in words. */
function worst(dependencies: unknown): string | null {
  if (!isObject(dependencies)) return null
  for (const [name, check] of Object.entries(dependencies)) {
    if (!isObject(check) || check.status === 'ok') continue
    return `${name}: ${String(check.status)}${typeof check.detail === 'string' ? `, ${check.detail}` : ''}`.slice(
      0,
      300,
    )
  }
  return null
}
