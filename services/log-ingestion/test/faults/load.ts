// Requests with numbered entries in several protocols, and senders that do not give up: what is not acknowledged is sent
// again, the same to the byte.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Random } from './random.ts'

export interface Expected {
  number: number
  tenant: 'public' | 'acme'
  service: string
  level: string
  message: string
  timestampNs: bigint
  metadata: Record<string, unknown>
  /** The database refuses it. */
  isPoison: boolean
}

/** How a sender makes sure, and what may therefore be true of what it heard nothing about. */
export type Delivery =
  /** Idempotency-Key, sent again until it is acknowledged, to any replica. */
  | 'marked'
  /** Sent again until it is acknowledged, to the same replica: the service has to see that it is the same. */
  | 'unmarked'
  /** Sent once: without an answer it may be there or not. */
  | 'once'

export interface Request {
  path: string
  headers: Record<string, string>
  body: string
  entries: Expected[]
  delivery: Delivery
  replica: number
  /** To both replicas at the same time: one of them loses. */
  isRaced: boolean
}

export interface Sent extends Request {
  /** Undefined: nobody ever answered. */
  answer: { receipt: string; isDuplicate: boolean } | undefined
  attempts: number
}

export const poisonService = 'poison'
const keys = [
  { key: 'writer-one', tenant: 'public' },
  { key: 'writer-two', tenant: 'public' },
  { key: 'writer-acme', tenant: 'acme' },
] as const
export const apiKeys = 'writer-one,writer-two,acme=writer-acme'
export const adminKeys = { public: 'admin-public', acme: 'admin-acme' } as const

const levels = ['DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'] as const
const services = ['shop', 'billing', 'edge-eu'] as const
/** Text that quoting, escaping or an encoding could break; JSON of numbers that a double could. */
const texts = ['plain', 'tab\tand "quotes"', 'größer, 日本, 🦊', 'a\\b \\u0041', "it's {x} %s", 'two\nlines'] as const
/** Stands for itself in bodies, as HUGE in what is expected. */
export const hugeNumber = '123456789012345678901234567890.25'

interface Protocol {
  path: string
  contentType?: string
  /** Digits of a second that it carries. */
  timeDigits: 3 | 6 | 9
  body(entries: readonly Expected[]): string
  metadata(number: number): Record<string, unknown>
}

const rfc3339 = (ns: bigint, digits: number) => {
  const seconds = new Date(Number(ns / 1_000_000n)).toISOString().slice(0, 19)
  return `${seconds}.${String(ns % 1_000_000_000n)
    .padStart(9, '0')
    .slice(0, digits)}Z`
}

const withHuge = (value: object) => JSON.stringify(value).replaceAll('"HUGE"', hugeNumber)

const json = 'application/json'
const native = (n: number) => ({ n, huge: 'HUGE', deep: { list: [n, null, true] } })
const nativeEntry = (e: Expected) => ({
  timestamp: rfc3339(e.timestampNs, 9),
  service: e.service,
  level: e.level.toLowerCase(),
  message: e.message,
  metadata: e.metadata,
})

const protocols: readonly [Protocol, ...Protocol[]] = [
  {
    path: '/api/v1/logs/batch',
    timeDigits: 9,
    body: entries => withHuge({ logs: entries.map(nativeEntry) }),
    metadata: native,
  },
  {
    path: '/api/v1/logs/ndjson',
    timeDigits: 9,
    body: entries =>
      entries
        .map(e =>
          withHuge({
            time: rfc3339(e.timestampNs, 9),
            service: e.service,
            level: e.level,
            msg: e.message,
            ...e.metadata,
          }),
        )
        .join('\n'),
    metadata: native,
  },
  {
    path: '/loki/api/v1/push',
    contentType: json,
    timeDigits: 9,
    body: entries =>
      JSON.stringify({
        streams: entries.map(e => ({
          stream: { service_name: e.service, level: e.level, env: 'prod' },
          values: [[String(e.timestampNs), e.message, { n: String(e.number) }]],
        })),
      }),
    metadata: n => ({ env: 'prod', n: String(n) }),
  },
  {
    path: '/_bulk',
    contentType: 'application/x-ndjson',
    timeDigits: 9,
    body: entries =>
      entries
        .map(
          e =>
            `{"create":{"_index":"logs"}}\n${withHuge({
              '@timestamp': rfc3339(e.timestampNs, 9),
              message: e.message,
              level: e.level,
              service: e.service,
              ...e.metadata,
            })}\n`,
        )
        .join(''),
    metadata: native,
  },
  {
    path: '/v1/logs',
    contentType: json,
    timeDigits: 9,
    body: entries =>
      JSON.stringify({
        resourceLogs: entries.map(e => ({
          resource: { attributes: [{ key: 'service.name', value: { stringValue: e.service } }] },
          scopeLogs: [
            {
              logRecords: [
                {
                  timeUnixNano: String(e.timestampNs),
                  severityText: e.level,
                  body: { stringValue: e.message },
                  attributes: [{ key: 'n', value: { intValue: String(e.number) } }],
                },
              ],
            },
          ],
        })),
      }),
    // The service is filled in by whoever makes the request.
    metadata: n => ({ n }),
  },
  {
    path: '/api/v2/logs',
    contentType: json,
    timeDigits: 3,
    body: entries =>
      withHuge(
        entries.map(e => ({
          message: e.message,
          status: e.level,
          service: e.service,
          timestamp: Number(e.timestampNs / 1_000_000n),
          ...e.metadata,
        })),
      ),
    metadata: native,
  },
]

/** Numbers are given out once per run. */
export function createRequests(o: {
  random: Random
  count: number
  replicas: number
  hasPoison: boolean
  /** Wall clock, ms. */
  nowMs: number
}): Request[] {
  const { random } = o
  let number = 0
  const make = (index: number): Request => {
    const protocol = random.pick(protocols)
    const { key, tenant } = random.pick(keys)
    // Now and then more than one commit takes.
    const rows = random.chance(0.004) ? 10_700 : random.pick([1, 2, 5, 10, 10, 40])
    const entries = Array.from({ length: rows }, (): Expected => {
      const n = number++
      const isPoison = o.hasPoison && random.chance(0.01)
      const service = isPoison ? poisonService : random.pick(services)
      const unit = 10n ** BigInt(9 - protocol.timeDigits)
      const ns = BigInt(o.nowMs - random.below(600_000)) * 1_000_000n + BigInt(random.below(1_000_000))
      const metadata = protocol.metadata(n)
      return {
        number: n,
        tenant,
        service,
        level: random.pick(levels),
        message: `#${n} ${random.pick(texts)}`,
        timestampNs: (ns / unit) * unit,
        metadata: protocol.path === '/v1/logs' ? { ...metadata, resource: { 'service.name': service } } : metadata,
        isPoison,
      }
    })
    const delivery = random.pick<Delivery>(['marked', 'unmarked', 'unmarked', 'once'])
    return {
      path: protocol.path,
      headers: {
        'x-api-key': key,
        ...(protocol.contentType === undefined ? {} : { 'content-type': protocol.contentType }),
        ...(delivery === 'marked' ? { 'idempotency-key': `request ${index}` } : {}),
      },
      body: protocol.body(entries),
      entries,
      delivery,
      replica: random.below(o.replicas),
      isRaced: o.replicas > 1 && delivery === 'marked' && random.chance(0.3),
    }
  }
  return Array.from({ length: o.count }, (_, index) => make(index))
}

export interface Target {
  /** Undefined while it does not run. */
  url: string | undefined
}

export interface Load {
  readonly acknowledged: number
  /** 429s by reason. */
  readonly refusals: ReadonlyMap<string, number>
  done: Promise<Sent[]>
}

const againMs = 15
/** Longest for one request; no outage of a run is that long. */
const patienceMs = 90_000
const attemptTimeoutMs = 30_000

export function startLoad(o: {
  requests: readonly Request[]
  senders: number
  targets: readonly Target[]
  random: Random
  /** The run is over, whatever is left. */
  signal: AbortSignal
}): Load {
  let next = 0
  let acknowledged = 0
  const refusals = new Map<string, number>()
  const sent: Sent[] = []

  const deliver = async (request: Request): Promise<Sent> => {
    let replica = request.replica
    const other = request.isRaced ? o.targets[1 - replica] : undefined
    const race =
      other?.url === undefined
        ? undefined
        : fetch(other.url + request.path, {
            method: 'POST',
            headers: request.headers,
            body: request.body,
            signal: AbortSignal.timeout(attemptTimeoutMs),
          })
            .then(response => response.arrayBuffer())
            .catch(() => {})
    let lastWord = 'no answer'
    const deadlineMs = performance.now() + patienceMs
    const rest = async () => {
      if (performance.now() > deadlineMs)
        throw new Error(`${request.path} was not acknowledged within ${patienceMs} ms: ${lastWord}`)
      await sleep(againMs, undefined, { signal: o.signal })
    }
    for (let attempts = 1; ; attempts++) {
      let target = o.targets[replica]
      while (target?.url === undefined) {
        await rest()
        if (request.delivery === 'marked') replica = o.random.below(o.targets.length)
        target = o.targets[replica]
      }
      const response = await fetch(target.url + request.path, {
        method: 'POST',
        headers: request.headers,
        body: request.body,
        signal: AbortSignal.timeout(attemptTimeoutMs),
      }).catch(() => undefined)
      const text = await response?.text().catch(() => undefined)
      if (response?.ok) {
        const receipt = response.headers.get('x-receipt')
        if (receipt === null)
          throw new Error(`${request.path} was answered ${response.status} without a receipt: ${text}`)
        acknowledged++
        await race
        return {
          ...request,
          attempts,
          answer: { receipt, isDuplicate: response.headers.get('x-duplicate') === 'true' },
        }
      }
      if (response !== undefined && response.status !== 429)
        throw new Error(`${request.path} was answered ${response.status}: ${text}`)
      if (response) {
        // Refused for certain: it may go again, whatever its sender promises.
        lastWord = `${response.status} ${text}`
        const reason = /DISK_FULL|DISK_ERROR|JOURNAL_FULL|INFLIGHT|DRAINING/.exec(text ?? '')?.[0] ?? 'other'
        refusals.set(reason, (refusals.get(reason) ?? 0) + 1)
      } else if (request.delivery === 'once') {
        return { ...request, attempts, answer: undefined }
      } else if (request.delivery === 'marked') replica = o.random.below(o.targets.length)
      await rest()
    }
  }

  const sender = async () => {
    for (let request = o.requests[next++]; request; request = o.requests[next++]) sent.push(await deliver(request))
  }
  return {
    get acknowledged() {
      return acknowledged
    },
    refusals,
    done: Promise.all(Array.from({ length: o.senders }, sender)).then(() => sent),
  }
}
