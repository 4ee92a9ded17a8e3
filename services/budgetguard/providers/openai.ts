// OpenAI, or anything that speaks its dialect at OPENAI_BASE_URL.

import { Agent, type Dispatcher } from 'undici'
import { type FailureKind, type Provider, type ProviderAnswer, type ProviderCall, UpstreamFailure } from './provider.ts'

export interface OpenAiOptions {
  baseUrl: string
  key: string | undefined
  firstByteTimeoutMs: number
  idleTimeoutMs: number
}

const connectTimeoutMs = 10_000
/** Sockets kept per origin; more calls than this at once wait for one. */
const connectionsMax = 2_000

export function openOpenAi(o: OpenAiOptions): Provider & { close(): Promise<void> } {
  const base = new URL(o.baseUrl)
  const path = `${base.pathname.replace(/\/$/, '')}/chat/completions${base.search}`
  const agent = new Agent({
    connect: { timeout: connectTimeoutMs },
    headersTimeout: o.firstByteTimeoutMs,
    bodyTimeout: o.idleTimeoutMs,
    connections: connectionsMax,
    pipelining: 1,
  })

  return {
    name: 'openai',
    // OpenAI's own newer models refuse max_tokens; most compatible servers know only that.
    limitMember: base.hostname === 'api.openai.com' ? 'max_completion_tokens' : 'max_tokens',
    unconfigured: ownKey =>
      ownKey === null && o.key === undefined ? { label: 'OpenAI', variable: 'OPENAI_KEY' } : null,
    async chat(call) {
      let response: Dispatcher.ResponseData
      try {
        response = await agent.request({
          origin: base.origin,
          path,
          method: 'POST',
          headers: headersOf(call, call.ownKey ?? o.key ?? ''),
          body: call.body,
          signal: call.signal,
        })
      } catch (error) {
        throw failureOf(error, call.signal)
      }
      return answerOf(response, call.signal, o.key)
    },
    close: () => agent.destroy(),
  }
}

function headersOf(call: ProviderCall, key: string): Record<string, string> {
  const traceparent = call.headers.traceparent
  return {
    authorization: `Bearer ${key}`,
    'content-type': 'application/json',
    accept: call.request.isStream ? 'text/event-stream' : 'application/json',
    // Bytes are relayed as they come, so they must come as they are.
    'accept-encoding': 'identity',
    'user-agent': 'purser-budgetguard',
    'x-client-request-id': call.requestId,
    ...(typeof traceparent === 'string' ? { traceparent } : {}),
  }
}

function answerOf(response: Dispatcher.ResponseData, signal: AbortSignal, key: string | undefined): ProviderAnswer {
  const encoding = response.headers['content-encoding']
  const id = response.headers['x-request-id']
  const retryAfter = response.headers['retry-after']
  if (encoding !== undefined && encoding !== 'identity') {
    response.body.on('error', () => undefined)
    response.body.destroy()
    throw new UpstreamFailure(
      'cut',
      `the provider compressed its answer (${String(encoding)}) although it was asked not to`,
    )
  }
  return {
    status: response.statusCode,
    contentType: String(response.headers['content-type'] ?? ''),
    upstreamId: typeof id === 'string' ? id : null,
    retryAfter: typeof retryAfter === 'string' ? retryAfter : null,
    body:
      response.statusCode >= 400 ? withoutKey(chunksOf(response.body, signal), key) : chunksOf(response.body, signal),
  }
}

/** An error text may quote the key it was called with, which is the operator's and not our caller's. */
async function* withoutKey(chunks: AsyncIterable<Buffer>, key: string | undefined): AsyncGenerator<Buffer> {
  const parts: Buffer[] = []
  let bytes = 0
  for await (const chunk of chunks) {
    bytes += chunk.length
    if (bytes > errorBytesMax) break
    parts.push(chunk)
  }
  const whole = Buffer.concat(parts)
  yield key === undefined || key === '' || !whole.includes(key)
    ? whole
    : Buffer.from(whole.toString('utf8').replaceAll(key, '***'))
}

const errorBytesMax = 1024 * 1024

async function* chunksOf(body: AsyncIterable<Buffer>, signal: AbortSignal): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of body) yield chunk
  } catch (error) {
    throw failureOf(error, signal)
  }
}

function failureOf(error: unknown, signal: AbortSignal): UpstreamFailure {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  if (signal.aborted) {
    const isTimeout = signal.reason instanceof Error && signal.reason.name === 'TimeoutError'
    return isTimeout
      ? new UpstreamFailure('timeout', 'the call took longer than BUDGETGUARD_REQUEST_TIMEOUT allows', error)
      : new UpstreamFailure('aborted', 'the caller went away', error)
  }
  const kind = kinds[code] ?? 'cut'
  return new UpstreamFailure(kind, sentences[kind], error)
}

/** Only what happens before a byte of the request can have left counts as refused. */
const kinds: Readonly<Record<string, FailureKind>> = {
  ECONNREFUSED: 'refused',
  ENOTFOUND: 'refused',
  EAI_AGAIN: 'refused',
  EHOSTUNREACH: 'refused',
  ENETUNREACH: 'refused',
  UND_ERR_CONNECT_TIMEOUT: 'refused',
  UND_ERR_HEADERS_TIMEOUT: 'timeout',
  UND_ERR_BODY_TIMEOUT: 'timeout',
}

const sentences: Readonly<Record<FailureKind, string>> = {
  refused: 'the provider could not be reached',
  timeout: 'the provider did not answer in time',
  cut: 'the provider broke off its answer',
  aborted: 'the caller went away',
}
