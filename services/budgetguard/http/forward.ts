// Sends an admitted call and brings its answer back; whatever happens, its hold ends exactly once.

import type { ServerResponse } from 'node:http'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { formatUsd } from '#platform/money'
import { renderError } from '../dialects/errors.ts'
import { isObject } from '../dialects/openai/chat.ts'
import { textBytes } from '../dialects/openai/meter.ts'
import { decodeUsage } from '../dialects/openai/usage.ts'
import { overrunMessage, Refusal, upstreamFailed } from '../errors.ts'
import { type Ending, estimatedOutcome, freeOutcome, reportedOutcome, wholeHoldOutcome } from '../outcome.ts'
import { type ProviderAnswer, UpstreamFailure } from '../providers/provider.ts'
import type { Outcome } from '../record.ts'
import { headroomOf, type ReadyCall } from './chat-completions.ts'
import type { Gateway } from './gateway.ts'
import { relayStream, type StreamEnd } from './relay.ts'
import { storable } from './storable.ts'

const answerBytesMax = 64 * 1024 * 1024
/** Gateways in front of a provider that gave up waiting: the provider itself may have gone on, and billed. */
const timeoutStatuses: ReadonlySet<number> = new Set([408, 504, 524])

export async function forwardWhole(
  gateway: Gateway,
  _: FastifyRequest,
  reply: FastifyReply,
  ready: ReadyCall,
): Promise<unknown> {
  const watch = watchCall(gateway, reply.raw)
  try {
    const answer = await send(gateway, ready, watch)
    const bytes = await readAll(answer, answerBytesMax)
    if (answer.status >= 400) return await passError(gateway, reply, ready, answer, bytes)
    const value = parseAnswer(bytes)
    if (value === null || isObject(value.error)) {
      await settle(gateway, ready, malformedOutcome(gateway, ready, value, bytes))
      throw upstreamFailed('UPSTREAM_MALFORMED', 'The provider answered 200 with something that is not a completion', {
        upstream: value ?? bytes.toString('utf8', 0, 2_000),
      })
    }
    const usage = decodeUsage(value.usage)
    const upstreamId = typeof value.id === 'string' ? storable(value.id) : answer.upstreamId
    const ending = { ...endingOf(gateway, ready, 'success', null), upstreamId }
    const tier = typeof value.service_tier === 'string' ? value.service_tier : null
    const outcome = usage
      ? reportedOutcome(ready.terms, ending, usage, tier)
      : estimatedOutcome(ready.terms, ending, textBytes(value.choices))
    await settle(gateway, ready, outcome)
    return await reply
      .code(answer.status)
      .headers({
        'x-budgetguard-cost-usd': formatUsd(outcome.settled),
        ...headroomOf(gateway.admission.tightest(ready.admitted.accounts)),
      })
      .type(answer.contentType || 'application/json')
      .send(bytes)
  } catch (error) {
    if (!(error instanceof UpstreamFailure)) throw error
    await settle(gateway, ready, failureOutcome(gateway, ready, error))
    if (error.kind === 'aborted') return reply.hijack()
    throw refusalOf(error)
  } finally {
    watch.stop()
  }
}

export async function forwardStreamed(
  gateway: Gateway,
  request: FastifyRequest,
  reply: FastifyReply,
  ready: ReadyCall,
): Promise<unknown> {
  const watch = watchCall(gateway, reply.raw)
  try {
    const answer = await send(gateway, ready, watch)
    if (answer.status >= 400)
      return await passError(gateway, reply, ready, answer, await readAll(answer, answerBytesMax))
    if (!/^text\/event-stream\b/i.test(answer.contentType)) {
      const bytes = await readAll(answer, answerBytesMax)
      const value = parseAnswer(bytes)
      await settle(gateway, ready, malformedOutcome(gateway, ready, value, bytes))
      throw upstreamFailed(
        'UPSTREAM_MALFORMED',
        'The provider answered 200 with something that is not an event stream',
        {
          upstream: value ?? bytes.toString('utf8', 0, 2_000),
        },
      )
    }
    openStream(reply)
    gateway.metrics.streamsOpen.inc()
    try {
      const end = await relayStream({
        answer,
        response: reply.raw,
        wantsUsage: ready.chat.wantsUsage,
        isGone: watch.isGone,
      })
      await finishStream(gateway, request, reply.raw, ready, end)
    } finally {
      gateway.metrics.streamsOpen.dec()
      reply.raw.end()
    }
    return reply
  } catch (error) {
    if (!(error instanceof UpstreamFailure)) throw error
    await settle(gateway, ready, failureOutcome(gateway, ready, error))
    if (error.kind === 'aborted') return reply.hijack()
    throw refusalOf(error)
  } finally {
    watch.stop()
  }
}

// --- sending -----------------------------------------------------------------------------------------------------

interface Watch {
  signal: AbortSignal
  isGone(): boolean
  stop(): void
}

/** One deadline for the whole call, and the caller's socket: in `abort` mode its end is ours. */
function watchCall({ config }: Gateway, response: ServerResponse): Watch {
  const controller = new AbortController()
  let isGone = false
  const timer = setTimeout(
    () => controller.abort(new DOMException('the call took too long', 'TimeoutError')),
    config.requestTimeoutMs,
  )
  const onClose = () => {
    if (response.writableFinished) return
    isGone = true
    if (config.onDisconnect === 'abort') controller.abort(new DOMException('the caller went away', 'AbortError'))
  }
  response.once('close', onClose)
  // It may have gone while its money was being found.
  if (response.closed) onClose()
  return {
    signal: controller.signal,
    isGone: () => isGone,
    stop() {
      clearTimeout(timer)
      response.off('close', onClose)
    },
  }
}

async function send(gateway: Gateway, ready: ReadyCall, watch: Watch): Promise<ProviderAnswer> {
  const { provider, model, call } = ready
  const { clock, metrics } = gateway
  const sentMs = clock.monotonicMs()
  try {
    const answer = await provider.chat({
      request: ready.chat,
      body: ready.body(),
      outputLimit: ready.admitted.limit,
      requestId: call.facts.requestId,
      ownKey: ready.ownKey,
      headers: ready.headers,
      signal: watch.signal,
    })
    metrics.firstByteSeconds.labels(provider.name).observe((clock.monotonicMs() - sentMs) / 1_000)
    metrics.upstreamRequests.labels(provider.name, model, String(answer.status)).inc()
    return answer
  } catch (error) {
    metrics.upstreamRequests.labels(provider.name, model, '0').inc()
    throw error
  }
}

async function readAll(answer: ProviderAnswer, bytesMax: number): Promise<Buffer> {
  const parts: Buffer[] = []
  let bytes = 0
  for await (const chunk of answer.body) {
    bytes += chunk.length
    if (bytes > bytesMax) throw new UpstreamFailure('cut', `the provider’s answer is longer than ${bytesMax} bytes`)
    parts.push(chunk)
  }
  return Buffer.concat(parts)
}

function parseAnswer(bytes: Buffer): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'))
    return isObject(value) ? value : null
  } catch {
    return null
  }
}

// --- settling ----------------------------------------------------------------------------------------------------

async function settle(gateway: Gateway, ready: ReadyCall, outcome: Outcome): Promise<void> {
  const startedMs = gateway.clock.monotonicMs()
  ready.isEnded = true
  if (outcome.settled > ready.admitted.held) {
    const { model, provider } = ready
    gateway.metrics.overrun.labels(provider.name, model, 'reported').inc(Number(outcome.settled - ready.admitted.held))
    gateway.log.error(
      { requestId: ready.call.facts.requestId },
      overrunMessage(model, outcome.settled, ready.admitted.held),
    )
  }
  await gateway.admission.end(ready.admitted, outcome)
  gateway.metrics.overheadSeconds.labels('settle').observe((gateway.clock.monotonicMs() - startedMs) / 1_000)
}

/** A bug on the way must not leave a hold to the reaper. */
export async function endForgotten(gateway: Gateway, ready: ReadyCall): Promise<void> {
  if (ready.isEnded) return
  await settle(gateway, ready, wholeHoldOutcome(ready.terms, endingOf(gateway, ready, 'failed', 'INTERNAL')))
}

function endingOf(gateway: Gateway, ready: ReadyCall, status: Ending['status'], reason: string | null): Ending {
  return {
    status,
    reason,
    upstreamId: null,
    latencyMs: Math.round(gateway.clock.monotonicMs() - ready.call.startedMs),
  }
}

function failureOutcome(gateway: Gateway, ready: ReadyCall, failure: UpstreamFailure): Outcome {
  switch (failure.kind) {
    case 'refused':
      return freeOutcome(endingOf(gateway, ready, 'failed', 'UPSTREAM_UNREACHABLE'))
    case 'timeout':
      return wholeHoldOutcome(ready.terms, endingOf(gateway, ready, 'failed', 'UPSTREAM_TIMEOUT'))
    case 'cut':
      return wholeHoldOutcome(ready.terms, endingOf(gateway, ready, 'failed', 'UPSTREAM_CUT'))
    case 'aborted':
      return wholeHoldOutcome(ready.terms, endingOf(gateway, ready, 'failed', 'CLIENT_GONE'), 'estimated')
    default:
      return failure.kind satisfies never
  }
}

/** A 200 that is no completion: an explicit error was not billed; anything else counts as output, a token per byte. */
function malformedOutcome(
  gateway: Gateway,
  ready: ReadyCall,
  value: Record<string, unknown> | null,
  bytes: Buffer,
): Outcome {
  const ending = endingOf(gateway, ready, 'failed', 'UPSTREAM_MALFORMED')
  return value !== null && isObject(value.error)
    ? freeOutcome(ending)
    : estimatedOutcome(ready.terms, ending, bytes.length)
}

function refusalOf(failure: UpstreamFailure): Refusal {
  const message = `${failure.message[0]?.toUpperCase() ?? ''}${failure.message.slice(1)}`
  switch (failure.kind) {
    case 'refused':
      return upstreamFailed('UPSTREAM_UNREACHABLE', message, { cause: failure })
    case 'timeout':
      return upstreamFailed('UPSTREAM_TIMEOUT', message, { cause: failure })
    default:
      return upstreamFailed('UPSTREAM_CUT', message, { cause: failure })
  }
}

/** An error of the provider in the caller's own dialect passes byte for byte; anything else is wrapped once. */
async function passError(
  gateway: Gateway,
  reply: FastifyReply,
  ready: ReadyCall,
  answer: ProviderAnswer,
  bytes: Buffer,
): Promise<unknown> {
  const ending = endingOf(gateway, ready, 'failed', 'UPSTREAM_ERROR')
  await settle(
    gateway,
    ready,
    timeoutStatuses.has(answer.status) ? wholeHoldOutcome(ready.terms, ending) : freeOutcome(ending),
  )
  if (answer.retryAfter !== null) reply.header('retry-after', answer.retryAfter)
  const value = parseAnswer(bytes)
  if (value !== null && isObject(value.error))
    return reply
      .code(answer.status)
      .type(answer.contentType || 'application/json')
      .send(bytes)
  throw new Refusal({
    status: answer.status,
    reason: 'UPSTREAM_ERROR',
    message: `The provider answered ${answer.status}`,
    upstream: value ?? bytes.toString('utf8', 0, 2_000),
  })
}

// --- streams -----------------------------------------------------------------------------------------------------

/** Takes the socket from the framework: from here on bytes go out as they come. */
function openStream(reply: FastifyReply): void {
  reply.hijack()
  reply.raw.writeHead(200, {
    ...Object.fromEntries(Object.entries(reply.getHeaders()).map(([name, value]) => [name, String(value)])),
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-cache',
    'x-accel-buffering': 'no',
  })
  reply.raw.flushHeaders()
}

async function finishStream(
  gateway: Gateway,
  request: FastifyRequest,
  response: ServerResponse,
  ready: ReadyCall,
  end: StreamEnd,
): Promise<void> {
  const { outcome, refusal } = judgeStream(gateway, ready, end)
  if (refusal || end.failure === 'client-gone') gateway.metrics.streamsCut.labels(outcome.reason ?? 'unknown').inc()
  try {
    await settle(gateway, ready, outcome)
  } catch (error) {
    // The settlement is not durable, so the last byte must not follow.
    if (!(error instanceof Refusal)) throw error
    return void response.write(errorEvent(error, request.id))
  }
  if (end.failure === 'client-gone') return
  if (refusal) return void response.write(errorEvent(refusal, request.id))
  if (request.headers['x-budgetguard-report'] === 'comment') response.write(reportComment(ready, outcome))
  for (const bytes of end.terminal) response.write(bytes)
}

function judgeStream(
  gateway: Gateway,
  ready: ReadyCall,
  { meter, failure }: StreamEnd,
): { outcome: Outcome; refusal: Refusal | null } {
  const ending = (status: Ending['status'], reason: string | null): Ending => ({
    ...endingOf(gateway, ready, status, reason),
    upstreamId: meter.upstreamId === null ? null : storable(meter.upstreamId),
  })
  const { terms } = ready
  if (failure === 'client-gone')
    return { outcome: estimatedOutcome(terms, ending('failed', 'CLIENT_GONE'), meter.producedBytes), refusal: null }
  if (failure instanceof UpstreamFailure) {
    const refusal = refusalOf(failure)
    return { outcome: wholeHoldOutcome(terms, ending('failed', refusal.reason)), refusal }
  }
  if (failure === 'oversized') {
    const refusal = upstreamFailed('UPSTREAM_MALFORMED', 'The provider sent an event that is too long')
    return { outcome: wholeHoldOutcome(terms, ending('failed', refusal.reason)), refusal }
  }
  const isWhole = meter.isFinished || meter.isDone
  if (!isWhole && !meter.hasError) {
    const refusal = upstreamFailed('UPSTREAM_CUT', 'The provider broke off its answer')
    return { outcome: wholeHoldOutcome(terms, ending('failed', refusal.reason)), refusal }
  }
  const end = meter.hasError ? ending('failed', 'UPSTREAM_ERROR') : ending('success', null)
  const outcome = meter.usage
    ? reportedOutcome(terms, end, meter.usage, meter.serviceTier)
    : estimatedOutcome(terms, end, meter.producedBytes)
  return { outcome, refusal: null }
}

function errorEvent(refusal: Refusal, requestId: string): string {
  return `data: ${JSON.stringify(renderError('openai', refusal, requestId))}\n\n`
}

function reportComment({ call }: ReadyCall, outcome: Outcome): string {
  return `: budgetguard ${JSON.stringify({
    requestId: call.facts.requestId,
    costUsd: formatUsd(outcome.settled),
    usage: {
      input: outcome.input.toString(),
      cacheRead: outcome.cacheRead.toString(),
      output: outcome.output.toString(),
      source: outcome.usageSource,
    },
  })}\n\n`
}
