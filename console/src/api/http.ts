// One way out: every call of the console goes through here, so that every failure on a page is one of a few kinds and
// can say what to do next.

import { isLogsAlone } from './served-by.ts'

export type Service = 'budgetguard' | 'log-ingestion' | 'billaged' | 'builderd' | 'metrics-collector'

export type FailureKind =
  | 'away'
  | 'signed-out'
  | 'forbidden'
  | 'missing'
  | 'unimplemented'
  | 'busy'
  | 'invalid'
  | 'failed'

export class ApiError extends Error {
  readonly service: Service
  readonly status: number
  readonly kind: FailureKind
  /** The service's stable code, such as `QUOTA_EXCEEDED`; empty when it sent none. */
  readonly reason: string
  readonly requestId: string
  readonly retryAfterS: number | null
  /** The whole answer, for the few places that know more about one error (a position in a query, say). */
  readonly body: Record<string, unknown>

  constructor(
    o: Pick<ApiError, 'service' | 'status' | 'kind' | 'message'> &
      Partial<Pick<ApiError, 'reason' | 'requestId' | 'retryAfterS' | 'body'>>,
  ) {
    super(o.message)
    this.name = 'ApiError'
    this.service = o.service
    this.status = o.status
    this.kind = o.kind
    this.reason = o.reason ?? ''
    this.requestId = o.requestId ?? ''
    this.retryAfterS = o.retryAfterS ?? null
    this.body = o.body ?? {}
  }
}

export interface Call {
  service: Service
  /** Which collector, for metrics-collector only. */
  index?: number
  path: string
  params?: Record<string, string | number | undefined>
  method?: 'GET' | 'POST' | 'PUT' | 'DELETE'
  body?: unknown
  headers?: Record<string, string>
  signal?: AbortSignal | undefined
  /** Where the usual wait is too short: work, not a query. */
  timeoutMs?: number
}

/** Longest wait for an answer. Above the services' own 10 s query limit, so that theirs is the one people see. */
const callTimeoutMs = 20_000

const signedOutListeners = new Set<() => void>()

/** Called when an answer says that nobody is signed in any more. */
export function onSignedOut(listener: () => void): () => void {
  signedOutListeners.add(listener)
  return () => signedOutListeners.delete(listener)
}

export async function call<T>(request: Call): Promise<T> {
  const response = await send(request)
  if (response.status === 204) return undefined as T
  try {
    return (await response.json()) as T
  } catch {
    throw new ApiError({
      service: request.service,
      status: response.status,
      kind: 'failed',
      message: `${request.service} answered ${response.status} without the JSON that ${request.path} promises.`,
    })
  }
}

export async function send(request: Call): Promise<Response> {
  const timeoutMs = request.timeoutMs ?? callTimeoutMs
  const timeout = AbortSignal.timeout(timeoutMs)
  const signal = request.signal ? AbortSignal.any([request.signal, timeout]) : timeout
  let response: Response
  try {
    response = await fetch(addressOf(request), {
      method: request.method ?? 'GET',
      credentials: 'same-origin',
      headers: {
        accept: 'application/json',
        ...(request.body === undefined ? {} : { 'content-type': 'application/json' }),
        ...request.headers,
      },
      ...(request.body === undefined ? {} : { body: JSON.stringify(request.body) }),
      signal,
    })
  } catch (cause) {
    if (request.signal?.aborted) throw cause
    throw unreachable(request.service, timeout.aborted, timeoutMs)
  }
  if (!response.ok) {
    const failure = await failureFrom(request.service, response)
    if (!sessionPaths.includes(request.path)) announce(failure)
    throw failure
  }
  return response
}

/** These ask whether someone is signed in; their 401 is an answer and not an end. */
const sessionPaths = ['/admin/me', '/admin/login']

/** Tells the session when an answer suggests that it has ended. */
export function announce(failure: ApiError): void {
  if (failure.kind === 'signed-out') for (const listener of signedOutListeners) listener()
}

/** The address on this origin; budgetguard forwards `/console/…` with a token of its own. */
export function addressOf({
  service,
  index = 0,
  path,
  params = {},
}: Pick<Call, 'service' | 'index' | 'path' | 'params'>): string {
  const prefix = {
    budgetguard: '',
    'log-ingestion': isLogsAlone ? '' : '/console/logs',
    billaged: '/console/billaged',
    builderd: '/console/builderd',
    'metrics-collector': `/console/collectors/${index}`,
  }[service]
  const search = new URLSearchParams()
  for (const [name, value] of Object.entries(params))
    if (value !== undefined && value !== '') search.append(name, String(value))
  const text = search.toString()
  return `${prefix}${path}${text && `?${text}`}`
}

export async function failureFrom(service: Service, response: Response): Promise<ApiError> {
  const body = await bodyOf(response)
  const error = record(body.error)
  const text = first(body.detail, error.message, body.message, body.details, body.error, body.title)
  const failure = new ApiError({
    service,
    status: response.status,
    kind: kindOf(response.status, first(body.code, error.code)),
    message: text || `${service} answered ${response.status}${response.statusText && ` ${response.statusText}`}.`,
    reason: first(body.reason, error.reason, body.code),
    requestId: first(body.requestId, response.headers.get('x-request-id')),
    retryAfterS: secondsFrom(response.headers.get('retry-after')),
    body,
  })
  return failure
}

export function unreachable(service: Service, isTimeout = false, timeoutMs = callTimeoutMs): ApiError {
  return new ApiError({
    service: 'budgetguard',
    status: 0,
    kind: 'away',
    message: isTimeout
      ? `${service} did not answer within ${timeoutMs / 1000} s.`
      : isLogsAlone
        ? 'This page cannot reach log-ingestion, which serves it.'
        : 'This page cannot reach budgetguard, which serves the console and forwards to every other service.',
  })
}

function kindOf(status: number, code: string): FailureKind {
  if (code === 'unimplemented' || status === 501) return 'unimplemented'
  if (status === 401) return 'signed-out'
  if (status === 403) return 'forbidden'
  if (status === 404) return 'missing'
  if (status === 429) return 'busy'
  if (status === 502 || status === 503 || status === 504) return 'away'
  return status >= 500 ? 'failed' : 'invalid'
}

/** At most 64 KiB of a failure's body: enough for any of ours, and no proxy's error page fills the memory. */
async function bodyOf(response: Response): Promise<Record<string, unknown>> {
  const text = (await response.text().catch(() => '')).slice(0, 65_536)
  try {
    return record(JSON.parse(text))
  } catch {
    return {}
  }
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {}
}

function first(...values: unknown[]): string {
  return values.find((value): value is string => typeof value === 'string' && value !== '') ?? ''
}

function secondsFrom(header: string | null): number | null {
  return header !== null && /^\d{1,6}$/.test(header) ? Number(header) : null
}
