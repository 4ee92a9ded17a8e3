// Rows, blocks, both at once, and plain arrays: one answer.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { levels } from '../level.ts'
import { compile } from '../query/evaluate.ts'
import { parseQuery } from '../query/parse.ts'
import { daySeconds, openTestStore, type Row, receivedUs, row, type TestStore } from '../test/stored.ts'
import type { Place, SearchPlan, StoredEntry } from './store.ts'

const dayNs = BigInt(daySeconds) * 1_000_000_000n
const now = () => performance.now()
const everything: SearchPlan = {
  tenant: 'public',
  query: { kind: 'all' },
  fromNs: dayNs - 86_400_000_000_000n,
  toNs: dayNs + 86_400_000_000_000n,
  order: 'desc',
  after: undefined,
  limit: 100,
  bytesMax: 8 * 1024 * 1024,
  timeoutMs: 60_000,
  rowsScannedMax: 1_000_000,
}

const words = ['timeout', 'Timeout', 'GET /api', 'é', 'İstanbul', 'K', 'i', '100%', 'a_b', "it's", '\\', 'x'.repeat(40)]
const arbitraryRow: fc.Arbitrary<Row> = fc.record(
  {
    seconds: fc.integer({ min: daySeconds - 90_000, max: daySeconds + 90_000 }),
    // Whole microseconds, which both sinks keep.
    nanos: fc.constantFrom(0, 1_000, 999_999_000),
    level: fc.constantFrom(...levels),
    service: fc.constantFrom('api', 'api-eu', 'API', 'db_1', 'db%'),
    message: fc.array(fc.constantFrom(...words), { minLength: 1, maxLength: 3 }).map(parts => parts.join(' ')),
    metadata: fc.option(
      fc.constantFrom(
        '{"status":500}',
        '{"status":5e2,"user":"bob"}',
        '{"user":["bob","al",7],"http.status":404}',
        '{"http":{"status":404}}',
        '{"user":"bob\\"s"}',
        '{}',
        '{"request_id":"00ff00ff00ff00ff","status":200}',
      ),
    ),
  },
  { noNullPrototype: true },
)
const term = fc.constantFrom(
  'timeout',
  "'Timeout'",
  'k',
  '"i"',
  'é',
  '"100%"',
  '"a_b"',
  '"it\'s"',
  'get',
  '"get /api timeout"',
  '"x a_b x"',
  'service:api',
  'service:api*',
  'service:*%',
  'level>=warn',
  'level:warning',
  'level<info',
  'status:500',
  'status:5e2',
  'user:bob',
  'user:*',
  'user:7',
  'user:"bob\\"s"',
  'http.status>400',
  'http.status:404',
  'request_id:00ff00ff00ff00ff',
  'request_id:00',
  'timestamp<2026-01-15T12:00:00Z',
  'timestamp>=2026-01-15T12:00:00.0000005Z',
  '/time(out)?/',
  'id>20',
  '"\\\\"',
)
const { query } = fc.letrec<{ query: string }>(tie => ({
  query: fc.oneof(
    { depthSize: 'small' },
    term,
    fc.tuple(tie('query'), tie('query')).map(([a, b]) => `(${a} ${b})`),
    fc.tuple(tie('query'), tie('query')).map(([a, b]) => `(${a} OR ${b})`),
    tie('query').map(a => `NOT (${a})`),
  ),
}))

function expectedOf(rows: readonly Row[], ids: readonly bigint[]): StoredEntry[] {
  return rows
    .map((r, i) => ({
      id: ids[i] ?? 0n,
      timestampNs: BigInt(r.seconds) * 1_000_000_000n + BigInt(r.nanos),
      service: r.service,
      level: r.level,
      message: r.message,
      metadata: r.metadata,
      createdUs: receivedUs,
    }))
    .sort((a, b) => (a.timestampNs === b.timestampNs ? Number(a.id - b.id) : a.timestampNs < b.timestampNs ? -1 : 1))
}

async function allPages({ store }: TestStore, plan: SearchPlan): Promise<StoredEntry[]> {
  const found: StoredEntry[] = []
  let after: Place | undefined
  do {
    const page = await store.search({ ...plan, after }, now)
    assert.ok(page.entries.length <= plan.limit)
    found.push(...page.entries)
    after = page.resume
  } while (after)
  return found
}

for (const where of ['columnar', 'columnar, merged', 'both'] as const)
  test(`G34: entries in ${where} are found as the evaluator finds them in plain arrays; paging equals one page; buckets sum`, async t => {
    const s = await openTestStore(t)
    const rows = fc.sample(arbitraryRow, { numRuns: 240, seed: 11 })
    const ids: bigint[] = []
    // Many blocks that overlap in time, and a neighbour who must never be seen.
    for (let at = 0; at < rows.length; at += 40) {
      const kind = where === 'both' && (at / 40) % 2 === 0 ? 'rows' : 'columnar'
      const neighbour = s.pending([row({ message: 'timeout of somebody else' })], { tenant: 'acme' })
      const committed = await s.commit(kind, [s.pending(rows.slice(at, at + 40)), neighbour])
      ids.push(...committed.ids.slice(0, 40))
    }
    if (where === 'columnar, merged') while (await s.store.compact({ coldAfterMs: 0 }));
    const oracle = expectedOf(rows, ids)
    await fc.assert(
      fc.asyncProperty(
        query,
        fc.constantFrom('asc', 'desc'),
        fc.integer({ min: 15, max: 150 }),
        async (text, order, limit) => {
          const parsed = parseQuery(text)
          const matches = compile(parsed)
          const inRange = oracle.filter(
            entry => entry.timestampNs >= everything.fromNs && entry.timestampNs < everything.toNs && matches(entry),
          )
          const expected = order === 'asc' ? inRange : inRange.toReversed()
          const plan = { ...everything, query: parsed, order, limit }
          assert.deepEqual(withoutSpaces(await allPages(s, plan)), expected, text)
          const counted = await s.store.count(
            { ...plan, originNs: everything.fromNs, intervalNs: 7_000_000_000_000n, by: 'service' },
            now,
          )
          const wanted = new Map<number, Map<string, bigint>>()
          for (const entry of inRange) {
            const bucket = Number((entry.timestampNs - everything.fromNs) / 7_000_000_000_000n)
            const values = wanted.get(bucket) ?? new Map<string, bigint>()
            wanted.set(bucket, values.set(entry.service, (values.get(entry.service) ?? 0n) + 1n))
          }
          assert.deepEqual(counted.counts, wanted, text)
        },
      ),
      { numRuns: 20 },
    )
    for (const entry of oracle.slice(0, 8)) {
      assert.deepEqual(withoutSpaces([(await s.store.find('public', entry.id)) ?? entry]), [entry])
      assert.equal(await s.store.find('acme', entry.id), undefined)
    }
    const { after: _, ...range } = everything
    const scanned: StoredEntry[] = []
    for await (const piece of s.store.scan({ ...range, order: 'asc', pieceRows: 37 })) scanned.push(...piece)
    assert.deepEqual(
      scanned.map(entry => entry.id),
      oracle
        .filter(entry => entry.timestampNs >= everything.fromNs && entry.timestampNs < everything.toNs)
        .map(entry => entry.id),
    )
  })

/** jsonb puts spaces, orders keys, and writes 5e2 as 500: the value is what both sinks keep. */
function withoutSpaces(entries: StoredEntry[]): StoredEntry[] {
  const canonical: Record<string, string> = {
    '{"status": 500}': '{"status":500}',
    '{"user": "bob", "status": 500}': '{"status":5e2,"user":"bob"}',
    '{"user": ["bob", "al", 7], "http.status": 404}': '{"user":["bob","al",7],"http.status":404}',
    '{"http": {"status": 404}}': '{"http":{"status":404}}',
    '{"user": "bob\\"s"}': '{"user":"bob\\"s"}',
    '{"status": 200, "request_id": "00ff00ff00ff00ff"}': '{"request_id":"00ff00ff00ff00ff","status":200}',
  }
  return entries.map(entry => ({ ...entry, metadata: canonical[entry.metadata ?? ''] ?? entry.metadata }))
}

test('G15: nanoseconds are kept in blocks, microseconds in rows; G14: digits and key order are kept in blocks', async t => {
  const s = await openTestStore(t)
  const metadata = '{"z":12345678901234567890.1230, "a":[1e400,-0]}'
  const [columnar, rows] = [
    await s.commit('columnar', [s.pending([row({ nanos: 123_456_789, metadata })])]),
    await s.commit('rows', [s.pending([row({ nanos: 123_456_789 })])]),
  ]
  const inBlock = await s.store.find('public', columnar.ids[0] ?? 0n)
  assert.deepEqual([inBlock?.timestampNs, inBlock?.metadata], [dayNs + 123_456_789n, metadata])
  assert.equal((await s.store.find('public', rows.ids[0] ?? 0n))?.timestampNs, dayNs + 123_456_000n)
})

test('what a deletion hides and what has expired is not found, whichever sink holds it', async t => {
  const s = await openTestStore(t)
  for (const kind of ['rows', 'columnar'] as const)
    await s.commit(kind, [
      s.pending([row({ message: 'keep' }), row({ message: 'drop it' }), row({ message: 'debug', level: 'DEBUG' })]),
      s.pending([row({ message: 'drop it later' })], { receivedUs: receivedUs + 10n }),
    ])
  const found = async () => (await s.store.search(everything, now)).entries.map(entry => entry.message).sort()
  const show = s.store.hide({
    id: '1',
    tenant: 'public',
    query: parseQuery('drop'),
    fromNs: everything.fromNs,
    toNs: everything.toNs,
    acceptedBeforeUs: receivedUs + 5n,
  })
  assert.deepEqual(await found(), ['debug', 'debug', 'drop it later', 'drop it later', 'keep', 'keep'])
  s.store.setRetention([
    { tenant: null, service: null, level: null, keepMs: 86_400_000 },
    { tenant: null, service: null, level: 'DEBUG', keepMs: 1_000 },
  ])
  s.setNow(Number(receivedUs / 1_000n) + 2_000)
  assert.deepEqual(await found(), ['drop it later', 'drop it later', 'keep', 'keep'])
  const counted = await s.store.count({ ...everything, originNs: 0n, intervalNs: dayNs * 2n, by: null }, now)
  assert.equal(counted.counts.get(0)?.get(''), 4n)
  show()
  assert.equal((await found()).length, 6)
  s.setNow(Number(receivedUs / 1_000n) + 86_400_001)
  assert.deepEqual(await found(), [])
})

test('a name that no text column takes is quarantined alone, its neighbours are stored in blocks', async t => {
  const s = await openTestStore(t)
  const rows = Array.from({ length: 30 }, (_, i) => row({ service: i === 17 ? 'bad\0name' : 'shop', message: `m${i}` }))
  const records = [s.pending(rows)]
  await assert.rejects(s.commit('columnar', records))
  const outcome = await s.commit('columnar', records, { quarantines: true })
  assert.deepEqual([outcome.stored, outcome.quarantined], [29, 1])
  const page = await s.store.search(everything, now)
  assert.deepEqual(
    page.entries.map(entry => entry.message).toReversed(),
    rows.filter((_, i) => i !== 17).map(r => r.message),
  )
  const [totals] = await s.sql<{ rows: bigint }[]>`select sum(rows)::int8 as rows from purser_logs.totals`
  assert.equal(totals?.rows, 29n)
})
