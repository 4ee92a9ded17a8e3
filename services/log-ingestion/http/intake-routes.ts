// Which paths are intake, and whose protocol each speaks.

import { batch, lines, single } from '../protocols/native.ts'
import type { IntakeRoute } from '../protocols/protocol.ts'

const routes: Readonly<Record<string, IntakeRoute>> = {
  '/api/v1/logs': single,
  '/api/v1/logs/batch': batch,
  '/api/v1/logs/ndjson': lines('/api/v1/logs/ndjson'),
  '/insert/jsonline': lines('/insert/jsonline'),
}

/** Undefined for what the other routes answer. */
export function routeOf(method: string, path: string): IntakeRoute | undefined {
  if (method !== 'POST') return undefined
  return Object.hasOwn(routes, path) ? routes[path] : undefined
}
