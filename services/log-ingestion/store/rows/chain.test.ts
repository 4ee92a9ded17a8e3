import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseQuery } from '../../query/parse.ts'
import { daySeconds, openTestStore, type Row, row, type TestStore } from '../../test/stored.ts'
import type { VerifiedDay } from '../store.ts'

const dayNs = BigInt(daySeconds) * 1_000_000_000n

async function verified({ store }: TestStore): Promise<VerifiedDay[]> {
  const days: VerifiedDay[] = []
  for await (const day of store.verify({})) days.push(day)
  return days
}

async function broken(s: TestStore): Promise<string | undefined> {
  const found = (await verified(s)).find(day => day.broken)?.broken
  return found ? `${found.at} ${found.problem}` : undefined
}

/** Four commits over two days and two tenants, with texts that a careless canonical form would take for others. */
async function filled(s: TestStore): Promise<void> {
  const texts = ['a', '1:a|', 'é\u{1f600}', '']
  for (let n = 0; n < 4; n++) {
    const rows = texts.map(
      (text, i): Row =>
        row({
          seconds: daySeconds + (i % 2 === 0 ? 10 : -50_000),
          nanos: 123_456_789,
          message: `${text}${n}`,
          metadata: i === 3 ? null : `{ "b": 1.50, "a": "${text.replaceAll('"', '')}", "n": ${n} }`,
        }),
    )
    await s.commit('chained', [s.pending(rows), s.pending(rows.slice(0, 1), { tenant: 'acme' })])
  }
}

const erase = (s: TestStore, q: string) =>
  s.store.erase(
    {
      tenant: 'public',
      query: parseQuery(q),
      fromNs: dayNs - 86_400_000_000_000n,
      toNs: dayNs + 86_400_000_000_000n,
      acceptedBeforeUs: 2n ** 62n,
    },
    async () => {},
  )

test('with CHAIN each commit leaves a link per tenant and day; a changed, lost or slipped-in entry breaks its link by name', async t => {
  const s = await openTestStore(t)
  await s.commit('rows', [s.pending([row({ message: 'before CHAIN was on' })])])
  await filled(s)
  assert.deepEqual(
    (await verified(s)).map(({ tenant, day, links, rows, broken: problem }) => [tenant, day, links, rows, problem]),
    [
      ['public', '2026-01-14', 4, 8n, null],
      ['acme', '2026-01-15', 4, 4n, null],
      ['public', '2026-01-15', 4, 8n, null],
    ],
  )
  const undo = async (change: () => Promise<unknown>, pattern: RegExp) => {
    const tables = ['public.logs', 'purser_logs.chain', 'purser_logs.chain_heads', 'purser_logs.row_links']
    for (const [i, name] of tables.entries()) await s.sql.unsafe(`create table kept_${i} as table ${name}`)
    await change()
    assert.match((await broken(s)) ?? 'nothing is broken', pattern)
    for (const [i, name] of tables.entries())
      await s.sql.unsafe(`truncate ${name}; insert into ${name} select * from kept_${i}; drop table kept_${i}`)
    assert.equal(await broken(s), undefined)
  }
  const second = s.sql`(select id from public.logs where message = 'a1' and tenant is null)`
  const spoken = /^link 2 speaks of entries that are not what was stored$/
  await undo(() => s.sql`update public.logs set message = 'a2' where id in ${second}`, spoken)
  await undo(() => s.sql`update public.logs set metadata = metadata || '{"n": 7}' where id in ${second}`, spoken)
  await undo(() => s.sql`update public.logs set tenant = 'acme' where id in ${second}`, /^link 2 speaks of /)
  await undo(
    () => s.sql`delete from public.logs where id in ${second}`,
    /^link 2 speaks of 2 entries, and 1 are there$/,
  )
  await undo(
    () => s.sql`insert into public.logs (id, timestamp, service, level, message, created_at)
                select id, timestamp + interval '1 microsecond', service, level, message, created_at from public.logs where id in ${second}`,
    spoken,
  )
  await undo(() => s.sql`delete from purser_logs.row_links where seq = 3`, /was stored and is gone/)
  await undo(
    () => s.sql`update purser_logs.row_links set sha256 = sha256('x') where seq = 3`,
    /^link 3 speaks of entries that are not/,
  )
  await undo(() => s.sql`delete from purser_logs.chain where seq = 2`, /^link 2 is missing$/)
})

test('what is deleted, expires or moves into blocks leaves by a signed rewrite, and the rest still verifies', async t => {
  const s = await openTestStore(t)
  await filled(s)
  const rewrites = async () =>
    (
      await s.sql<{ text: string }[]>`
        select reason || ' ' || cardinality(before) || ' ' || cardinality(after) as text from purser_logs.rewrites order by id`
    ).map(({ text }) => text)
  await erase(s, 'n:1 OR n:2')
  assert.equal(await broken(s), undefined)
  await erase(s, "'a0'")
  assert.equal(await broken(s), undefined)
  assert.equal((await rewrites()).length, 3)
  // The older day goes by rule, one by one at first, then whole.
  const rule = { tenant: 'public', service: null, level: null, keepMs: 86_400_000 }
  const nowMs = (daySeconds + 64_800) * 1_000
  await s.store.expire(
    [
      { ...rule, level: 'DEBUG' },
      { ...rule, tenant: null, keepMs: null },
    ],
    nowMs,
    async () => {},
  )
  await s.store.expire(
    [
      { ...rule, service: 'other' },
      { ...rule, tenant: null },
    ],
    nowMs,
    async () => {},
  )
  assert.equal(await broken(s), undefined)
  assert.deepEqual((await rewrites()).slice(3), ['retention 4 0'])
  while (await s.store.moveToBlocks());
  assert.equal(await broken(s), undefined)
  assert.ok((await rewrites()).some(text => text.startsWith('move')))
  const [left] = await s.sql<{ links: bigint; rows: bigint }[]>`
    select (select count(*) from purser_logs.row_links) as links, (select sum(rows)::int8 from purser_logs.blocks) as rows`
  assert.equal(left?.links, 0n)
  assert.ok((left?.rows ?? 0n) > 0n)

  await s.sql`update purser_logs.rewrites set reason = 'retention' where reason = 'deletion'`
  assert.match((await broken(s)) ?? '', /^rewrite \d+ has a signature that does not fit$/)
})
