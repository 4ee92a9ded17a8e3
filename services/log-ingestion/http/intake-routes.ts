// Which paths are intake, and whose protocol each speaks.

import { push } from '../protocols/loki.ts'
import { batch, lines, single } from '../protocols/native.ts'
import type { IntakeRoute } from '../protocols/protocol.ts'

const routes: Readonly<Record<string, IntakeRoute>> = {
  '/api/v1/logs': single,
  '/api/v1/logs/batch': batch,
  '/api/v1/logs/ndjson': lines('/api/v1/logs/ndjson'),
  '/insert/jsonline': lines('/insert/jsonline'),
  '/loki/api/v1/push': push('/loki/api/v1/push'),
  '/api/prom/push': push('/api/prom/push'),
  '/insert/loki/api/v1/push': push('/insert/loki/api/v1/push'),
}

/** Undefined for what the other routes answer. */
export function routeOf(method: string, path: string): IntakeRoute | undefined {
  const route = Object.hasOwn(routes, path) ? routes[path] : undefined
  if (method === 'POST') return route
  return method === 'OPTIONS' || route?.methods === undefined ? undefined : route
}
