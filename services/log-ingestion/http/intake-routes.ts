// Which paths are intake, and whose protocol each speaks.

import { input, validate } from '../protocols/datadog.ts'
import { elasticRoute } from '../protocols/elastic-routes.ts'
import { push } from '../protocols/loki.ts'
import { batch, lines, single } from '../protocols/native.ts'
import { exportLogs } from '../protocols/otlp.ts'
import type { IntakeRoute } from '../protocols/protocol.ts'

const routes: Readonly<Record<string, IntakeRoute>> = {
  '/api/v1/logs': single,
  '/api/v1/logs/batch': batch,
  '/api/v1/logs/ndjson': lines('/api/v1/logs/ndjson'),
  '/insert/jsonline': lines('/insert/jsonline'),
  '/loki/api/v1/push': push('/loki/api/v1/push'),
  '/api/prom/push': push('/api/prom/push'),
  '/insert/loki/api/v1/push': push('/insert/loki/api/v1/push'),
  '/api/v2/logs': input('/api/v2/logs'),
  '/v1/input': input('/v1/input'),
  '/insert/datadog/api/v2/logs': input('/insert/datadog/api/v2/logs'),
  '/api/v1/validate': validate,
  '/insert/datadog/api/v1/validate': validate,
  '/v1/logs': exportLogs('/v1/logs'),
  '/otlp/v1/logs': exportLogs('/otlp/v1/logs'),
  '/insert/opentelemetry/v1/logs': exportLogs('/insert/opentelemetry/v1/logs'),
}

/** Undefined for what the other routes answer. `accept` is the header, empty when there is none. */
export type RouteOf = (method: string, path: string, accept: string) => IntakeRoute | undefined

export function createRoutes({
  elasticVersion,
  bodyBytesMax,
}: {
  elasticVersion: string
  bodyBytesMax: number
}): RouteOf {
  return (method, path, accept) => {
    const route = Object.hasOwn(routes, path) ? routes[path] : withKey(path)
    if (route !== undefined && method === 'POST') return route
    if (method === 'OPTIONS') return undefined
    if (route !== undefined) return route.methods && route
    return elasticRoute(method, path, accept, { version: elasticVersion, bodyBytesMax })
  }
}

/** Datadog's oldest form carries the key in the path. */
function withKey(path: string): IntakeRoute | undefined {
  const key = /^\/v1\/input\/([^/]+)$/.exec(path)?.[1]
  if (key === undefined) return undefined
  try {
    return input('/v1/input/K', decodeURIComponent(key))
  } catch {
    return input('/v1/input/K')
  }
}
