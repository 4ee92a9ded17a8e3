// Log lines of a small shop, as its services would write them: half are initech's, metered and seen by initech alone, half
// are the operator's own, so that the console's Logs screen moves.

import { sleep } from '#platform/time'
import type { Tally } from '../demo.ts'
import type { Caller } from './caller.ts'

const routes = ['/cart', '/checkout', '/products/1834', '/products/77', '/login', '/search?q=lamp']
const batchEveryMs = 500

/** `public` is the tenant whose lines an operator sees first. */
const tenants = ['initech', 'public']

export async function logTraffic(caller: Caller, ends: AbortSignal): Promise<Tally[]> {
  const accepted = new Map(tenants.map(tenant => [tenant, 0]))
  for (let n = 0; !ends.aborted; n++) {
    const tenant = tenants[n % tenants.length] ?? 'public'
    const logs = Array.from({ length: 5 + (n % 7) }, (_, i) => entry(n * 31 + i))
    const answer = await caller.post<{ accepted: number }>('log-ingestion', '/api/v1/logs/batch', { logs }, { tenant })
    accepted.set(tenant, (accepted.get(tenant) ?? 0) + answer.accepted)
    await sleep(batchEveryMs, ends).catch(() => {})
  }
  return [...accepted].map(([tenant, lines]) => ({ what: 'log lines', tenant, counts: { 'lines accepted': lines } }))
}

function entry(n: number) {
  const route = routes[n % routes.length] ?? '/'
  const status = n % 41 === 0 ? 500 : n % 13 === 0 ? 404 : 200
  const durationMs = 3 + ((n * 7919) % 180)
  return {
    timestamp: new Date().toISOString(),
    service: ['shop-web', 'shop-api', 'shop-worker'][n % 3],
    level: status === 500 ? 'ERROR' : status === 404 ? 'WARN' : n % 5 === 0 ? 'DEBUG' : 'INFO',
    message: `GET ${route} ${status} ${durationMs}ms`,
    metadata: { path: route, status, duration_ms: durationMs, request_id: (n * 2_654_435_761).toString(16) },
  }
}
