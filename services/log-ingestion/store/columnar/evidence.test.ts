// What happens to blocks after they were stored, and the evidence that stays.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseQuery } from '../../query/parse.ts'
import { daySeconds, openTestStore, type Row, receivedUs, row, type TestStore } from '../../test/stored.ts'
import type { ErasedChunk, VerifiedDay } from '../store.ts'

const dayNs = BigInt(daySeconds) * 1_000_000_000n
const range = { fromNs: dayNs - 86_400_000_000_000n, toNs: dayNs + 86_400_000_000_000n }

async function messages({ store }: TestStore, tenant = 'public'): Promise<string[]> {
  const found: string[] = []
  for await (const piece of store.scan({ tenant, query: { kind: 'all' }, ...range, order: 'asc' }))
    found.push(...piece.map(entry => entry.message))
  return found
}

async function verified({ store }: TestStore): Promise<VerifiedDay[]> {
  const days: VerifiedDay[] = []
  for await (const day of store.verify({})) days.push(day)
  return days
}

async function broken(s: TestStore): Promise<string | undefined> {
  const found = (await verified(s)).find(day => day.broken)?.broken
  return found ? `${found.at} ${found.problem}` : undefined
}

async function totalRows({ sql }: TestStore): Promise<bigint> {
  const [sum] = await sql<{ rows: bigint }[]>`select coalesce(sum(rows), 0)::int8 as rows from purser_logs.totals`
  return sum?.rows ?? -1n
}

/** Ten commits of six rows, over two days and two tenants. */
async function filled(s: TestStore, kind: 'columnar' | 'chained' = 'columnar'): Promise<void> {
  for (let n = 0; n < 10; n++) {
    const rows = Array.from(
      { length: 6 },
      (_, i): Row =>
        row({
          seconds: daySeconds + (i % 2 === 0 ? 0 : -80_000) + n,
          message: `m${n}.${i}`,
          level: i === 5 ? 'DEBUG' : 'INFO',
          metadata: `{"n":${n},"request_id":"${'0123456789abcdef'.slice(n)}${'0'.repeat(n)}"}`,
        }),
    )
    await s.commit(kind, [s.pending(rows), s.pending(rows.slice(0, 1), { tenant: 'acme' })])
  }
}

test('merging changes no answer: fewer blocks, with blooms, linked to what they replace', async t => {
  const s = await openTestStore(t)
  await filled(s)
  const before = await messages(s)
  assert.equal(before.length, 60)
  assert.equal((await s.store.stats()).find(sink => sink.sink === 'columnar')?.blocks, 30)
  while (await s.store.compact({ coldAfterMs: 0 }));
  const stats = (await s.store.stats()).find(sink => sink.sink === 'columnar')
  assert.equal(stats?.blocks, 3)
  assert.equal(stats?.rows, 70n)
  assert.deepEqual(await messages(s), before)
  const page = await s.store.search(
    {
      tenant: 'public',
      query: parseQuery('n:77'),
      ...range,
      order: 'desc',
      after: undefined,
      limit: 10,
      bytesMax: 1e6,
      timeoutMs: 60_000,
      rowsScannedMax: 1e6,
    },
    () => performance.now(),
  )
  assert.deepEqual(
    [page.entries.length, page.scannedBlocks, page.skippedBlocks],
    [0, 0, 2],
    'blooms rule the blocks out',
  )
  const days = await verified(s)
  assert.deepEqual(
    days.map(({ tenant, blocks, links, rows, broken }) => [tenant, blocks, links, rows, broken]),
    [
      ['public', 1, 11, 30n, null],
      ['acme', 1, 11, 10n, null],
      ['public', 1, 11, 30n, null],
    ],
  )
})

test('a deletion takes exactly its matches, in merged blocks and fresh ones, and leaves what came later', async t => {
  const s = await openTestStore(t)
  await filled(s)
  while (await s.store.compact({ coldAfterMs: 0 }));
  await filled(s)
  await s.commit('columnar', [s.pending([row({ message: 'm3.0 of later' })], { receivedUs: receivedUs + 9n })])
  await s.commit('rows', [s.pending([row({ message: 'm3.0 in rows' })])])
  const chunks: ErasedChunk[] = []
  const erase = () =>
    s.store.erase(
      { tenant: 'public', query: parseQuery('m3 OR (m4 level:debug)'), ...range, acceptedBeforeUs: receivedUs + 5n },
      async (_, chunk) => void chunks.push(chunk),
    )
  await erase()
  const left = await messages(s)
  assert.equal(left.length, 121 - 2 * 7)
  assert.ok(left.every(message => message === 'm3.0 of later' || !/^m3|^m4\.5/.test(message)))
  assert.equal(
    chunks.reduce((sum, chunk) => sum + chunk.rows, 0),
    15,
  )
  assert.equal(await totalRows(s), BigInt(left.length + 20))
  assert.equal((await messages(s, 'acme')).length, 20)
  assert.equal(await broken(s), undefined)
  chunks.length = 0
  await erase()
  assert.equal(chunks.length, 0, 'run again, there is nothing left to do')
})

test('what has expired goes, blocks first, and nothing goes before its time', async t => {
  const s = await openTestStore(t)
  await filled(s)
  const nowMs = daySeconds * 1_000 + 5_000
  const chunks: ErasedChunk[] = []
  const expire = (rules: Parameters<typeof s.store.expire>[0]) =>
    s.store.expire(rules, nowMs, async (_, chunk) => void chunks.push(chunk))
  await expire([{ tenant: null, service: null, level: null, keepMs: 90_000_000 }])
  assert.equal((await messages(s)).length, 60)
  // The older day goes whole, and of the newer one DEBUG entries; the other tenant keeps all.
  await expire([
    { tenant: null, service: null, level: null, keepMs: null },
    { tenant: 'public', service: null, level: null, keepMs: 60_000_000 },
    { tenant: 'public', service: 'shop', level: 'INFO', keepMs: 3_000 },
  ])
  const left = await messages(s)
  assert.deepEqual(
    left.filter(message => /\.[135]$/.test(message)),
    [],
  )
  // INFO rows of seconds 0 and 1 are older than three seconds.
  assert.deepEqual(left.slice(0, 3), ['m2.0', 'm2.2', 'm2.4'])
  assert.equal(left.length, 24)
  assert.equal((await messages(s, 'acme')).length, 10)
  assert.equal(await totalRows(s), 34n)
  assert.equal(
    chunks.reduce((sum, chunk) => sum + chunk.rows, 0),
    36,
  )
  assert.equal(await broken(s), undefined)
})

test('verify names the first thing that is not as it was stored', async t => {
  const s = await openTestStore(t)
  await filled(s)
  while (await s.store.compact({ coldAfterMs: 0 }));
  await s.commit('columnar', [s.pending([row({ message: 'last' })])])
  assert.equal(await broken(s), undefined)
  const undo = async (change: () => Promise<unknown>, pattern: RegExp) => {
    const tables = ['blocks', 'chain', 'chain_heads', 'rewrites']
    for (const name of tables) await s.sql.unsafe(`create table public.kept_${name} as table purser_logs.${name}`)
    await change()
    assert.match((await broken(s)) ?? '', pattern)
    for (const name of tables)
      await s.sql.unsafe(
        `truncate purser_logs.${name}; insert into purser_logs.${name} overriding system value table public.kept_${name}; drop table public.kept_${name}`,
      )
    assert.equal(await broken(s), undefined)
  }
  await undo(() => s.sql`delete from purser_logs.blocks where generation = 0`, /was stored and is gone/)
  await undo(() => s.sql`delete from purser_logs.blocks where generation = 1`, /was stored and is gone/)
  await undo(
    () => s.sql`update purser_logs.blocks set messages = messages || '\\x00'::bytea where generation = 1`,
    /is not what its hash says/,
  )
  await undo(() => s.sql`delete from purser_logs.chain where seq = 3`, /link 3 is missing/)
  await undo(() => s.sql`update purser_logs.chain set sha256 = sha256('x') where seq = 2`, /link 2 does not follow/)
  await undo(
    () => s.sql`update purser_logs.rewrites set after = after || sha256('x')`,
    /has a signature that does not fit/,
  )
  await undo(() => s.sql`delete from purser_logs.rewrites`, /is in no link of the chain|was stored and is gone/)
  await undo(
    () => s.sql`insert into purser_logs.blocks (tenant, day, min_ns, max_ns, min_id, max_id, rows, level_mask, services, head, messages, metadata, raw_bytes, sha256)
                select tenant, day, min_ns, max_ns, min_id, max_id, rows, level_mask, services, head, messages, metadata, raw_bytes, sha256 from purser_logs.blocks`,
    /is in no link of the chain/,
  )
})

test('G47: rows move to blocks day by day, each found exactly once at every step, and a move that was cut goes on', async t => {
  const s = await openTestStore(t)
  const rows = Array.from(
    { length: 40 },
    (_, i): Row =>
      row({
        seconds: daySeconds - (i % 3) * 86_400,
        message: `m${i}`,
        nanos: i * 1_000,
        metadata: i % 2 === 0 ? `{"n": ${i}}` : null,
      }),
  )
  await s.commit('rows', [s.pending(rows), s.pending(rows.slice(0, 5), { tenant: 'acme' })])
  await s.commit('columnar', [s.pending([row({ message: 'in a block already' })])])
  await s.sql`insert into public.logs (timestamp, service, level, message) values (to_timestamp(${daySeconds}), 's', 'info', 'level of another time')`
  const plan = {
    tenant: 'public',
    query: { kind: 'all' },
    fromNs: range.fromNs * 0n,
    toNs: range.toNs,
    order: 'asc',
  } as const
  const all = async () => {
    const found: string[] = []
    for await (const piece of s.store.scan(plan))
      for (const entry of piece)
        found.push(`${entry.timestampNs} ${entry.id} ${entry.message} ${entry.metadata} ${entry.createdUs}`)
    return found
  }
  const before = await all()
  assert.equal(before.length, 42)
  const steps: string[] = []
  for (let moved = await s.store.moveToBlocks(); moved; moved = await s.store.moveToBlocks()) {
    steps.push(`${moved.day} ${moved.rows}`)
    assert.deepEqual(await all(), before)
  }
  assert.deepEqual(steps, ['2026-01-13 14', '2026-01-14 15', '2026-01-15 16'])
  const [left] = await s.sql<{ rows: bigint }[]>`select count(*) as rows from public.logs`
  assert.equal(left?.rows, 1n, 'a level that blocks do not know stays')
  assert.equal((await messages(s, 'acme')).length, 4)
  assert.equal(await broken(s), undefined)
})
