// From the acknowledgement of an entry to its event on a live tail, beside a load that leaves the service some air.

import { Pool } from 'undici'
import { report, timeAt } from './report.ts'
import { createBodies, numberOf } from './rows.ts'
import { adminKey, type Subject, writeKey } from './service.ts'

const everyMs = 10
const backgroundRows = 500
const backgroundEveryMs = 20

export async function benchTail(subject: Subject, seconds: number): Promise<void> {
  const pool = new Pool(subject.url, { connections: 12, pipelining: 1 })
  const seenMs = new Map<number, number>()
  let gaps = 0
  const stop = new AbortController()
  const follow = async () => {
    const answer = await pool.request({
      method: 'GET',
      // Of the load beside them one entry in twelve.
      path: '/api/v1/logs/tail?q=service:service-0',
      headers: { 'x-api-key': adminKey },
      signal: stop.signal,
      bodyTimeout: 0,
    })
    begun.resolve()
    let rest = ''
    for await (const chunk of answer.body.setEncoding('utf8')) {
      const nowMs = performance.now()
      const text = rest + chunk
      for (const match of text.matchAll(/"request_id":\s*"([0-9a-f]{16})"/g)) {
        const n = numberOf(match[1] ?? '')
        if (!seenMs.has(n)) seenMs.set(n, nowMs)
      }
      const end = text.lastIndexOf('\n\n')
      gaps += end < 0 ? 0 : text.slice(0, end).split('event: gap').length - 1
      rest = end < 0 ? text : text.slice(end + 2)
    }
  }
  const begun = Promise.withResolvers<void>()
  const following = follow().catch(() => {})
  await begun.promise

  const send = async (bodies: ReturnType<typeof createBodies>) => {
    const body = bodies.next()
    const id = /"request_id":"([0-9a-f]{16})"/.exec(body.toString('latin1', 0, 600))?.[1] ?? ''
    const answer = await pool.request({
      method: 'POST',
      path: '/api/v1/logs/batch',
      headers: { 'x-api-key': writeKey },
      body,
    })
    await answer.body.text()
    bodies.release(body)
    return { n: numberOf(id), ackedMs: performance.now() }
  }
  const untilMs = performance.now() + seconds * 1_000
  const every = async (ms: number, work: () => Promise<unknown>) => {
    const begun: Promise<unknown>[] = []
    for (let next = performance.now(); next < untilMs; next += ms) {
      await new Promise(resolve => setTimeout(resolve, Math.max(0, next - performance.now())))
      begun.push(work())
    }
    await Promise.all(begun)
  }
  const acked: { n: number; ackedMs: number }[] = []
  const [single, many] = [createBodies(1), createBodies(backgroundRows)]
  await Promise.all([
    every(everyMs, async () => acked.push(await send(single))),
    every(backgroundEveryMs, () => send(many)),
  ])
  const deadlineMs = performance.now() + 10_000
  while (acked.some(({ n }) => !seenMs.has(n)) && performance.now() < deadlineMs)
    await new Promise(resolve => setTimeout(resolve, 20))
  stop.abort()
  await following
  await pool.close()
  // The event may well be there before the acknowledgement has been read.
  const delays = acked
    .flatMap(({ n, ackedMs }) => {
      const atMs = seenMs.get(n)
      return atMs === undefined ? [] : [Math.max(0, atMs - ackedMs)]
    })
    .sort((a, b) => a - b)
  const at = (share: number) => (delays[Math.floor(delays.length * share)] ?? Number.NaN).toFixed(1)
  const rate = (1_000 / backgroundEveryMs) * backgroundRows + 1_000 / everyMs
  report(
    'tail',
    {
      ...{ entries: acked.length, rows_per_s: rate, p50_ms: timeAt(delays, 0.5), p99_ms: timeAt(delays, 0.99) },
      ...{ not_shown: acked.length - delays.length, gaps },
    },
    `ack → tail event: p50 ${at(0.5)} ms, p99 ${at(0.99)} ms of ${acked.length} entries at ${rate.toLocaleString('en')} rows/s; ${acked.length - delays.length} not shown; ${gaps} gaps told`,
  )
}
