// Connect-ES with our manners: Connect, gRPC and gRPC-web on one handler for both HTTP versions, exact 64-bit JSON,
// bounded input, request ids, metrics, and errors that name what the sender did and hide what we did.

import { randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import http2 from 'node:http2'
import { TLSSocket } from 'node:tls'
import { create } from '@bufbuild/protobuf'
import {
  Code,
  ConnectError,
  type ConnectRouter,
  createConnectRouter,
  createContextKey,
  createContextValues,
  type Interceptor,
  type StreamResponse,
} from '@connectrpc/connect'
import type { UniversalHandler, UniversalServerResponse } from '@connectrpc/connect/protocol'
import { codeToHttpStatus, codeToString, errorToJson } from '@connectrpc/connect/protocol-connect'
import {
  compressionGzip,
  universalRequestFromNodeRequest,
  universalResponseToNodeResponse,
} from '@connectrpc/connect-node'
import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import { ErrorInfoSchema } from '#proto/google/rpc/error_details_pb'
import { exactJsonDecoder } from './rpc/exact-numbers.ts'
import type { Handler, RpcRequest, RpcResponse } from './rpc/port.ts'
import type { Logger, Tracing } from './telemetry.ts'

export { createPort, type Handler, type Port, type PortOptions } from './rpc/port.ts'

export interface RpcOptions {
  routes: (router: ConnectRouter) => void
  /** Outermost first; all protocols pass through them, inside our own. */
  interceptors?: Interceptor[]
  /** Whatever is not a procedure: `app.routing` of a Fastify instance that is ready. */
  fallback: (req: IncomingMessage, res: ServerResponse) => void
  /** Largest message after decompression. */
  readMaxBytes: number
  /** Longest deadline a client may ask for; none asked for means none. */
  timeoutMsMax?: number
  /** Aborts the handlers that listen to their signal, when the process drains. */
  shutdownSignal?: AbortSignal
  /** Answers plain Connect unary calls over HTTP/1.1 without Connect-ES: for the few procedures whose cost matters.
   *  Null leaves the call to Connect-ES; so whatever is unusual needs to be understood in one place only. */
  direct?: (call: DirectCall) => Promise<DirectReply> | null
  log: Logger
  registry: Registry
  tracing?: Tracing
}

/** A Connect unary POST, uncompressed, whose body has arrived whole. */
export interface DirectCall {
  /** `/package.Service/Method` */
  procedure: string
  isBinary: boolean
  body: Buffer
  header(name: string): string | null
  isCertified: boolean
}

export interface DirectReply {
  /** In the encoding of the request. */
  body: Uint8Array | string
  /** Names and values in turn. */
  headers: readonly string[]
}

/** What every handler may know of the request that called it: `context.values.get(callKey)`. */
export interface Call {
  requestId: string
  remoteAddress: string
  /** The connection presented a client certificate that our CA signed. */
  isCertified: boolean
  /** Set as the call goes on; read by the metrics when it ends. */
  status: string | null
  isInvoked: boolean
}

export const callKey = createContextKey<Call>(
  { requestId: '', remoteAddress: '', isCertified: false, status: null, isInvoked: false },
  { description: 'the request behind this call' },
)

/** A named failure. `reason` is stable, clients switch on it; `retryAfterS` tells them when to try again. */
export function rpcError(o: {
  code: Code
  message: string
  reason: string
  domain: string
  retryAfterS?: number
  cause?: unknown
}): ConnectError {
  const headers = o.retryAfterS === undefined ? undefined : { 'retry-after': String(o.retryAfterS) }
  const error = new ConnectError(o.message, o.code, headers, undefined, o.cause)
  error.details.push({ desc: ErrorInfoSchema, value: create(ErrorInfoSchema, { reason: o.reason, domain: o.domain }) })
  return error
}

export function createRpc(o: RpcOptions): Handler {
  const metrics = createMetrics(o.registry)
  // Connect-ES hands these options to its serializers unchanged; `textDecoder` is typed there, not on the router.
  const jsonOptions = { ignoreUnknownFields: true, textDecoder: exactJsonDecoder }
  const router = createConnectRouter({
    interceptors: [observe(o.log, metrics), ...(o.interceptors ?? [])],
    acceptCompression: [compressionGzip],
    readMaxBytes: o.readMaxBytes,
    jsonOptions,
    ...(o.timeoutMsMax === undefined ? {} : { maxTimeoutMs: o.timeoutMsMax }),
    ...(o.shutdownSignal === undefined ? {} : { shutdownSignal: o.shutdownSignal }),
  })
  o.routes(router)
  const procedures = new Map(
    router.handlers.map(handler => [
      handler.requestPath,
      { handler, metrics: ofProcedure(metrics, handler.requestPath) },
    ]),
  )

  return (req, res) => {
    const procedure = procedures.get((req.url ?? '').split('?', 1)[0] ?? '')
    if (procedure !== undefined) return serve(procedure.handler, req, res, procedure.metrics, o, metrics)
    // Fastify types its router for node:http; it reads only what HTTP/2's compatibility objects have as well.
    o.fallback(req as IncomingMessage, res as ServerResponse)
  }
}

function serve(
  procedure: UniversalHandler,
  req: RpcRequest,
  res: RpcResponse,
  own: ProcedureMetrics,
  o: RpcOptions,
  metrics: Metrics,
) {
  const method = procedure.requestPath
  const call = describe(req)
  const startedMs = performance.now()
  const span = o.tracing?.serverSpan(method, header(req, 'traceparent'), { 'rpc.method': method })
  own.active.inc()
  res.once('close', () => {
    own.seconds.observe((performance.now() - startedMs) / 1_000)
    own.active.dec()
    own.ended(call.status ?? codeToString(Code.Canceled))
    span?.end(res.statusCode)
  })
  if (o.direct !== undefined && 'socket' in res && !('stream' in res) && !('stream' in req) && isPlainUnary(req, o)) {
    readBody(req, body => void serveDirect(procedure, req, res, body, call, o, metrics))
  } else void serveUniversal(procedure, req, res, null, call, o)
}

/** Nothing in the request's head asks for more than one message in and one out. */
function isPlainUnary(req: IncomingMessage, o: RpcOptions): boolean {
  const { headers } = req
  const type = headers['content-type']
  const version = headers['connect-protocol-version']
  const length = headers['content-length']
  return (
    req.method === 'POST' &&
    (type === 'application/proto' || type === 'application/json') &&
    (headers['content-encoding'] === undefined || headers['content-encoding'] === 'identity') &&
    (version === undefined || version === '1') &&
    (headers['connect-timeout-ms'] === undefined || /^\d{1,9}$/.test(String(headers['connect-timeout-ms']))) &&
    length !== undefined &&
    Number(length) <= o.readMaxBytes
  )
}

function readBody(req: IncomingMessage, done: (body: Buffer) => void) {
  const chunks: Buffer[] = []
  req.on('data', (chunk: Buffer) => void chunks.push(chunk))
  req.on('end', () => {
    const [first] = chunks
    done(chunks.length === 1 && first !== undefined ? first : Buffer.concat(chunks))
  })
  // A sender that leaves in the middle gets no answer; 'close' of the response counts it as canceled.
  req.on('error', () => {})
}

async function serveDirect(
  procedure: UniversalHandler,
  req: IncomingMessage,
  res: ServerResponse,
  body: Buffer,
  call: Call,
  o: RpcOptions,
  metrics: Metrics,
) {
  const isBinary = req.headers['content-type'] === 'application/proto'
  let headers: readonly string[] = []
  let answer: Uint8Array | string
  let type = isBinary ? 'application/proto' : 'application/json'
  let status = 200
  try {
    const working = o.direct?.({
      procedure: procedure.requestPath,
      isBinary,
      body,
      header: name => header(req, name) ?? null,
      isCertified: call.isCertified,
    })
    if (working === null || working === undefined)
      return void (await serveUniversal(procedure, req, res, body, call, o))
    call.isInvoked = true
    const reply = await withinTimeout(working, header(req, 'connect-timeout-ms'))
    call.status = 'ok'
    headers = reply.headers
    answer = reply.body
  } catch (error) {
    const named = nameError(error, call, procedure.requestPath, o.log, metrics)
    status = codeToHttpStatus(named.code)
    type = 'application/json'
    headers = [...named.metadata].flat()
    answer = JSON.stringify(errorToJson(named, undefined))
  }
  const length = typeof answer === 'string' ? Buffer.byteLength(answer) : answer.length
  const fixed = ['content-type', type, 'content-length', String(length), 'x-request-id', call.requestId]
  if (res.destroyed) return
  res.writeHead(status, [...fixed, ...headers])
  res.end(answer)
}

function withinTimeout<T>(working: Promise<T>, timeoutMs: string | undefined): Promise<T> {
  if (timeoutMs === undefined) return working
  return new Promise((resolve, reject) => {
    const late = () => reject(new ConnectError('the operation timed out', Code.DeadlineExceeded))
    const timer = setTimeout(late, Math.min(Number(timeoutMs), 2 ** 31 - 1))
    working.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

/** `body`: what was read of the request already, whole. */
async function serveUniversal(
  procedure: UniversalHandler,
  req: RpcRequest,
  res: RpcResponse,
  body: Buffer | null,
  call: Call,
  o: RpcOptions,
) {
  try {
    res.setHeader('x-request-id', call.requestId)
    const values = createContextValues().set(callKey, call)
    const request = universalRequestFromNodeRequest(req, res, undefined, values)
    const answer = await procedure(body === null ? request : { ...request, body: once(body) })
    await universalResponseToNodeResponse(amend(answer, call), res)
  } catch (error) {
    // No authority, an impossible URL, or a client that has gone: nothing our procedure did.
    call.status ??= codeToString(res.headersSent ? Code.Canceled : Code.InvalidArgument)
    o.log.debug({ err: error, requestId: call.requestId, rpcMethod: procedure.requestPath }, 'rpc was not answered')
    if (!res.headersSent && !res.writableEnded) {
      res.statusCode = 400
      res.end()
    } else if ('stream' in res) res.stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR)
    else res.destroy()
  }
}

async function* once(body: Uint8Array): AsyncIterable<Uint8Array> {
  yield body
}

function describe(req: RpcRequest): Call {
  const given = header(req, 'x-request-id')
  const socket = 'stream' in req ? req.stream.session?.socket : req.socket
  return {
    requestId: given !== undefined && /^[\x21-\x7e]{1,128}$/.test(given) ? given : randomUUID(),
    remoteAddress: socket?.remoteAddress ?? '',
    isCertified: socket instanceof TLSSocket && socket.authorized,
    status: null,
    isInvoked: false,
  }
}

function header(req: RpcRequest, name: string): string | undefined {
  const value = req.headers[name]
  return typeof value === 'string' ? value : undefined
}

/** What Connect-ES leaves out of its own refusals, and the code of those that come before the handler: bytes that do
 *  not decode are the sender's fault (invalid_argument, as the Connect protocol has it), not an internal error. */
function amend(answer: UniversalServerResponse, call: Call): UniversalServerResponse {
  if (answer.status === 405) {
    call.status = codeToString(Code.Unimplemented)
    return { ...answer, header: withHeader(answer.header, 'allow', 'POST') }
  }
  if (answer.status === 415 || answer.status === 505) call.status = codeToString(Code.Unimplemented)
  if (call.status !== null || call.isInvoked) return answer
  const grpcStatus = answer.trailer?.get('grpc-status')
  if (grpcStatus !== null && grpcStatus !== undefined) {
    if (grpcStatus === '13') answer.trailer?.set('grpc-status', String(Code.InvalidArgument))
    call.status = codeToString(Number(answer.trailer?.get('grpc-status')))
    return answer
  }
  if (answer.body === undefined) return answer
  if (answer.status === 200) return { ...answer, body: mendTrailerFrames(answer.body, call) }
  if (answer.status !== 500) {
    call.status = statusBeforeInvocation[answer.status] ?? codeToString(Code.Unknown)
    return answer
  }
  call.status = codeToString(Code.InvalidArgument)
  const body = mendErrorBody(answer.body)
  return { ...answer, status: 400, header: without(answer.header, 'content-length'), body }
}

/** The refusals Connect-ES makes by itself, by the HTTP status of its own protocol. */
const statusBeforeInvocation: Readonly<Record<number, string>> = {
  400: codeToString(Code.InvalidArgument),
  429: codeToString(Code.ResourceExhausted),
  501: codeToString(Code.Unimplemented),
  504: codeToString(Code.DeadlineExceeded),
}

async function* mendErrorBody(body: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  for await (const chunk of body) {
    const error: { code?: string; message?: string } = JSON.parse(Buffer.from(chunk).toString())
    yield Buffer.from(JSON.stringify({ ...error, code: codeToString(Code.InvalidArgument) }))
  }
}

/** gRPC-web ends its body with a frame that holds the trailers; Connect-ES yields one frame a chunk. */
async function* mendTrailerFrames(body: AsyncIterable<Uint8Array>, call: Call): AsyncIterable<Uint8Array> {
  for await (const chunk of body) {
    if (chunk[0] !== trailerFlag || call.isInvoked) {
      yield chunk
      continue
    }
    const text = Buffer.from(chunk.subarray(frameHeaderBytes)).toString()
    const mended = text.replace(/^grpc-status: ?13\b/im, `grpc-status: ${Code.InvalidArgument}`)
    call.status = codeToString(Number(/^grpc-status: ?(\d+)/im.exec(mended)?.[1] ?? Code.Unknown))
    const frame = Buffer.alloc(frameHeaderBytes + Buffer.byteLength(mended))
    frame[0] = trailerFlag
    frame.writeUInt32BE(frame.length - frameHeaderBytes, 1)
    frame.write(mended, frameHeaderBytes)
    yield frame
  }
}

const trailerFlag = 0x80
/** Flags, then the length as four bytes, big-endian. */
const frameHeaderBytes = 5

function withHeader(headers: Headers | undefined, name: string, value: string): Headers {
  const copy = new Headers(headers)
  copy.set(name, value)
  return copy
}

function without(headers: Headers | undefined, name: string): Headers {
  const copy = new Headers(headers)
  copy.delete(name)
  return copy
}

/** Sees every call that decoded, first and last: records how it ended, turns bugs into `internal` without detail. */
function observe(log: Logger, metrics: Metrics): Interceptor {
  return next => async req => {
    const call = req.contextValues.get(callKey)
    call.isInvoked = true
    const method = `/${req.service.typeName}/${req.method.name}`
    const fail = (error: unknown): ConnectError =>
      nameError(asConnectError(error, req.signal) ?? error, call, method, log, metrics)
    try {
      const response = await next(req)
      if (response.stream) return { ...response, message: watch(response.message, call, fail) }
      call.status = 'ok'
      return response
    } catch (error) {
      throw fail(error)
    }
  }
}

/** Our own refusals as they are; anything else is a bug, which the log explains and the caller does not see. */
function nameError(error: unknown, call: Call, method: string, log: Logger, metrics: Metrics): ConnectError {
  if (!(error instanceof ConnectError)) {
    metrics.panics.inc({ rpc_method: method, panic_type: error instanceof TypeError ? 'TypeError' : 'Error' })
    log.error({ err: error, requestId: call.requestId, rpcMethod: method }, 'BUG: rpc failed')
  }
  const named = error instanceof ConnectError ? error : new ConnectError('internal error', Code.Internal)
  call.status = codeToString(named.code)
  return named
}

/** An abort is no bug: the client left, its deadline passed, or we are shutting down. */
function asConnectError(error: unknown, signal: AbortSignal): ConnectError | null {
  if (signal.aborted && error instanceof Error && (error.name === 'AbortError' || error === signal.reason))
    return ConnectError.from(signal.reason, Code.Canceled)
  return null
}

async function* watch(
  messages: StreamResponse['message'],
  call: Call,
  fail: (error: unknown) => ConnectError,
): StreamResponse['message'] {
  try {
    yield* messages
    call.status = 'ok'
  } catch (error) {
    throw fail(error)
  }
}

type Metrics = ReturnType<typeof createMetrics>
type ProcedureMetrics = ReturnType<typeof ofProcedure>

/** The children of one procedure, looked up once: hashing labels for every call costs more than counting. */
function ofProcedure(metrics: Metrics, method: string) {
  const ends = new Map<string, { inc(): void }>()
  return {
    active: metrics.active.labels(method),
    seconds: metrics.seconds.labels(method),
    ended(status: string) {
      const child = ends.get(status) ?? metrics.requests.labels(method, status)
      ends.set(status, child)
      child.inc()
    },
  }
}

function createMetrics(registry: Registry) {
  const registers = [registry]
  return {
    requests: new Counter({
      name: 'rpc_server_requests_total',
      help: 'RPCs ended, by full procedure path and Connect code (ok when it succeeded).',
      labelNames: ['rpc_method', 'rpc_status'],
      registers,
    }),
    active: new Gauge({
      name: 'rpc_server_active_requests',
      help: 'RPCs being answered now.',
      labelNames: ['rpc_method'],
      registers,
    }),
    panics: new Counter({
      name: 'rpc_server_panics_total',
      help: 'RPCs that failed by a bug of ours; each has a log line with the request id.',
      labelNames: ['rpc_method', 'panic_type'],
      registers,
    }),
    seconds: new Histogram({
      name: 'rpc_server_request_duration_seconds',
      help: 'From the request head to the end of the answer.',
      labelNames: ['rpc_method'],
      buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
      registers,
    }),
  }
}
