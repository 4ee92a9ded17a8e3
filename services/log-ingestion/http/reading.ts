// The read side over HTTP, route by route.

import type { FastifyInstance } from 'fastify'
import type { QueryContext } from './context.ts'
import { addContextLines } from './context-lines.ts'
import { addExport } from './export.ts'
import { addFields } from './fields.ts'
import { addHistogram } from './histogram.ts'
import { addLokiRead } from './loki-read.ts'
import { addOpenApi } from './openapi.ts'
import { addPatterns } from './patterns.ts'
import { addSearch } from './search.ts'
import { addTail } from './tail.ts'
import { routeUpgrades } from './web-socket.ts'

export function addReading(
  app: FastifyInstance,
  context: QueryContext,
  o: { version: string; lokiLabels: readonly string[] },
): void {
  addOpenApi(app, o.version)
  addSearch(app, context)
  addHistogram(app, context)
  addFields(app, context)
  addContextLines(app, context)
  addExport(app, context)
  addPatterns(app, context)
  addTail(app, context)
  addLokiRead(app, context, { labels: o.lokiLabels, version: o.version })
  routeUpgrades(app)
}
