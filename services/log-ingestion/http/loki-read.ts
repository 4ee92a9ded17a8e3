// The part of Loki's read API that Grafana uses, so that its Loki data source shows our logs without a plugin. Labels are
// service, level and configured metadata keys; the rest of the metadata is structured metadata, or labels after `| json`.

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { Problem } from '#platform/http'
import { parseDuration } from '#platform/time'
import { protocolCredential } from '../access/credentials.ts'
import type { TailFormat, TailItem } from '../pipeline/tail-hub.ts'
import { valuesOf } from '../query/evaluate.ts'
import {
  LogqlError,
  type LogSelection,
  type MetricSelection,
  ownLabel,
  parseLogql,
  type Selection,
} from '../query/logql.ts'
import type { StoredEntry } from '../store/store.ts'
import { parseTime, TimeError } from '../time-range.ts'
import { type Asker, authorize } from './caller.ts'
import { type QueryContext, withReads } from './context.ts'
import { cookieToken } from './cookie.ts'
import { foldMatches } from './fold.ts'
import { streamTail } from './tail.ts'

const hourNs = 3_600_000_000_000n
const limitMax = 5_000
const pointsMax = 11_000
const seriesMax = 500
const timeoutMs = 30_000
const rowsScannedMax = 50_000_000
const labelCharactersMax = 1_024

type Labels = Record<string, string>

export function addLokiRead(
  app: FastifyInstance,
  context: QueryContext,
  o: { labels: readonly string[]; version: string },
): void {
  const { clock, metrics } = context
  const labelKeys = new Map(o.labels.map(key => [labelName(key), key]))

  const asking = (request: FastifyRequest): Asker => {
    const parameters = new URLSearchParams(request.url.split('?', 2)[1] ?? '')
    const credential = protocolCredential({ headers: request.headers, parameters }) ?? cookieToken(request)
    const asker = authorize(context.access, request, 'logs:read', credential)
    const wanted = request.headers['x-scope-orgid']
    const isSlug = typeof wanted === 'string' && /^[a-z0-9][a-z0-9._-]{0,62}$/.test(wanted)
    return isSlug && asker.caller.anyTenant ? { ...asker, tenant: wanted } : asker
  }

  const get = (path: string, handle: (p: Ask, asker: Asker, request: FastifyRequest) => Promise<unknown>) => {
    const handler = async (request: FastifyRequest, reply: FastifyReply) => {
      const asker = asking(request)
      const startedMs = clock.monotonicMs()
      const answer = await handle(new Ask(request, clock.now()), asker, request)
      metrics.queried('loki', (clock.monotonicMs() - startedMs) / 1_000, 0)
      return reply.type('application/json; charset=utf-8').send(answer)
    }
    app.get(`/loki/api/v1${path}`, handler)
  }

  const labelsOf = (entry: StoredEntry, isJson: boolean): Labels => {
    const labels: Labels = { service: entry.service, level: entry.level }
    for (const [name, key] of labelKeys) {
      const [value] = valuesOf(entry.metadata, key)
      if (value) labels[name] = value.text.slice(0, labelCharactersMax)
    }
    return isJson ? { ...structured(entry.metadata), ...labels } : labels
  }

  const selectionOf = (text: string): Selection => {
    try {
      return parseLogql(text, labelKeys)
    } catch (error) {
      if (error instanceof LogqlError) throw badLogql(error.message)
      throw error
    }
  }
  const logOf = (text: string | undefined): LogSelection => {
    const selection = selectionOf(text === undefined || text === '' ? '{}' : text)
    if (selection.kind !== 'log') throw badLogql('a selector such as {service="api"} is expected here')
    return selection
  }

  const streams = async (
    ask: Ask,
    { caller, tenant }: Asker,
    log: LogSelection,
    range: Range,
    isCategorized: boolean,
  ) => {
    const limit = Math.min(limitMax, ask.whole('limit', 100))
    const order = ask.text('direction') === 'forward' ? 'asc' : 'desc'
    const found = new Map<string, { stream: Labels; values: unknown[] }>()
    const plan = { key: caller.key, tenant, query: log.query, ...range, order, timeoutMs, matchesMax: limit } as const
    await foldMatches(context, plan, entry => {
      const stream = labelsOf(entry, log.isJson && !isCategorized)
      const id = JSON.stringify(stream)
      const known = found.get(id) ?? { stream, values: [] }
      found.set(id, known)
      const value: unknown[] = [String(entry.timestampNs), entry.message]
      if (isCategorized) value.push({ structuredMetadata: structured(entry.metadata) })
      known.values.push(value)
      return true
    })
    return success({
      resultType: 'streams',
      result: [...found.values()],
      ...(isCategorized ? { encodingFlags: ['categorize-labels'] } : {}),
      stats: {},
    })
  }

  /** Series of (time in ns, value) at each step: what the range before each step holds. */
  const series = async ({ caller, tenant }: Asker, metric: MetricSelection, range: Range, stepNs: bigint) => {
    const windowNs = durationNs(metric.range)
    const points = Number((range.toNs - range.fromNs) / stepNs) + 1
    if (points > pointsMax)
      throw badLogql(`the step cuts this range into ${points} points, at most ${pointsMax} are answered`)
    const bucketNs = gcd(stepNs, windowNs)
    const originNs = range.fromNs - windowNs
    const bucketCount = Number((range.toNs - originNs) / bucketNs) + 1
    if (bucketCount > 50_000)
      throw badLogql(`step and range have too little in common; a step that divides ${metric.range} is quick`)
    const counts = new Map<string, { labels: Labels; buckets: Map<number, number> }>()
    const add = (labels: Labels, bucket: number, count: number) => {
      const id = JSON.stringify(labels)
      const known = counts.get(id)
      if (known) known.buckets.set(bucket, (known.buckets.get(bucket) ?? 0) + count)
      else if (counts.size < seriesMax) counts.set(id, { labels, buckets: new Map([[bucket, count]]) })
      else throw badLogql(`more than ${seriesMax} series; sum by fewer labels`)
    }
    const plan = { tenant, query: metric.log.query, fromNs: originNs, toNs: range.toNs, timeoutMs }
    const by = groupLabel(metric.by)
    if (by === 'scan')
      await foldMatches(context, { ...plan, key: caller.key, order: 'asc' }, entry => {
        const labels = labelsOf(entry, metric.log.isJson || metric.by !== undefined)
        add(metric.by ? picked(labels, metric.by) : labels, Number((entry.timestampNs - originNs) / bucketNs), 1)
        return true
      })
    else {
      // Only names that were asked for are in the answer, under the names they were asked by.
      const name = metric.by?.find(label => ownLabel(label) === by)
      const found = await context.gate.run(caller.key, () =>
        withReads(context, store =>
          store.count({ ...plan, originNs, intervalNs: bucketNs, by, rowsScannedMax }, () => clock.monotonicMs()),
        ),
      )
      for (const [bucket, values] of found.counts)
        for (const [value, count] of values) add(name === undefined ? {} : { [name]: value }, bucket, Number(count))
    }
    const perWindow = Number(windowNs / bucketNs)
    const perStep = Number(stepNs / bucketNs)
    const seconds = Number(windowNs) / 1e9
    return [...counts.values()].map(({ labels, buckets }) => {
      const values: [bigint, number][] = []
      let sum = 0
      let low = 0
      let high = 0
      for (let point = 0; point < points; point++) {
        const end = point * perStep + perWindow
        while (high < end) sum += buckets.get(high++) ?? 0
        while (low < end - perWindow) sum -= buckets.get(low++) ?? 0
        if (sum > 0) values.push([range.fromNs + BigInt(point) * stepNs, metric.isRate ? sum / seconds : sum])
      }
      return { labels, values }
    })
  }

  get('/query_range', async (ask, asker, request) => {
    const selection = selectionOf(ask.text('query') ?? '')
    const range = ask.range()
    if (selection.kind === 'vector') throw badLogql('vector is answered by /loki/api/v1/query only')
    if (selection.kind === 'log') return await streams(ask, asker, selection, range, isCategorized(request))
    const stepNs = ask.step(range)
    const found = await series(asker, selection, range, stepNs)
    return success({
      resultType: 'matrix',
      result: found
        .filter(({ values }) => values.length > 0)
        .map(({ labels, values }) => ({ metric: labels, values: values.map(([ns, n]) => [secondsOf(ns), String(n)]) })),
      stats: {},
    })
  })

  get('/query', async (ask, asker, request) => {
    const selection = selectionOf(ask.text('query') ?? '')
    const atNs = ask.time('time') ?? ask.nowNs
    if (selection.kind === 'vector')
      return success({
        resultType: 'vector',
        result: [{ metric: {}, value: [secondsOf(atNs), String(selection.value)] }],
        stats: {},
      })
    if (selection.kind === 'log')
      return await streams(ask, asker, selection, { fromNs: atNs - hourNs, toNs: atNs + 1n }, isCategorized(request))
    const found = await series(asker, selection, { fromNs: atNs, toNs: atNs }, durationNs(selection.range))
    return success({
      resultType: 'vector',
      result: found.flatMap(({ labels, values }) =>
        values.slice(0, 1).map(([ns, n]) => ({ metric: labels, value: [secondsOf(ns), String(n)] })),
      ),
      stats: {},
    })
  })

  get('/labels', async () => success(['service', 'level', ...labelKeys.keys()].sort()))
  get('/label', async () => success(['service', 'level', ...labelKeys.keys()].sort()))

  const counted = async (asker: Asker, log: LogSelection, range: Range, by: 'service' | 'level') => {
    const { fromNs, toNs } = range
    const plan = {
      tenant: asker.tenant,
      query: log.query,
      fromNs,
      toNs,
      originNs: fromNs,
      intervalNs: toNs - fromNs,
      by,
      timeoutMs,
      rowsScannedMax,
    }
    const { counts } = await context.gate.run(asker.caller.key, () =>
      withReads(context, store => store.count(plan, () => clock.monotonicMs())),
    )
    const sums = new Map<string, number>()
    for (const values of counts.values())
      for (const [value, count] of values) sums.set(value, (sums.get(value) ?? 0) + Number(count))
    return sums
  }

  get('/label/:name/values', async (ask, asker, request) => {
    const { name } = request.params as { name: string }
    const log = logOf(ask.text('query'))
    const own = ownLabel(name)
    if (own !== undefined) return success([...(await counted(asker, log, ask.range(), own)).keys()].sort())
    const key = labelKeys.get(name)
    const values = new Set<string>()
    if (key !== undefined)
      await foldMatches(
        context,
        { key: asker.caller.key, tenant: asker.tenant, query: log.query, ...ask.range(), order: 'desc', timeoutMs },
        entry => {
          for (const { text } of valuesOf(entry.metadata, key)) values.add(text.slice(0, labelCharactersMax))
          return values.size < limitMax
        },
      )
    return success([...values].sort())
  })

  get('/series', async (ask, asker) => {
    const found = new Map<string, Labels>()
    const range = ask.range()
    for (const match of ask.all('match[]', 'match').slice(0, 10))
      await foldMatches(
        context,
        {
          key: asker.caller.key,
          tenant: asker.tenant,
          query: logOf(match).query,
          ...range,
          order: 'desc',
          timeoutMs,
          matchesMax: 100_000,
        },
        entry => {
          const labels = labelsOf(entry, false)
          found.set(JSON.stringify(labels), labels)
          return found.size < seriesMax
        },
      )
    return success([...found.values()])
  })

  /** Bytes are the mean of the newest entries times their number: Loki's own figure is an estimate as well. */
  const meanBytes = async (asker: Asker, log: LogSelection, range: Range) => {
    let bytes = 0
    const { matches } = await foldMatches(
      context,
      {
        key: asker.caller.key,
        tenant: asker.tenant,
        query: log.query,
        ...range,
        order: 'desc',
        timeoutMs,
        matchesMax: 200,
      },
      entry => {
        bytes += Buffer.byteLength(entry.message) + (entry.metadata?.length ?? 0)
        return true
      },
    )
    return matches === 0 ? 0 : bytes / matches
  }

  get('/index/stats', async (ask, asker) => {
    const log = logOf(ask.text('query'))
    const sums = await counted(asker, log, ask.range(), 'service')
    const entries = [...sums.values()].reduce((sum, n) => sum + n, 0)
    const bytes = Math.round(entries * (await meanBytes(asker, log, ask.range())))
    return { streams: sums.size, chunks: sums.size, entries, bytes }
  })

  get('/index/volume', async (ask, asker) => {
    const log = logOf(ask.text('query'))
    const range = ask.range()
    const by = ownLabel(ask.text('targetLabels')?.split(',')[0] ?? 'service') ?? 'service'
    const name = ask.text('targetLabels')?.split(',')[0] ?? 'service'
    const mean = await meanBytes(asker, log, range)
    const sums = [...(await counted(asker, log, range, by))].sort(([, a], [, b]) => b - a)
    return success({
      resultType: 'vector',
      result: sums.slice(0, ask.whole('limit', 100)).map(([value, count]) => ({
        metric: { [ownLabel(name) === undefined ? by : name]: value },
        value: [secondsOf(range.toNs), String(Math.round(count * mean))],
      })),
    })
  })

  get('/status/buildinfo', async () => ({
    version: '2.9.0',
    revision: `purser ${o.version}`,
    branch: '',
    buildUser: '',
    buildDate: '',
    goVersion: '',
  }))

  app.get('/loki/api/v1/tail', { exposeHeadRoute: false }, (request, reply) => {
    const { caller, tenant } = asking(request)
    const { query } = logOf(new Ask(request, clock.now()).text('query'))
    return streamTail(app, request, reply, {
      sse: tailFormat,
      socket: tailFormat,
      subscribe: (format, sink) => context.hub.subscribe({ tenant, key: caller.key, query, format, sink }),
    })
  })

  const tailFormat: TailFormat = {
    entry(item: TailItem) {
      const labels: Labels = { service: item.service, level: item.level }
      for (const [name, key] of labelKeys) {
        const [value] = valuesOf(item.metadata, key)
        if (value) labels[name] = value.text.slice(0, labelCharactersMax)
      }
      const ns = String(BigInt(item.seconds) * 1_000_000_000n + BigInt(item.nanos))
      return JSON.stringify({ streams: [{ stream: labels, values: [[ns, item.message]] }], dropped_entries: [] })
    },
    // Loki names what it dropped one by one; the number is what we know.
    gap: dropped => JSON.stringify({ streams: [], dropped_entries: [{ labels: {}, timestamp: '0', dropped }] }),
    heartbeat: () => '',
  }
}

interface Range {
  fromNs: bigint
  toNs: bigint
}

/** Parameters as Grafana sends them: times in ns, s or RFC 3339. */
class Ask {
  readonly nowNs: bigint
  readonly #parameters: URLSearchParams
  readonly #nowMs: number
  constructor(request: FastifyRequest, nowMs: number) {
    this.#parameters = new URLSearchParams(request.url.split('?', 2)[1] ?? '')
    this.#nowMs = nowMs
    this.nowNs = BigInt(nowMs) * 1_000_000n
  }

  text(name: string): string | undefined {
    return this.#parameters.get(name) ?? undefined
  }

  all(...names: string[]): string[] {
    return names.flatMap(name => this.#parameters.getAll(name))
  }

  whole(name: string, standard: number): number {
    const text = this.text(name)
    if (text === undefined || text === '') return standard
    if (!/^\d{1,9}$/.test(text) || Number(text) < 1)
      throw badLogql(`${name}: ${JSON.stringify(text)} is not a whole number above 0`)
    return Number(text)
  }

  time(name: string): bigint | undefined {
    const text = this.text(name)
    if (text === undefined || text === '') return undefined
    const match = /^(\d{1,19})(?:\.(\d{1,9})\d*)?$/.exec(text)
    // Nanoseconds when there are too many digits for seconds.
    if (match) {
      const [, whole = '0', fraction = ''] = match
      return whole.length > 11 ? BigInt(whole) : BigInt(whole) * 1_000_000_000n + BigInt(fraction.padEnd(9, '0'))
    }
    try {
      return parseTime(text, this.#nowMs)
    } catch (error) {
      if (error instanceof TimeError) throw badLogql(`${name}: ${error.message}`)
      throw error
    }
  }

  range(): Range {
    const toNs = this.time('end') ?? this.nowNs + 1_000_000n
    const fromNs = this.time('start') ?? toNs - hourNs
    if (fromNs >= toNs) throw badLogql('start: must be before end')
    return { fromNs, toNs }
  }

  step({ fromNs, toNs }: Range): bigint {
    const text = this.text('step')
    if (text === undefined || text === '') {
      const seconds = (toNs - fromNs) / 250_000_000_000n
      return (seconds > 0n ? seconds : 1n) * 1_000_000_000n
    }
    return /^\d+(\.\d+)?$/.test(text)
      ? BigInt(Math.round(Number(text) * 1e3)) * 1_000_000n || 1_000_000n
      : durationNs(text)
  }
}

const success = (data: unknown) => ({ status: 'success', data })

/** Grafana shows `message`. */
const badLogql = (detail: string) =>
  new Problem({ status: 400, reason: 'BAD_QUERY', detail, extra: { message: detail } })

function isCategorized(request: FastifyRequest): boolean {
  return String(request.headers['x-loki-response-encoding-flags'] ?? '').includes('categorize-labels')
}

/** Loki's names have letters, digits and underscores only. */
function labelName(key: string): string {
  return key.replaceAll(/[^A-Za-z0-9_]/g, '_')
}

function structured(metadata: string | null): Labels {
  const labels: Labels = {}
  const walk = (value: unknown, path: string) => {
    if (Object.keys(labels).length >= 200) return
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      for (const [key, inner] of Object.entries(value)) walk(inner, path === '' ? key : `${path}_${key}`)
    else if (path !== '')
      labels[labelName(path)] = (typeof value === 'string' ? value : JSON.stringify(value)).slice(0, labelCharactersMax)
  }
  if (metadata !== null) walk(JSON.parse(metadata), '')
  return labels
}

/** Whether the store can count by it; both names of one label are one. */
function groupLabel(by: readonly string[] | undefined): 'service' | 'level' | null | 'scan' {
  if (by === undefined) return 'scan'
  const own = new Set(by.map(ownLabel))
  if (own.has(undefined) || own.size > 1) return 'scan'
  return [...own][0] ?? null
}

function picked(labels: Labels, names: readonly string[]): Labels {
  return Object.fromEntries(
    names.flatMap(name => {
      const value = [name, ownLabel(name) ?? ''].filter(key => Object.hasOwn(labels, key)).map(key => labels[key])[0]
      return value === undefined ? [] : [[name, value]]
    }),
  )
}

function durationNs(text: string): bigint {
  const days = /^(\d{1,4})([dw])$/.exec(text)
  try {
    const ms = days ? Number(days[1]) * (days[2] === 'd' ? 86_400_000 : 604_800_000) : parseDuration(text)
    if (ms >= 1) return BigInt(Math.round(ms)) * 1_000_000n
  } catch {
    // Said below.
  }
  throw badLogql(`${JSON.stringify(text)} is not a length of time such as 5m`)
}

function gcd(a: bigint, b: bigint): bigint {
  return b === 0n ? a : gcd(b, a % b)
}

function secondsOf(ns: bigint): number {
  return Number(ns / 1_000_000n) / 1_000
}
