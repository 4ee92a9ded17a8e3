// Entries that cannot be stored: seen, mended, replayed exactly once, discarded, and gone into a file when they are old.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { LedgerAnswer, QuarantineAnswer, QuarantinedEntry } from '../api.ts'
import { writeExport } from '../pipeline/quarantine-file.ts'
import { exportOldest } from '../store/quarantine.ts'
import { adminKey, batch, entry, startService, type TestService, writeKey } from './start.ts'

async function poisoned(s: TestService, ...entries: unknown[]): Promise<void> {
  await s.sql`alter table logs add constraint no_poison check (message not like 'poison%')`
  assert.equal((await s.post('/api/v1/logs/batch', batch(...entries))).status, 202)
  await s.settled()
}

const list = async (s: TestService, query = '', key = adminKey) =>
  (await (await s.get(`/api/v1/quarantine${query}`, { 'x-api-key': key })).json()) as QuarantineAnswer

const act = (s: TestService, id: string, verb: 'replay' | 'discard', body: object = {}, key = adminKey) =>
  s.post(`/api/v1/quarantine/${id}/${verb}`, JSON.stringify(body), {
    'x-api-key': key,
    'content-type': 'application/json',
  })

async function assertEven(s: TestService, wanted: Partial<LedgerAnswer['totals']>): Promise<void> {
  await s.settled()
  const ledger = (await (await s.get('/api/v1/ledger?present=true')).json()) as LedgerAnswer
  for (const [name, count] of Object.entries(wanted))
    assert.equal(ledger.totals[name as keyof LedgerAnswer['totals']], count, name)
  assert.equal(ledger.difference, '0')
}

describe('G12: what the database refuses is kept apart, whole, until somebody decides', () => {
  test('a quarantined entry is shown, mended and replayed once, and the books stay even', async t => {
    const s = await startService(t)
    await poisoned(
      s,
      entry({ message: 'a' }),
      entry({ message: 'poison 1', metadata: { n: 1 } }),
      entry({ message: 'b' }),
    )
    const { entries } = await list(s)
    const [found] = entries
    assert.ok(found)
    assert.deepEqual([entries.length, found.reason, found.status, found.tenant], [1, '23514', 'open', 'public'])
    const shown = found.entry as { message: string; metadata: object }
    assert.deepEqual([shown.message, shown.metadata], ['poison 1', { n: 1 }])

    const bad = await act(s, found.id, 'replay', { entry: { ...shown, level: 'LOUD' } })
    assert.deepEqual(
      [bad.status, ((await bad.json()) as { error: string }).error],
      [400, 'entry: invalid log level: LOUD'],
    )
    const replayed = await act(s, found.id, 'replay', { entry: { ...shown, message: 'mended' } })
    assert.equal(replayed.status, 200)
    const answer = (await replayed.json()) as QuarantinedEntry & { receipt: string }
    assert.deepEqual([answer.status, answer.decision], ['replayed', 'edited'])
    const again = await act(s, found.id, 'replay')
    assert.deepEqual([again.status, ((await again.json()) as { reason: string }).reason], [409, 'QUARANTINE_DECIDED'])
    await assertEven(s, { accepted: '4', stored: '3', quarantined: '1', duplicates: '0' })
    const rows = await s.sql<{ message: string }[]>`select message from logs order by id`
    assert.deepEqual(
      rows.map(({ message }) => message),
      ['a', 'b', 'mended'],
    )
    const receipt = (await (await s.get(`/api/v1/receipts/${answer.receipt}`)).json()) as { state: string }
    assert.equal(receipt.state, 'stored')
  })

  test('an entry is replayed to the last digit when nobody edits it', async t => {
    const s = await startService(t)
    const metadata = '{"big":123456789012345678901234567890.10,"s":"ü\\"","deep":{"a":[1e300]}}'
    const body = `{"logs":[{"timestamp":"${new Date().toISOString()}","service":"shop","level":"warn","message":"poison","metadata":${metadata}}]}`
    await s.sql`alter table logs add constraint no_poison check (message not like 'poison%')`
    await s.post('/api/v1/logs/batch', body)
    await s.settled()
    const [found] = (await list(s)).entries
    await s.sql`alter table logs drop constraint no_poison`
    assert.equal((await act(s, found?.id ?? '', 'replay')).status, 200)
    await s.settled()
    const [row] = await s.sql<{ same: boolean; level: string }[]>`
    select metadata = ${metadata}::text::jsonb as same, level from logs`
    assert.deepEqual({ ...row }, { same: true, level: 'WARN' })
  })

  test('replays that race, or come again after a crash in the middle of one, store the entry once', async t => {
    // Slow commits: there is time for a second replay while the first is still in the journal.
    const s = await startService(t, { env: { LOG_INGESTION_BATCH_FLUSH_INTERVAL: '700ms' } })
    await poisoned(s, entry({ message: 'poison' }))
    await s.sql`alter table logs drop constraint no_poison`
    const [found] = (await list(s)).entries
    const id = found?.id ?? ''
    const answers = await Promise.all(Array.from({ length: 6 }, () => act(s, id, 'replay')))
    assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 409, 409, 409, 409, 409])
    // As if the process had died between the journal and the end of its transaction.
    await s.sql`update purser_logs.quarantine set status = 'open', replayed_as = null`
    assert.equal((await act(s, id, 'replay')).status, 200)
    await assertEven(s, { accepted: '3', stored: '1', quarantined: '1', duplicates: '1' })
  })

  test('discarding needs a reason and is final; other tenants see and touch nothing', async t => {
    const s = await startService(t)
    await poisoned(s, entry({ message: 'poison' }))
    const [found] = (await list(s)).entries
    const id = found?.id ?? ''
    assert.deepEqual((await list(s, '', 'acme-admin-key')).entries, [])
    assert.equal((await act(s, id, 'discard', { reason: 'mine' }, 'acme-admin-key')).status, 404)
    assert.equal((await act(s, id, 'replay', {}, 'acme-admin-key')).status, 404)
    assert.equal((await act(s, id, 'discard', { reason: 'x' }, writeKey)).status, 403)
    assert.equal((await act(s, id, 'discard', {})).status, 400)
    const gone = (await (await act(s, id, 'discard', { reason: 'test data' })).json()) as QuarantinedEntry
    assert.deepEqual([gone.status, gone.decision], ['discarded', 'test data'])
    assert.equal((await act(s, id, 'replay')).status, 409)
    assert.deepEqual((await list(s)).entries, [])
    assert.equal((await list(s, '?status=all')).entries.length, 1)
    await assertEven(s, { accepted: '1', stored: '0', quarantined: '1' })
  })

  test('old entries, and the oldest of too many, leave as whole lines and only after they were written', async t => {
    const s = await startService(t)
    await poisoned(s, ...Array.from({ length: 5 }, (_, i) => entry({ message: `poison ${i}` })))
    await s.sql`update purser_logs.quarantine set received_at = now() - interval '31 days' where id <= 2`
    const bounds = { receivedBeforeMs: Date.now() - 30 * 86_400_000, bytesMax: 1024 ** 3 }
    await assert.rejects(
      exportOldest(s.sql, bounds, async () => {
        throw new Error('disk full')
      }),
      /disk full/,
    )
    assert.equal((await list(s)).entries.length, 5)
    assert.equal(await exportOldest(s.sql, bounds, entries => writeExport(s.dir, entries)), 2)
    const [file = ''] = (await readdir(s.dir)).filter(name => /^quarantine-.*\.ndjson$/.test(name))
    const written = (await readFile(join(s.dir, file), 'utf8')).trimEnd().split('\n')
    assert.deepEqual(
      written.map(line => (JSON.parse(line) as { entry: { message: string } }).entry.message),
      ['poison 0', 'poison 1'],
    )
    assert.equal((await list(s)).entries.length, 3)
    const [size] = await s.sql<
      { bytes: number }[]
    >`select max(octet_length(entry)) as bytes from purser_logs.quarantine`
    const few = { ...bounds, bytesMax: (size?.bytes ?? 0) * 2 }
    assert.equal(await exportOldest(s.sql, few, async () => {}), 1)
    assert.equal((await list(s)).entries.length, 2)
    await assertEven(s, { accepted: '5', quarantined: '5' })
  })

  test('a missing right is waited for, and the GRANT that mends it is named; nothing is quarantined', async t => {
    const { sql, url } = await testDatabase(t)
    const role = `writer_${process.pid}_${randomBytes(3).toString('hex')}`
    await sql.unsafe(`create role ${role} login`)
    t.after(async () => {
      await sql.unsafe(`reassign owned by ${role} to current_user; drop owned by ${role}; drop role ${role}`)
    })
    await sql.unsafe(`grant usage, create on schema public to ${role}`)
    const [database] = await sql<{ name: string }[]>`select quote_ident(current_database()) as name`
    await sql.unsafe(`grant create on database ${database?.name} to ${role}`)
    const s = await startService(t, { databaseUrl: url.replace(/(user=|\/\/)[a-z]+(?=[@&]|$)/, `$1${role}`) })
    await s.post('/api/v1/logs', JSON.stringify({ log: entry({ message: 'before' }) }))
    await s.settled()
    await sql.unsafe(`revoke insert on public.logs from ${role}`)
    await s.post('/api/v1/logs', JSON.stringify({ log: entry({ message: 'patient' }) }))
    const detail = await pollUntil(
      async () =>
        ((await (await fetch(`${s.url}/health`)).json()) as { checks?: { database?: { detail: string } } }).checks
          ?.database?.detail,
      { what: 'health to name the right' },
    )
    const grant = /run: (GRANT [^;]* ON public\.logs TO [^;]*);/.exec(detail)?.[1]
    assert.ok(grant, detail)
    await sql.unsafe(grant)
    await assertEven(s, { accepted: '2', stored: '2', quarantined: '0' })
  })

  test('a database without room, or one that goes away, quarantines nothing', async t => {
    const s = await startService(t)
    // A partition attached while the table has a trigger takes a copy of it along, which no drop of the table's finds.
    await pollUntil(
      async () => {
        const [day] = await s.sql`
          select to_regclass('logs_p' || to_char(now() at time zone 'UTC' + interval '2 days', 'YYYYMMDD')) as last`
        return day?.last
      },
      { what: 'the partitions ahead', everyMs: 20 },
    )
    for (const [state, what] of [
      ['53100', 'could not extend file: No space left on device'],
      ['53200', 'out of memory'],
      ['53300', 'too many connections'],
      ['57P01', 'terminating connection'],
      ['58030', 'could not read block'],
      ['40P01', 'deadlock detected'],
      ['57014', 'canceling statement due to statement timeout'],
    ]) {
      await s.sql.unsafe(`create or replace function refuse() returns trigger language plpgsql as
        $$ begin raise exception using errcode = '${state}', message = '${what}'; end $$`)
      await s.sql`create trigger refuse before insert on logs for each row execute function refuse()`
      await s.post('/api/v1/logs', JSON.stringify({ log: entry({ message: what ?? '' }) }))
      await pollUntil(async () => (await (await fetch(`${s.url}/health`)).text()).includes(what ?? ''), {
        what: `health to say ${what}`,
        everyMs: 5,
      })
      await s.sql`drop trigger refuse on logs`
      await s.settled()
    }
    await assertEven(s, { accepted: '7', stored: '7', quarantined: '0' })
  })

  for (const sink of ['rows', 'columnar'] as const)
    test(`${sink}: neighbours are stored in the transaction that sets the bad entries aside, each of them alone`, async t => {
      const s = await startService(t, { env: { LOG_INGESTION_STORAGE: sink } })
      await s.settled()
      const table = sink === 'rows' ? 'public.logs' : 'purser_logs.blocks'
      const condition = sink === 'rows' ? `service <> 'poison'` : `not services @> array['poison']`
      await s.sql.unsafe(`alter table ${table} add constraint no_poison check (${condition})`)
      await s.sql`create table seen (what text, xid text)`
      await s.sql`create function note() returns trigger language plpgsql as
        $$ begin insert into public.seen values (tg_table_name, txid_current()::text); return null; end $$`
      for (const each of [table, 'purser_logs.quarantine'])
        await s.sql.unsafe(`create trigger note after insert on ${each} for each statement execute function note()`)
      const many = Array.from({ length: 60 }, (_, i) =>
        entry({ message: `m${i}`, service: [0, 7, 8, 59].includes(i) ? 'poison' : 'shop' }),
      )
      await s.post('/api/v1/logs/batch', batch(...many))
      await assertEven(s, { accepted: '60', stored: '56', quarantined: '4' })
      const { entries } = await list(s)
      assert.deepEqual(
        entries.map(({ entry: kept }) => (kept as { message: string }).message),
        ['m59', 'm8', 'm7', 'm0'],
      )
      const seen = await s.sql<{ what: string }[]>`select xid, array_agg(distinct what) as what from seen group by xid`
      assert.equal(seen.length, 1, 'one transaction')
    })
})
