// One refusal, three dialects: each official client recognises its own error class.

import type { AdminError, OpenAiError } from '../api.ts'
import type { Refusal } from '../errors.ts'

export type Dialect = 'openai' | 'anthropic' | 'gemini' | 'admin'

export function renderError(dialect: Dialect, refusal: Refusal, requestId: string): unknown {
  switch (dialect) {
    case 'openai':
      return openAi(refusal, requestId)
    case 'anthropic':
      return anthropic(refusal, requestId)
    case 'gemini':
      return gemini(refusal, requestId)
    case 'admin':
      return admin(refusal, requestId)
    default:
      return dialect satisfies never
  }
}

function openAi(refusal: Refusal, requestId: string): OpenAiError {
  const [type, code] = openAiType(refusal)
  return {
    error: {
      message: refusal.message,
      type,
      param: refusal.param,
      code,
      reason: refusal.reason,
      request_id: requestId,
      ...(refusal.budget ? { budget: refusal.budget } : {}),
      ...(refusal.upstream === undefined ? {} : { upstream: refusal.upstream }),
    },
  }
}

function openAiType({ status, reason }: Refusal): [type: string, code: string | null] {
  if (status === 402) return ['insufficient_quota', 'budget_exceeded']
  if (status === 429) return ['requests', 'rate_limit_exceeded']
  if (status === 401) return ['invalid_request_error', 'invalid_api_key']
  if (status === 403) return ['permission_error', 'policy_denied']
  return [status >= 500 ? 'server_error' : 'invalid_request_error', reason.toLowerCase()]
}

function anthropic(refusal: Refusal, requestId: string) {
  return {
    type: 'error',
    error: {
      type: anthropicType(refusal.status),
      message: refusal.message,
      reason: refusal.reason,
      ...(refusal.budget ? { budget: refusal.budget } : {}),
    },
    request_id: requestId,
  }
}

function anthropicType(status: number): string {
  const types: Readonly<Record<number, string>> = {
    400: 'invalid_request_error',
    401: 'authentication_error',
    402: 'billing_error',
    403: 'permission_error',
    404: 'not_found_error',
    413: 'request_too_large',
    415: 'invalid_request_error',
    429: 'rate_limit_error',
    504: 'timeout_error',
    529: 'overloaded_error',
  }
  return types[status] ?? 'api_error'
}

function gemini(refusal: Refusal, requestId: string) {
  return {
    error: {
      code: refusal.status,
      message: refusal.message,
      status: geminiStatus(refusal.status),
      details: [
        {
          '@type': 'type.googleapis.com/google.rpc.ErrorInfo',
          reason: refusal.reason,
          domain: 'budgetguard',
          metadata: { requestId, ...(refusal.budget ? { budget: JSON.stringify(refusal.budget) } : {}) },
        },
      ],
    },
  }
}

function geminiStatus(status: number): string {
  const words: Readonly<Record<number, string>> = {
    400: 'INVALID_ARGUMENT',
    401: 'UNAUTHENTICATED',
    402: 'FAILED_PRECONDITION',
    403: 'PERMISSION_DENIED',
    404: 'NOT_FOUND',
    413: 'INVALID_ARGUMENT',
    415: 'INVALID_ARGUMENT',
    429: 'RESOURCE_EXHAUSTED',
    501: 'UNIMPLEMENTED',
    503: 'UNAVAILABLE',
    504: 'DEADLINE_EXCEEDED',
  }
  return words[status] ?? 'INTERNAL'
}

/** `error` is always a string here; a sign-in failure says exactly "Unauthorized". */
function admin(refusal: Refusal, requestId: string): AdminError {
  return {
    error: refusal.reason === 'UNAUTHORIZED' ? 'Unauthorized' : refusal.message,
    message: refusal.message,
    statusCode: refusal.status,
    reason: refusal.reason,
    requestId,
  }
}
