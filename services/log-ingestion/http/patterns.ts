// GET|POST /api/v1/logs/patterns: what kinds of messages there are, how many of each, and which are new.

import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { PatternsAnswer } from '../api.ts'
import { createPatternBook } from '../patterns.ts'
import { formatNanos } from '../rfc3339.ts'
import { authorize } from './caller.ts'
import type { QueryContext } from './context.ts'
import { foldParameters } from './fields.ts'
import { foldMatches } from './fold.ts'
import { parametersOf, whole } from './parameters.ts'

const matchesMax = 1_000_000
/** A pattern is new when the day before the range does not show it. */
const beforeNs = 86_400_000_000_000n

export function addPatterns(app: FastifyInstance, context: QueryContext): void {
  const { clock, metrics } = context
  const patterns = async (request: FastifyRequest): Promise<PatternsAnswer> => {
    const { caller, tenant } = authorize(context.access, request, 'logs:read')
    const parameters = parametersOf(request)
    const wanted = {
      ...foldParameters(parameters, clock.now()),
      key: caller.key,
      tenant,
      order: 'desc',
      matchesMax,
    } as const
    const limit = whole(parameters, 'limit', 50, 1_000)
    const startedMs = clock.monotonicMs()

    const book = createPatternBook()
    // Half the time is for the day before.
    const now = await foldMatches(context, { ...wanted, timeoutMs: wanted.timeoutMs / 2 }, entry => {
      book.add(entry)
      return true
    })
    const yesterday = createPatternBook()
    const leftMs = wanted.timeoutMs - (clock.monotonicMs() - startedMs)
    const range = { fromNs: wanted.fromNs - beforeNs, toNs: wanted.fromNs }
    const before = await foldMatches(context, { ...wanted, ...range, timeoutMs: leftMs }, entry => {
      yesterday.add(entry)
      return true
    })
    metrics.queried('patterns', (clock.monotonicMs() - startedMs) / 1_000, now.scannedRows + before.scannedRows)

    const found = book.list()
    const isYesterdayKnown = before.isComplete && yesterday.isComplete
    return {
      patterns: found.slice(0, limit).map(pattern => ({
        template: pattern.template,
        count: String(pattern.count),
        first_seen: formatNanos(pattern.firstSeenNs),
        last_seen: formatNanos(pattern.lastSeenNs),
        new_since_yesterday: yesterday.has(pattern.template) ? false : isYesterdayKnown ? true : null,
        services: [...pattern.services].sort(),
        levels: [...pattern.levels].sort(),
        sample: pattern.sample,
      })),
      matches: String(now.matches),
      complete: now.isComplete && book.isComplete && found.length <= limit,
    }
  }
  app.get('/api/v1/logs/patterns', patterns)
  app.post('/api/v1/logs/patterns', patterns)
}
