// The store against a real PostgreSQL and, for what it answers, against the evaluator over plain arrays.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { migrate, type Sql } from '#platform/postgres'
import type { UsageEvent } from '#platform/usage/outbox'
import { testBase } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import { createEvidenceKey } from '../evidence-key.ts'
import { levelIndex, levels } from '../level.ts'
import { compile } from '../query/evaluate.ts'
import { parseQuery } from '../query/parse.ts'
import { noDedupe, RecordBuilder, readRecord } from '../record.ts'
import { type Batch, commitBatch } from './commit.ts'
import { drawIds, loadAccountedRows, loadCommitted, mergeCommitted, storedRange } from './commits.ts'
import { openStore as openEntries } from './open-store.ts'
import { addTenantColumn, attachLogsTable } from './rows/logs-table.ts'
import { dayOf, openPartitions } from './rows/partitions.ts'
import { rowsSink } from './rows/sink.ts'
import type { PendingRecord } from './sink.ts'
import type { Place, SearchPlan, StoredEntry } from './store.ts'
import { defaultTenant } from './tenant.ts'
import { reportHours } from './usage.ts'
import { createVisibility } from './visibility.ts'

const log = (t: TestContext) => testBase(t).log

async function openStore(t: TestContext, indexProfile: 'fast' | 'compat' = 'fast') {
  const { sql } = await testDatabase(t)
  const table = await attachLogsTable(sql, { indexProfile, log: log(t) })
  await migrate(sql, {
    schema: 'purser_logs',
    folder: new URL('../migrations/purser_logs/', import.meta.url),
    log: log(t),
  })
  const visibility = createVisibility(() => 0)
  const entries = openEntries({
    sql,
    writes: sql,
    table,
    visibility,
    evidence: createEvidenceKey(Buffer.alloc(32)),
    now: () => 0,
  })
  const partitions = openPartitions(sql, table)
  const sink = rowsSink({ sql, partitions })
  return { sql, table, entries, partitions, sink, replica: randomUUID(), segment: randomUUID() }
}
type Store = Awaited<ReturnType<typeof openStore>>

interface Row {
  seconds: number
  nanos: number
  level: string
  service: string
  message: string
  metadata: string | null
}

const receivedUs = 1_768_478_400_000_000n

function pending(store: Store, from: number, rows: readonly Row[], tenant = defaultTenant): PendingRecord {
  const builder = new RecordBuilder()
  for (const row of rows)
    builder.row(
      row.seconds,
      row.nanos,
      levelIndex(row.level as (typeof levels)[number]),
      row.service,
      row.message,
      row.metadata,
    )
  const payload = builder.finish({
    rowsBefore: 0n,
    protocol: 'native',
    receivedUs,
    tenant,
    key: '7',
    idempotencyKey: '',
    dedupeHash: noDedupe,
  })
  return { record: readRecord(payload), segment: store.segment, from, to: from + 100 }
}

async function commit(store: Store, records: PendingRecord[], o: { quarantines?: boolean } = {}) {
  const rows = records.reduce((sum, { record }) => sum + record.rows, 0)
  const batch: Batch = {
    replica: store.replica,
    records,
    rows,
    ids: await drawIds(store.sql, store.table.sequence, rows),
    damagedRows: 0,
  }
  const outcome = await commitBatch(store.sql, store.sink, batch, {
    myTurn: async () => {},
    quarantines: o.quarantines ?? false,
  })
  return { ...outcome, ids: batch.ids }
}

const daySeconds = 1_768_478_400
const plain = (o: Partial<Row> = {}): Row => ({
  seconds: daySeconds,
  nanos: 0,
  level: 'INFO',
  service: 'shop',
  message: 'hello',
  metadata: null,
  ...o,
})

for (const profile of ['fast', 'compat'] as const)
  test(`a new logs table has the ${profile} indexes, and the migration may run again`, async t => {
    const { sql, table } = await openStore(t, profile)
    assert.equal(table.kind, 'partitioned')
    const indexes = await sql<
      { name: string }[]
    >`select indexname as name from pg_indexes where schemaname = 'public' and tablename = 'logs' order by 1`
    assert.deepEqual(
      indexes.map(row => row.name),
      profile === 'fast'
        ? ['logs_pkey', 'logs_service_timestamp', 'logs_timestamp_brin']
        : [
            'idx_logs_level',
            'idx_logs_metadata',
            'idx_logs_service',
            'idx_logs_timestamp',
            'idx_logs_timestamp_service',
          ],
    )
    assert.equal((await attachLogsTable(sql, { indexProfile: 'fast', log: log(t) })).kind, 'partitioned')
  })

test('a table of the guide attaches as it is, and ids go on where its sequence stood', async t => {
  const { sql } = await testDatabase(t)
  await sql`create table logs (id bigserial primary key, timestamp timestamptz not null, service text, level text, message text, metadata jsonb, created_at timestamptz default now())`
  await sql`insert into logs (timestamp, service, level, message) values (now(), 's', 'INFO', 'old')`
  const before =
    await sql`select pg_get_tabledef from (select string_agg(attname || format_type(atttypid, atttypmod), ',' order by attnum) as pg_get_tabledef from pg_attribute where attrelid = 'logs'::regclass and attnum > 0) t`
  const table = await attachLogsTable(sql, { indexProfile: 'compat', log: log(t) })
  assert.equal(table.kind, 'plain')
  assert.deepEqual([...(await drawIds(sql, table.sequence, 2))], [2n, 3n])
  assert.deepEqual(
    await sql`select pg_get_tabledef from (select string_agg(attname || format_type(atttypid, atttypmod), ',' order by attnum) as pg_get_tabledef from pg_attribute where attrelid = 'logs'::regclass and attnum > 0) t`,
    before,
  )
})

test('a logs table of another shape is refused with the column that is wrong', async t => {
  const { sql } = await testDatabase(t)
  await sql`create table logs (id bigserial, timestamp timestamp, message text)`
  await assert.rejects(attachLogsTable(sql, { indexProfile: 'fast', log: log(t) }), /public\.logs has .* column/)
})

test('what was committed is read back equal, to the microsecond and the last digit', async t => {
  const store = await openStore(t)
  const metadata = '{"n":12345678901234567890.123,"s":"é\\u2028","a":[1,null,{"b":true}]}'
  await store.partitions.ensure([dayOf(daySeconds)])
  const { ids } = await commit(store, [
    pending(store, 0, [plain({ nanos: 123_456_789, metadata, message: 'tab\tüñí' }), plain({ metadata: '{}' })]),
  ])
  const entry = await store.entries.find(defaultTenant, ids[0] ?? 0n)
  assert.deepEqual(entry, {
    id: ids[0],
    timestampNs: BigInt(daySeconds) * 1_000_000_000n + 123_456_000n,
    service: 'shop',
    level: 'INFO',
    message: 'tab\tüñí',
    metadata: '{"a": [1, null, {"b": true}], "n": 12345678901234567890.123, "s": "é\u2028"}',
    createdUs: receivedUs,
  })
  assert.equal((await store.entries.find(defaultTenant, ids[1] ?? 0n))?.metadata, '{}')
})

test('G2: a second commit of the same range does nothing, whatever became of the first answer', async t => {
  const store = await openStore(t)
  await store.partitions.ensure([dayOf(daySeconds)])
  const records = [pending(store, 0, [plain(), plain()]), pending(store, 100, [plain()])]
  assert.deepEqual(
    { ...(await commit(store, records)), ids: 0 },
    { stored: 3, storedOf: new Map([['public', 3]]), quarantined: 0, duplicates: 0, wasPresent: false, ids: 0 },
  )
  assert.equal((await commit(store, records)).wasPresent, true)
  assert.equal(await rowCount(store.sql), 3n)
  assert.equal(await loadAccountedRows(store.sql, store.replica), 3n)
})

test('G2: two attempts at one range at the same time store it once', async t => {
  const store = await openStore(t)
  await store.partitions.ensure([dayOf(daySeconds)])
  const records = [pending(store, 0, [plain()])]
  const outcomes = await Promise.all([commit(store, records), commit(store, records), commit(store, records)])
  assert.equal(outcomes.filter(outcome => !outcome.wasPresent).length, 1)
  assert.equal(await rowCount(store.sql), 1n)
})

async function rowCount(sql: Sql): Promise<bigint> {
  const [row] = await sql<{ count: bigint }[]>`select count(*) as count from public.logs`
  return row?.count ?? -1n
}

test('G2: stored ranges merge into one per segment and still cover every offset', async t => {
  const store = await openStore(t)
  await store.partitions.ensure([dayOf(daySeconds)])
  for (const from of [0, 100, 200, 400]) await commit(store, [pending(store, from, [plain()])])
  await mergeCommitted(store.sql, store.replica, { segment: store.segment, offset: 500 })
  const ranges = (await loadCommitted(store.sql, store.replica)).get(store.segment)
  assert.deepEqual(ranges, [
    { from: 0, to: 300, rows: 3 },
    { from: 400, to: 500, rows: 1 },
  ])
  assert.equal(storedRange(ranges, 150)?.to, 300)
  assert.equal(storedRange(ranges, 300), undefined)
  assert.equal(storedRange(ranges, 499)?.to, 500)
})

test('an entry the database refuses is quarantined alone, its neighbours are stored, and both are counted', async t => {
  const store = await openStore(t)
  await store.partitions.ensure([dayOf(daySeconds)])
  await store.sql`alter table public.logs add constraint no_poison check (message not like 'poison%')`
  const rows = Array.from({ length: 60 }, (_, i) =>
    plain({ message: i % 17 === 5 ? `poison ${i}` : `m${i}`, metadata: '{"i":1.50}' }),
  )
  const records = [pending(store, 0, rows.slice(0, 30)), pending(store, 100, rows.slice(30), 'acme')]
  await addTenantColumn(store.sql)
  await assert.rejects(commit(store, records), /no_poison/)
  assert.equal(await rowCount(store.sql), 0n)
  const outcome = await commit(store, records, { quarantines: true })
  assert.deepEqual([outcome.stored, outcome.quarantined], [56, 4])
  const quarantine = await store.sql<{ position: string; tenant: string; reason: string; entry: Buffer }[]>`
    select position, tenant, reason, entry from purser_logs.quarantine order by id`
  assert.deepEqual(
    quarantine.map(row => [row.position, row.tenant, row.reason, JSON.parse(row.entry.toString()).message]),
    [
      [`${store.segment}:0:5`, 'public', '23514', 'poison 5'],
      [`${store.segment}:0:22`, 'public', '23514', 'poison 22'],
      [`${store.segment}:100:9`, 'acme', '23514', 'poison 39'],
      [`${store.segment}:100:26`, 'acme', '23514', 'poison 56'],
    ],
  )
  assert.match(quarantine[0]?.entry.toString() ?? '', /"metadata":\{"i":1\.50\}\}$/)
  const [ledger] = await store.sql<{ accepted: bigint; stored: bigint; quarantined: bigint }[]>`
    select sum(accepted)::int8 as accepted, sum(stored)::int8 as stored, sum(quarantined)::int8 as quarantined from purser_logs.ledger`
  assert.deepEqual({ ...ledger }, { accepted: 60n, stored: 56n, quarantined: 4n })
  const [usage] = await store.sql<{ rows: bigint }[]>`select sum(rows)::int8 as rows from purser_logs.usage_hours`
  assert.equal(usage?.rows, 56n)
})

test('partitions are made on demand, old days share one, and a day made by hand is fine', async t => {
  const store = await openStore(t)
  const today = dayOf(Date.now() / 1_000)
  await store.sql`create table by_hand partition of public.logs for values from (${store.sql.unsafe(`'${dateOf(today + 1)} 00:00+00'`)}) to (${store.sql.unsafe(`'${dateOf(today + 3)} 00:00+00'`)})`
  await store.partitions.ensure([today, today + 1, today + 2, today - 400, -400_000, -800_000])
  const names = await store.sql<{ name: string }[]>`
    select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'public.logs'::regclass order by 1`
  assert.deepEqual(
    names.map(row => row.name).filter(name => !name.includes('before')),
    ['by_hand', `logs_p${dateOf(today).replaceAll('-', '')}`],
  )
  await commit(store, [
    pending(store, 0, [plain({ seconds: -62_000_000_000 }), plain({ seconds: 0 }), plain({ seconds: today * 86_400 })]),
  ])
  assert.equal(await rowCount(store.sql), 3n)
})

function dateOf(day: number): string {
  return new Date(day * 86_400_000).toISOString().slice(0, 10)
}

test('a tenant sees its own entries only, whether the column is there or not', async t => {
  const store = await openStore(t)
  await store.partitions.ensure([dayOf(daySeconds)])
  const { ids } = await commit(store, [pending(store, 0, [plain({ message: 'ours' })])])
  const seen = async (tenant: string) => (await search(store, { tenant })).map(entry => entry.message)
  assert.deepEqual(await seen('public'), ['ours'])
  assert.deepEqual(await seen('acme'), [])
  await addTenantColumn(store.sql)
  await addTenantColumn(store.sql)
  const other = await commit(store, [pending(store, 100, [plain({ message: 'theirs' })], 'acme')])
  assert.deepEqual(await seen('public'), ['ours'])
  assert.deepEqual(await seen('acme'), ['theirs'])
  assert.equal(await store.entries.find('acme', ids[0] ?? 0n), undefined)
  assert.equal(await store.entries.find('public', other.ids[0] ?? 0n), undefined)
  assert.equal((await store.entries.find('acme', other.ids[0] ?? 0n))?.message, 'theirs')
})

const dayNs = BigInt(daySeconds) * 1_000_000_000n
const basePlan: SearchPlan = {
  tenant: defaultTenant,
  query: { kind: 'all' },
  fromNs: dayNs - 86_400_000_000_000n,
  toNs: dayNs + 86_400_000_000_000n,
  order: 'desc',
  after: undefined,
  limit: 1_000,
  bytesMax: 8_000_000,
  timeoutMs: 60_000,
  rowsScannedMax: 1_000_000,
}

async function search(store: Store, o: Partial<SearchPlan> = {}): Promise<StoredEntry[]> {
  return (await store.entries.search({ ...basePlan, ...o }, () => performance.now())).entries
}

test('searches answer as the evaluator does over plain arrays; pages add up to the whole; buckets to the count', async t => {
  const store = await openStore(t)
  const words = ['Timeout', 'timeout', 'GET', 'é', 'K', 'İ', '100%', 'a_b', "it's", '\\']
  const row = fc.record(
    {
      seconds: fc.integer({ min: daySeconds - 40_000, max: daySeconds + 40_000 }),
      // Few distinct times, so that ids have to break ties.
      nanos: fc.constantFrom(0, 1_000, 999, 500_000_000),
      level: fc.constantFrom(...levels),
      service: fc.constantFrom('api', 'api-eu', 'API', 'db_1', 'db%'),
      message: fc.array(fc.constantFrom(...words), { minLength: 1, maxLength: 3 }).map(parts => parts.join(' ')),
      metadata: fc.option(
        fc.constantFrom(
          '{"status":500}',
          '{"status":5e2,"user":"bob"}',
          '{"user":["bob","al"],"http.status":404}',
          '{"http":{"status":404}}',
          '{"user":"bob\\"s"}',
        ),
      ),
    },
    { noNullPrototype: true },
  )
  const rows = fc.sample(row, { numRuns: 300, seed: 7 })
  await store.partitions.ensure(rows.map(r => dayOf(r.seconds)))
  const { ids } = await commit(store, [pending(store, 0, rows)])
  const oracle: StoredEntry[] = rows
    .map((r, i) => ({
      ...r,
      id: ids[i] ?? 0n,
      timestampNs: BigInt(r.seconds) * 1_000_000_000n + BigInt(Math.floor(r.nanos / 1_000)) * 1_000n,
      createdUs: receivedUs,
    }))
    .sort((a, b) => (a.timestampNs === b.timestampNs ? Number(a.id - b.id) : a.timestampNs < b.timestampNs ? -1 : 1))

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
    'service:api',
    'service:api*',
    'service:*%',
    'level>=warn',
    'level:warning',
    'level<info',
    'status:500',
    'user:bob',
    'user:*',
    'http.status>400',
    `timestamp<2026-01-15T12:00:00Z`,
    `id>${ids[150]}`,
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
  await fc.assert(
    fc.asyncProperty(
      query,
      fc.constantFrom('asc', 'desc'),
      fc.integer({ min: 1, max: 60 }),
      async (text, order, limit) => {
        const parsed = parseQuery(text)
        const matches = compile(parsed)
        const inRange = oracle.filter(
          entry => entry.timestampNs >= basePlan.fromNs && entry.timestampNs < basePlan.toNs && matches(entry),
        )
        const expected = (order === 'asc' ? inRange : inRange.toReversed()).map(entry => entry.id)

        const found: bigint[] = []
        let after: Place | undefined
        do {
          const page = await store.entries.search({ ...basePlan, query: parsed, order, limit, after }, () =>
            performance.now(),
          )
          assert.ok(page.entries.length <= limit)
          found.push(...page.entries.map(entry => entry.id))
          after = page.resume
        } while (after)
        assert.deepEqual(found, expected, text)

        const counted = await store.entries.count(
          { ...basePlan, query: parsed, originNs: basePlan.fromNs, intervalNs: 3_600_000_000_000n, by: 'level' },
          () => performance.now(),
        )
        const sum = [...counted.counts.values()].flatMap(values => [...values.values()]).reduce((a, b) => a + b, 0n)
        assert.equal(sum, BigInt(expected.length), text)
      },
    ),
    { numRuns: 60 },
  )
})

test('entries that arrive while someone pages neither repeat nor shift a page', async t => {
  const store = await openStore(t)
  await store.partitions.ensure([dayOf(daySeconds)])
  await commit(store, [
    pending(
      store,
      0,
      Array.from({ length: 10 }, (_, i) => plain({ seconds: daySeconds + i, message: `m${i}` })),
    ),
  ])
  const first = await store.entries.search({ ...basePlan, limit: 4 }, () => performance.now())
  await commit(store, [pending(store, 100, [plain({ seconds: daySeconds + 20, message: 'late and new' })])])
  const second = await store.entries.search({ ...basePlan, limit: 100, after: first.resume }, () => performance.now())
  assert.deepEqual(
    [...first.entries, ...second.entries].map(entry => entry.message),
    ['m9', 'm8', 'm7', 'm6', 'm5', 'm4', 'm3', 'm2', 'm1', 'm0'],
  )
})

test('a page that would be too large ends early and says where to go on', async t => {
  const store = await openStore(t)
  await store.partitions.ensure([dayOf(daySeconds)])
  await commit(store, [
    pending(
      store,
      0,
      Array.from({ length: 10 }, (_, i) => plain({ message: `${i}`.repeat(9_000) })),
    ),
  ])
  const page = await store.entries.search({ ...basePlan, bytesMax: 30_000 }, () => performance.now())
  assert.equal(page.entries.length, 3)
  assert.equal(page.isPartial, true)
  assert.equal((await search(store, { after: page.resume })).length, 7)
})

test('a search without time left is partial and goes on from its cursor', async t => {
  const store = await openStore(t)
  await store.partitions.ensure([dayOf(daySeconds)])
  await commit(store, [pending(store, 0, [plain()])])
  let clock = 0
  const page = await store.entries.search({ ...basePlan, timeoutMs: 50 }, () => clock++ * 30)
  assert.equal(page.isPartial, true)
  assert.equal(page.entries.length, 0)
  assert.equal((await search(store, { after: page.resume })).length, 1)
})

test('the sum over all usage events is the sum over all rows, late ones included', async t => {
  const store = await openStore(t)
  await store.partitions.ensure([dayOf(daySeconds)])
  await addTenantColumn(store.sql)
  const reported: UsageEvent[] = []
  const report = async (endedByMs: number) =>
    reportHours(store.sql, {
      replica: store.replica,
      endedByMs,
      report: async (_, events) => void reported.push(...events),
    })
  const hourEndMs = Number(receivedUs / 1_000n) + 3_600_000

  await commit(store, [pending(store, 0, [plain(), plain()]), pending(store, 100, [plain()], 'acme')])
  assert.equal(await report(hourEndMs - 1), 0, 'the hour is not over')
  assert.equal(await report(hourEndMs), 2)
  assert.equal(await report(hourEndMs), 0, 'reported once')
  await commit(store, [pending(store, 200, [plain()])])
  assert.equal(await report(hourEndMs), 1, 'a late row makes another part')
  assert.deepEqual(
    reported.map(({ id, subject, data }) => [id, subject, data]),
    [
      [`acme/2026-01-15T12/${store.replica}`, 'acme', { rows: '1', bytes: '13' }],
      [`public/2026-01-15T12/${store.replica}`, 'public', { rows: '2', bytes: '26' }],
      [`public/2026-01-15T12/${store.replica}/2`, 'public', { rows: '1', bytes: '13' }],
    ],
  )
})
