// Answers: JSON, text, and errors in the shape of the route that fails.

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { QueryFailure } from '../api.ts'
import { QueryError } from '../errors.ts'

export interface Exchange {
  req: IncomingMessage
  res: ServerResponse
  url: URL
  /** Query parameters, with those of a form body after them. */
  params: URLSearchParams
}

/** A refusal with a stable reason; problem details on plain routes, Prometheus's shape under /api/v1. */
export class HttpError extends Error {
  override readonly name = 'HttpError'
  readonly status: number
  readonly reason: string
  readonly headers: Readonly<Record<string, string>>

  constructor(status: number, reason: string, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message)
    this.status = status
    this.reason = reason
    this.headers = headers
  }
}

export function sendJson(
  res: ServerResponse,
  status: number,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
): void {
  sendText(res, status, 'application/json', JSON.stringify(body), headers)
}

export function sendText(
  res: ServerResponse,
  status: number,
  contentType: string,
  body: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  res.writeHead(status, {
    'Content-Type': contentType,
    'Content-Length': Buffer.byteLength(body),
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
    ...headers,
  })
  res.end(body)
}

export function sendError(res: ServerResponse, error: HttpError | QueryError, isApi: boolean, requestId: string): void {
  if (res.headersSent) {
    res.destroy()
    return
  }
  if (error instanceof QueryError) {
    const status = { bad_data: 400, execution: 422, timeout: 503 }[error.type]
    const body: QueryFailure = { status: 'error', errorType: error.type, error: error.message }
    sendJson(res, status, body, status === 503 ? { 'Retry-After': '1' } : {})
  } else if (isApi) {
    const body: QueryFailure = { status: 'error', errorType: typeOf(error), error: error.message }
    sendJson(res, error.status, body, error.headers)
  } else {
    const problem = {
      type: `/docs/errors.md#${error.reason}`,
      title: error.reason.replaceAll('-', ' '),
      status: error.status,
      detail: error.message,
      reason: error.reason,
      requestId,
    }
    sendText(res, error.status, 'application/problem+json', JSON.stringify(problem), error.headers)
  }
}

function typeOf({ status }: HttpError): QueryFailure['errorType'] {
  if (status === 401 || status === 403) return 'unauthorized'
  if (status === 404) return 'not_found'
  return status >= 500 ? 'internal' : 'bad_data'
}

/** Forms of queries are short; nothing else is posted here. */
const formBytesMax = 64 * 1024

/** Prometheus clients post long queries as a form. */
export async function readForm(req: IncomingMessage): Promise<URLSearchParams> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of req) {
    if (!(chunk instanceof Buffer)) continue
    bytes += chunk.length
    if (bytes > formBytesMax)
      throw new HttpError(413, 'body-too-large', `the body is larger than ${formBytesMax} bytes`, {
        Connection: 'close',
      })
    chunks.push(chunk)
  }
  return new URLSearchParams(Buffer.concat(chunks).toString('utf8'))
}
