// The upload loop of one destination.
//
//   waiting → sending → waiting        nothing pending, or the round failed: until the next interval
//   sending → sending                  a chunk was taken: it is marked and the next one planned in one transaction
//   sending → backing off → sending    network trouble, 5xx, 429: the same bytes again
//   sending → held → sending           401, 404, …: nothing will change soon, one try per interval
//   any → closed                       stop: one last round, unless there is trouble
//
// The range of a chunk is committed before its first attempt and built again from the same rows after a crash, so at
// most one chunk is ever sent twice, and then with the same bytes.

import { createHash } from 'node:crypto'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import type { Logger } from '#platform/telemetry'
import { type Clock, sleep } from '#platform/time'
import type { Config } from '../config.ts'
import { observe, type UploadStats } from '../stats.ts'
import type { Chunk, Chunks } from '../store/chunks.ts'
import type { Culprit, Store } from '../store/store.ts'
import { backoffMs, judge, shownUrl, type Verdict } from './answer.ts'
import { openChunkSize } from './chunk-size.ts'
import type { Client } from './client.ts'

export interface UploaderOptions {
  store: Store
  chunks: Chunks
  client: Client
  url: string
  config: Pick<
    Config,
    | 'deviceId'
    | 'uploadIntervalMs'
    | 'remoteBatchSize'
    | 'remoteChunkSize'
    | 'retryEnabled'
    | 'retryAttemptsMax'
    | 'retryInitialBackoffMs'
    | 'retryBackoffMsMax'
    | 'retryBackoffMultiplier'
    | 'retryJitterPercent'
    | 'retryAfterMsMax'
    | 'drainTimeoutMs'
  >
  stats: UploadStats
  clock: Clock
  log: Logger
  version: string
  /** Resolves when the clock was compared once, or could not be. */
  clockKnown: Promise<void>
}

type RoundEnd = 'drained' | 'failed' | 'held' | 'unauthorized'
type ChunkEnd = 'delivered' | 'split' | Exclude<RoundEnd, 'drained'>

/** This many culprits without a success between them: the endpoint is wrong, not the data. */
const culpritsMax = 64

/** With a bad token the endpoint is left alone for at least this long. */
const unauthorizedMs = 60_000

/** Past the longest wait the loop announces, it counts as wedged after this. */
const graceMs = 600_000

const compress = promisify(gzip)

export function startUploader(o: UploaderOptions) {
  const { store, chunks, config, stats, clock, log } = o
  const stopping = new AbortController()
  const cutOff = new AbortController()
  const size = openChunkSize(config.remoteChunkSize, config.remoteBatchSize)
  const culprits: Culprit[] = []
  let promisedMs = clock.monotonicMs() + graceMs

  const loop = async (): Promise<void> => {
    await Promise.race([o.clockKnown, whenAborted(stopping.signal)])
    // A fleet that was switched on together must not knock together.
    await pause(phaseMs(config.deviceId, config.uploadIntervalMs))
    while (!stopping.signal.aborted) {
      const end = await round()
      await pause(end === 'unauthorized' ? Math.max(config.uploadIntervalMs, unauthorizedMs) : config.uploadIntervalMs)
    }
  }

  /** False when a stop cut it short. */
  const pause = async (ms: number): Promise<boolean> => {
    promisedMs = clock.monotonicMs() + ms + graceMs
    await sleep(ms, stopping.signal).catch(() => {})
    return !stopping.signal.aborted
  }

  /** Batches follow each other until nothing is pending, however much that is. */
  async function round(): Promise<RoundEnd> {
    let chunk = resume() ?? plan()
    let index = 0
    let batch = 0
    while (chunk) {
      const end = await deliver(chunk, index)
      if (end === 'split') {
        chunk = plan()
        continue
      }
      if (end !== 'delivered') return end
      succeed()
      batch += chunk.samples
      index++
      if (batch >= config.remoteBatchSize) [batch, index] = [0, 0]
      chunk = plan(chunk)
    }
    succeed()
    return 'drained'
  }

  /** An empty queue counts as a success. */
  const succeed = () => {
    stats.lastSuccessMs = clock.now()
    stats.lastSuccessMonoMs = clock.monotonicMs()
    stats.trouble = ''
  }

  /** The chunk that was under way when the process before us ended, or when the round before this one failed. */
  function resume(): Chunk | undefined {
    const inflight = store.delivery?.inflight
    const chunk = inflight && chunks.build(inflight, Number.MAX_SAFE_INTEGER, clock.now())
    // Partly evicted or damaged since: what is left is planned anew.
    return chunk && chunk.samples > 0 && chunk.lo === inflight.lo && chunk.hi === inflight.hi ? chunk : undefined
  }

  /** Marks `done` and commits the range of what comes next, in one transaction. */
  function plan(done?: Chunk): Chunk | undefined {
    for (let marked = done; ; marked = undefined) {
      const nowMs = clock.now()
      const next = chunks.next({
        nowMs,
        liveFromMs: nowMs - 2 * config.uploadIntervalMs,
        samplesMax: size.samples,
        ...(marked ? { also: marked } : {}),
      })
      const planned = next && next.samples > 0 ? next : undefined
      store.deliver(
        delivery => [
          ...(marked ? [delivery.mark(marked)] : []),
          planned
            ? delivery.plan({ lo: planned.lo, hi: planned.hi, bodySha256: planned.sha256, attempts: 0, firstMs: nowMs })
            : delivery.unplan(),
        ],
        marked ? marked.samples : 0,
      )
      stats.uploaded += marked?.samples ?? 0
      if (marked && marked.damagedSamples > 0) store.loseDamaged(marked, nowMs)
      if (!next || planned) return planned
      // Nothing in it can be read any more: it is booked and passed over.
      store.loseDamaged(next, nowMs)
    }
  }

  async function deliver(chunk: Chunk, index: number): Promise<ChunkEnd> {
    const packed = await compress(chunk.body)
    let failures = 0
    let isTokenFresh = false
    for (let attempt = 0; ; attempt++) {
      if (attempt > 0) stats.retries++
      promisedMs = clock.monotonicMs() + graceMs
      const verdict = await send(chunk, packed, index, attempt)
      if (verdict.kind === 'delivered') {
        culprits.length = 0
        size.succeeded(chunk.samples, packed.length)
        return 'delivered'
      }
      add(stats.failures, labelOf(verdict), 1)
      stats.trouble = verdict.reason
      log.error({ reason: verdict.reason, samples: chunk.samples, attempt }, 'upload failed')
      if (cutOff.signal.aborted) return 'failed'
      switch (verdict.kind) {
        case 'too-large':
        case 'refused':
          return narrow(chunk, verdict.reason)
        case 'unauthorized':
          if (isTokenFresh || !o.client.rereadToken()) return 'unauthorized'
          isTokenFresh = true
          break
        case 'hold':
          return 'held'
        case 'throttled':
          if (!(await pause(Math.max(verdict.afterMs, backoff(0)) + Math.random() * 1_000))) return 'failed'
          break
        case 'retry':
          if (verdict.isTimeout) size.timedOut()
          if (!config.retryEnabled || ++failures >= config.retryAttemptsMax) return 'failed'
          if (!(await pause(backoff(failures - 1)))) return 'failed'
          break
        default:
          return verdict satisfies never
      }
    }
  }

  async function send(chunk: Chunk, packed: Buffer, index: number, attempt: number): Promise<Verdict> {
    const startedMs = clock.monotonicMs()
    const isLive = chunk.newestStampMs >= clock.now() - 2 * config.uploadIntervalMs
    add(stats.sentBytes, isLive ? 'live' : 'backfill', packed.length)
    const headers = {
      'Content-Type': 'application/x-ndjson',
      'Content-Encoding': 'gzip',
      'User-Agent': `metrics-collector/${o.version}`,
      'X-Device-ID': encodeURIComponent(config.deviceId),
      'X-Chunk-Index': String(index),
      'X-Chunk-Metrics': String(chunk.samples),
      'X-Attempt': String(attempt),
      'X-Chunk-ID': chunk.sha256.toString('hex').slice(0, 16),
    }
    try {
      const answer = await o.client.post(o.url, headers, packed, cutOff.signal)
      return judge(answer, { url: o.url, nowMs: clock.now(), retryAfterMsMax: config.retryAfterMsMax })
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      return {
        kind: 'retry',
        reason: `${shownUrl(o.url)}: ${reason}`,
        isTimeout: reason.startsWith('no answer within'),
      }
    } finally {
      observe(stats.durationS, (clock.monotonicMs() - startedMs) / 1_000)
    }
  }

  /** Halves what is refused until one sample stands alone; that one is set aside and the rest flows on. */
  function narrow(chunk: Chunk, reason: string): ChunkEnd {
    size.refused(chunk.samples)
    if (chunk.samples > 1) return 'split'
    const status = Number(/answers (\d{3})/.exec(reason)?.[1] ?? 0)
    const culprit = store.quarantine(chunk, { status, answer: reason, nowMs: clock.now() })
    culprits.push(culprit)
    log.warn({ quarantine: culprit.id, reason }, 'a sample was refused for good and set aside')
    if (culprits.length < culpritsMax) return 'split'
    store.release(culprits.splice(0))
    stats.trouble = `${reason}, whatever it is sent; check remote.url`
    return 'held'
  }

  const backoff = (n: number) =>
    backoffMs(
      n,
      {
        initialMs: config.retryInitialBackoffMs,
        maxMs: config.retryBackoffMsMax,
        multiplier: config.retryBackoffMultiplier,
        jitterPercent: config.retryJitterPercent,
      },
      Math.random(),
    )

  const done = loop()
  // A bug in here must end the process, not hide until close.
  done.catch(error => process.nextTick(() => Promise.reject(error)))

  return {
    /** Monotonic time by which the loop will have made progress, or is wedged. */
    get promisedMs() {
      return promisedMs
    },
    async close(): Promise<void> {
      stopping.abort()
      const timer = setTimeout(() => cutOff.abort(), config.drainTimeoutMs)
      try {
        await done
        // Waiting for better times is not for a stop; the samples are on disk.
        if (stats.trouble === '') await round()
      } finally {
        clearTimeout(timer)
        o.client.close()
      }
    },
  }
}

export type Uploader = ReturnType<typeof startUploader>

export function phaseMs(deviceId: string, intervalMs: number): number {
  return createHash('sha256').update(deviceId).digest().readUInt32BE(0) % intervalMs
}

function whenAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise(resolve => signal.addEventListener('abort', () => resolve(), { once: true }))
}

function add<K>(counts: Map<K, number>, key: K, by: number) {
  counts.set(key, (counts.get(key) ?? 0) + by)
}

/** A few fixed words and status codes; the sentence is for the log. */
function labelOf(verdict: Exclude<Verdict, { kind: 'delivered' }>): string {
  const status = /answers (\d{3})/.exec(verdict.reason)?.[1]
  if (status !== undefined) return status
  if (verdict.kind !== 'retry') return verdict.kind
  return verdict.isTimeout ? 'timeout' : verdict.reason.includes('captive portal') ? 'portal' : 'network'
}
