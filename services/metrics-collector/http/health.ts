// /health, /health/live, /health/ready and /metrics.

import type { HealthReport } from '../api.ts'
import { acceptedFormat, contentTypes, type ExposedSample, exposition } from '../exposition.ts'
import { type Exchange, HttpError, sendJson, sendText } from './reply.ts'

export interface HealthContext {
  health(): HealthReport
  /** Newest committed value of every series, those of health itself computed now. */
  newest(): ExposedSample[]
  describe(family: string): { source: string; help: string }
  sourceNames: readonly string[]
}

/** JSON for people and probes; the same path as metrics for a scraper that was pointed at it, as the guide does. */
export function getHealth({ req, res }: Exchange, context: HealthContext): void {
  const format = acceptedFormat(req.headers.accept)
  if (format) {
    const own = context.newest().filter(sample => isOwn(context, sample.name))
    const text = exposition(own, name => context.describe(name).help, format)
    sendText(res, 200, contentTypes[format], text)
    return
  }
  const report = context.health()
  sendJson(res, report.status === 'error' ? 503 : 200, report)
}

export function getLive({ res }: Exchange): void {
  sendJson(res, 200, { status: 'alive' })
}

export function getReady({ res }: Exchange, context: HealthContext): void {
  const { status } = context.health()
  if (status === 'ok') sendJson(res, 200, { status: 'ready' })
  else sendJson(res, 503, { status: 'not_ready', message: 'system is not in OK state', current_status: status })
}

/** The shape every service of the platform answers in; the guide's own is /health. */
export function getDetailed({ res }: Exchange, context: HealthContext, version: string): void {
  const { status, timestamp, components } = context.health()
  const words = { ok: 'ok', degraded: 'degraded', error: 'down' } as const
  const dependencies = Object.fromEntries(
    Object.entries(components).map(([name, part]) => [
      name,
      // Health here is computed from what is known, not asked of anyone: it costs no time and is as old as the answer.
      { status: words[part.status], latencyMs: 0, since: timestamp, detail: part.message },
    ]),
  )
  sendJson(res, 200, { status: words[status], version, dependencies })
}

export function getMetrics({ req, res, params }: Exchange, context: HealthContext): void {
  if (params.has('fresh'))
    throw new HttpError(501, 'unimplemented', 'fresh=1 is not built yet; /metrics shows the newest committed values')
  const wanted = params.getAll('collect[]')
  for (const name of wanted)
    if (!context.sourceNames.includes(name))
      throw new HttpError(
        400,
        'bad-request',
        `collect[]=${name} is no source; there are ${context.sourceNames.join(', ')}`,
      )
  const samples = context.newest().filter(({ name }) => wanted.length === 0 || wanted.includes(sourceOf(context, name)))
  const format = acceptedFormat(req.headers.accept) ?? 'text'
  sendText(
    res,
    200,
    contentTypes[format],
    exposition(samples, name => context.describe(name).help, format),
  )
}

function sourceOf(context: HealthContext, name: string): string {
  const { source } = context.describe(name)
  return source === 'self' ? context.describe(name.replace(/_(bucket|sum|count)$/, '')).source : source
}

function isOwn(context: HealthContext, name: string): boolean {
  const source = sourceOf(context, name)
  return source === 'self' || source === 'time'
}
