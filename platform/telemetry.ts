// What a process says about itself: one JSON line per event, one Prometheus registry, traces when asked for.

import pino from 'pino'
import { collectDefaultMetrics, Gauge, Registry } from 'prom-client'

export { Counter, Gauge, Histogram, Registry } from 'prom-client'
export type Logger = pino.Logger

export interface LogOptions {
  service: string
  level: string
  /** `auto` is readable lines on a terminal and JSON otherwise. */
  format: 'auto' | 'json' | 'pretty' | 'text'
  /** Where lines go; standard output unless given. */
  destination?: { write(line: string): void; isTTY?: boolean }
}

/**
 * JSON lines `{"level":"INFO","time":"…Z","service":"…","msg":"…",…}`. Levels are upper-case words and the message is
 * `msg`, so the guides' greps work. Bodies, headers and secrets are never passed to a logger; the redaction below is
 * a second fence for the names that would hurt most.
 */
export function createLog({ service, level, format, destination }: LogOptions): Logger {
  const out = destination ?? process.stdout
  const isPretty = format === 'pretty' || format === 'text' || (format === 'auto' && out.isTTY === true)
  return pino(
    {
      level,
      base: { service },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: label => ({ level: label.toUpperCase() }) },
      // `err` keeps the cause chain; drivers put connection parameters beside it, which are left out.
      serializers: { err: serializeError },
      redact: {
        paths: [
          'password',
          'authorization',
          'token',
          'apiKey',
          'secret',
          '*.password',
          '*.authorization',
          '*.token',
          '*.apiKey',
          '*.secret',
        ],
        censor: '***',
      },
    },
    isPretty ? prettyStream(out) : (destination ?? pino.destination({ fd: 1, sync: true })),
  )
}

interface ErrorLine {
  type: string
  message: string
  code?: string
  stack?: string
  cause?: ErrorLine
}

function serializeError(error: unknown, depth = 0): ErrorLine | unknown {
  if (!(error instanceof Error)) return error
  const line: ErrorLine = { type: error.name, message: error.message }
  if ('code' in error && typeof error.code === 'string') line.code = error.code
  if (error.stack !== undefined && depth === 0) line.stack = error.stack
  if (error.cause instanceof Error && depth < 4) line.cause = serializeError(error.cause, depth + 1) as ErrorLine
  return line
}

/** `12:04:05.123 INFO  log-ingestion  listening  url=http://…` */
export function prettyLine(json: string): string {
  let line: Record<string, unknown>
  try {
    line = JSON.parse(json)
  } catch {
    return json
  }
  const { level, time, service, msg, err, requestId, ...rest } = line
  const clock = typeof time === 'string' ? time.slice(11, 23) : ''
  const fields = Object.entries(rest).map(
    ([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  )
  const error = err as ErrorLine | undefined
  if (error)
    for (let e: ErrorLine | undefined = error; e; e = e.cause)
      fields.push(`${e === error ? 'error' : 'cause'}=${JSON.stringify(e.message)}`)
  return `${[clock, String(level).padEnd(5), String(service).padEnd(17), String(msg ?? ''), ...fields].join(' ')}\n`
}

function prettyStream(out: { write(line: string): void }) {
  return { write: (line: string) => out.write(prettyLine(line)) }
}

/** Process, event-loop and build metrics, plus whatever the service registers. */
export function createRegistry({ service, version }: { service: string; version: string }): Registry {
  const registry = new Registry()
  const prefix = service.replaceAll('-', '_')
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: 20 })
  new Gauge({
    name: `${prefix}_build_info`,
    help: 'Always 1; the labels say which build runs.',
    labelNames: ['version', 'runtime'],
    registers: [registry],
  })
    .labels(version, process.version)
    .set(1)
  return registry
}

export interface ServerSpan {
  /** `status` is the HTTP status answered; 5xx marks the span as failed. */
  end(status: number): void
}

export interface Tracing {
  /** A span for one request, a child of the caller's W3C `traceparent` when that is valid. */
  serverSpan(name: string, traceparent: string | undefined, attributes: Record<string, string>): ServerSpan
  close(): Promise<void>
}

/**
 * Sends spans over OTLP/HTTP. The exporter is loaded only here, so that "off" costs neither memory nor start time.
 * `endpoint` is a URL, or `host:port` as the guides write it; `samplingRate` is 0…1.
 */
export async function startTracing(o: {
  service: string
  version: string
  endpoint: string
  samplingRate: number
}): Promise<Tracing> {
  const [api, sdk, { OTLPTraceExporter }, { resourceFromAttributes }] = await Promise.all([
    import('@opentelemetry/api'),
    import('@opentelemetry/sdk-trace-base'),
    import('@opentelemetry/exporter-trace-otlp-http'),
    import('@opentelemetry/resources'),
  ])
  const url = new URL(/^https?:\/\//.test(o.endpoint) ? o.endpoint : `http://${o.endpoint}`)
  if (url.pathname === '/') url.pathname = '/v1/traces'
  const provider = new sdk.BasicTracerProvider({
    resource: resourceFromAttributes({ 'service.name': o.service, 'service.version': o.version }),
    sampler: new sdk.ParentBasedSampler({ root: new sdk.TraceIdRatioBasedSampler(o.samplingRate) }),
    spanProcessors: [new sdk.BatchSpanProcessor(new OTLPTraceExporter({ url: url.href, timeoutMillis: 10_000 }))],
  })
  const tracer = provider.getTracer(o.service, o.version)
  return {
    serverSpan(name, traceparent, attributes) {
      const span = tracer.startSpan(name, { kind: api.SpanKind.SERVER, attributes }, parentOf(api, traceparent))
      return {
        end(status) {
          span.setAttribute('http.response.status_code', status)
          if (status >= 500) span.setStatus({ code: api.SpanStatusCode.ERROR })
          span.end()
        },
      }
    },
    close: () => provider.shutdown(),
  }
}

function parentOf(api: typeof import('@opentelemetry/api'), traceparent: string | undefined) {
  const match = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/.exec(traceparent ?? '')
  if (!match) return api.ROOT_CONTEXT
  const [, traceId = '', spanId = '', flags = '00'] = match
  const spanContext = { traceId, spanId, traceFlags: Number.parseInt(flags, 16), isRemote: true }
  return api.isSpanContextValid(spanContext)
    ? api.trace.setSpanContext(api.ROOT_CONTEXT, spanContext)
    : api.ROOT_CONTEXT
}
