// One question, every way to ask it, the same answer: one big page, many small ones, an export, a histogram, a fold over the
// values of a field; forwards and backwards; with regular expressions and without.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { FieldValuesAnswer, HistogramAnswer, LogEntry, SearchAnswer } from '../api.ts'
import { compile } from '../query/evaluate.ts'
import { parseQuery } from '../query/parse.ts'
import { batch, entry, startService, type TestService } from './start.ts'

const levels = ['debug', 'info', 'warn', 'error']
const services = ['api-eu', 'api-us', 'db']
const words = ['GET /cart', 'Timeout after 5ms', 'connection RESET', 'ünïcode', 'a "quoted" word']

/** Some at the same time, some in the same bucket, none in the future. */
function entriesUntil(toMs: number): ReturnType<typeof entry>[] {
  return Array.from({ length: 120 }, (_, i) =>
    entry({
      timestamp: new Date(toMs - 3_500_000 + Math.floor(i / 3) * 80_000).toISOString(),
      service: services[i % 3] ?? '',
      level: levels[(i * 7) % 4] ?? '',
      message: `${words[(i * 3) % 5]} ${i}`,
      metadata: i % 5 === 0 ? null : { status: 200 + (i % 4) * 100, user: { name: `u${i % 6}` }, tags: [`t${i % 2}`] },
    }),
  )
}

const { query } = fc.letrec<{ query: string }>(tie => ({
  query: fc.oneof(
    { depthSize: 'small' },
    fc.constantFrom(
      'timeout',
      "'RESET'",
      '/(?i)reset \\d+[02468]$/',
      '/^GET \\/cart/',
      'service:api-*',
      'service:~"(us|db)$"',
      'level>=warn',
      'status:[300 TO 400]',
      'user.name:~"^u[123]$"',
      'tags:t1',
      'status:*',
      'ünï',
    ),
    fc.tuple(tie('query'), tie('query')).map(([a, b]) => `(${a} ${b})`),
    fc.tuple(tie('query'), tie('query')).map(([a, b]) => `(${a} OR ${b})`),
    tie('query').map(a => `NOT (${a})`),
  ),
}))

async function json<T>(s: TestService, path: string, parameters: Record<string, string>): Promise<T> {
  const response = await s.get(`${path}?${new URLSearchParams(parameters)}`)
  assert.equal(response.status, 200, await response.clone().text())
  return (await response.json()) as T
}

const add = (counts: readonly { count: string }[]) => counts.reduce((sum, { count }) => sum + Number(count), 0)

for (const storage of ['rows', 'columnar'])
  test(`search, pages, export, histogram and values agree with the evaluator, on ${storage}`, async t => {
    const s = await startService(t, { env: { LOG_INGESTION_STORAGE: storage } })
    const toMs = Date.now()
    assert.equal((await s.post('/api/v1/logs/batch', batch(...entriesUntil(toMs)))).status, 202)
    await s.settled()
    const range = { from: new Date(toMs - 3_600_000).toISOString(), to: new Date(toMs + 60_000).toISOString() }
    const { logs: everything } = await json<SearchAnswer>(s, '/api/v1/logs/search', { ...range, limit: '1000' })
    assert.equal(everything.length, 120)

    await fc.assert(
      fc.asyncProperty(
        query,
        fc.constantFrom('asc', 'desc'),
        fc.integer({ min: 1, max: 50 }),
        async (q, order, limit) => {
          const matches = compile(parseQuery(q))
          const expected = everything
            .filter(log =>
              matches({
                id: BigInt(log.id),
                timestampNs: BigInt(Date.parse(log.timestamp)) * 1_000_000n,
                service: log.service,
                level: log.level,
                message: log.message,
                metadata: log.metadata === null ? null : JSON.stringify(log.metadata),
              }),
            )
            .map(log => log.id)
          if (order === 'asc') expected.reverse()
          const ids = (logs: readonly LogEntry[]) => logs.map(log => log.id)

          const whole = await json<SearchAnswer>(s, '/api/v1/logs/search', { ...range, q, order, limit: '1000' })
          assert.deepEqual(ids(whole.logs), expected)

          const paged: string[] = []
          for (let cursor: string | null = ''; cursor !== null; ) {
            const page: SearchAnswer = await json(s, '/api/v1/logs/search', {
              ...range,
              q,
              order,
              limit: String(limit),
              cursor,
            })
            paged.push(...ids(page.logs))
            cursor = page.cursor
          }
          assert.deepEqual(paged, expected, `pages of ${limit}`)

          const exported = await s.get(`/api/v1/logs/export?${new URLSearchParams({ ...range, q, order })}`)
          const lines = (await exported.text()).split('\n').slice(0, -1)
          assert.deepEqual(ids(lines.map(line => JSON.parse(line) as LogEntry)), expected)

          const histogram = await json<HistogramAnswer>(s, '/api/v1/logs/histogram', {
            ...range,
            q,
            interval: '7m',
            by: 'service',
          })
          assert.equal(add(histogram.buckets), expected.length)
          const values = await json<FieldValuesAnswer>(s, '/api/v1/logs/fields/service/values', { ...range, q })
          assert.equal(add(values.values), expected.length)
        },
      ),
      { numRuns: 20 },
    )
  })
