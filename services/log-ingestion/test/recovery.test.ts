// What a journal survives: bytes that rot, a database that comes back older, an owner that never comes back.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { appendFile, cp, mkdtemp, open, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { createLog } from '#platform/telemetry'
import { loadSecret } from '#platform/tenancy/secret'
import { mintToken } from '#platform/tenancy/token'
import { systemClock } from '#platform/time'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { LedgerAnswer, ReceiptAnswer } from '../api.ts'
import { drainJournal } from '../pipeline/drain.ts'
import { startProcess } from './process.ts'
import { batch, entry, startService, type TestService } from './start.ts'
import { tcpProxy } from './tcp-proxy.ts'

const log = createLog({ service: 'test', level: 'silent', format: 'json' })

/** A writer that a stop leaves behind would go on in this process, and store what a test is about to damage. */
const stopsWhole = { LOG_INGESTION_SHUTDOWN_TIMEOUT: '1m' }

/** Sends `count` requests of three rows each; answers their receipts. */
async function sendThrees(s: TestService, count: number, name: string): Promise<string[]> {
  const receipts: string[] = []
  for (let i = 0; i < count; i++) {
    const entries = [0, 1, 2].map(row => entry({ message: `${name} ${i}.${row}` }))
    const response = await s.post('/api/v1/logs/batch', batch(...entries))
    assert.equal(response.status, 202)
    receipts.push(response.headers.get('x-receipt') ?? '')
  }
  return receipts
}

async function flipByte(path: string, at: number): Promise<void> {
  const file = await open(path, 'r+')
  try {
    const byte = Buffer.alloc(1)
    await file.read(byte, 0, 1, at)
    byte[0] = (byte[0] ?? 0) ^ 0xff
    await file.write(byte, 0, 1, at)
  } finally {
    await file.close()
  }
}

describe('G4: a torn tail is cut, damaged records are set aside and counted, later ones recovered, and no start fails', () => {
  test('a damaged record is set aside, the later ones are recovered, and its rows are counted exactly', async t => {
    const database = await testDatabase(t)
    const proxy = await tcpProxy(t, database.url)
    const s = await startService(t, { databaseUrl: proxy.url, env: stopsWhole })
    await sendThrees(s, 2, 'stored')
    await s.settled()
    proxy.down()
    const receipts = await sendThrees(s, 6, 'pending')
    await s.stop()
    // The third of the six: its place is in its receipt.
    const bytes = Buffer.from((receipts[2] ?? '').slice(4), 'base64url')
    const [name = ''] = (await readdir(join(s.dir, 'journal')))
      .filter(file => file.endsWith('.journal'))
      .sort()
      .slice(-1)
    await flipByte(join(s.dir, 'journal', name), bytes.readUIntLE(17, 6) + 100)
    proxy.up()
    await s.restart()
    await s.settled()
    const rows = await database.sql<{ message: string }[]>`select message from logs where message like 'pending%'`
    assert.deepEqual(
      rows.map(({ message }) => message.replace(/\..*/, '')).sort(),
      [0, 1, 3, 4, 5].flatMap(i => Array.from({ length: 3 }, () => `pending ${i}`)),
    )
    assert.ok((await readdir(join(s.dir, 'journal', 'damaged'))).length > 0, 'a person can still look at the bytes')
    const [ledger] = await database.sql<{ damaged: bigint; accepted: bigint; stored: bigint }[]>`
    select sum(damaged)::int8 as damaged, sum(accepted)::int8 as accepted, sum(stored)::int8 as stored
    from purser_logs.ledger`
    assert.deepEqual({ ...ledger }, { damaged: 3n, accepted: 24n, stored: 21n })
    const fate = (await (await s.get(`/api/v1/receipts/${receipts[2]}`)).json()) as ReceiptAnswer
    assert.deepEqual([fate.state, fate.stored, fate.pending], ['damaged', 0, 0])
    const after = (await (await s.get(`/api/v1/receipts/${receipts[3]}`)).json()) as ReceiptAnswer
    assert.equal(after.state, 'stored')
    // Totals go on from there: nothing else is taken for damage.
    await sendThrees(s, 1, 'after')
    await s.settled()
    const metrics = await (await fetch(`${s.url}/metrics`)).text()
    assert.equal(/^log_ingestion_ledger_imbalance_rows (\S+)/m.exec(metrics)?.[1], '0')
  })

  test('a torn tail is cut and said so; nothing that was acknowledged is lost', async t => {
    const s = await startService(t)
    await sendThrees(s, 2, 'before')
    await s.settled()
    await s.stop()
    // The beginning of one more record, as a write that a power cut ended.
    await appendFile(join(s.dir, 'journal', (await segmentsOf(s)).at(-1) ?? ''), Buffer.alloc(77, 1))
    const lines: string[] = []
    await s.restart({}, lines)
    await sendThrees(s, 1, 'after')
    await s.settled()
    assert.equal(await countOf(s), 9n)
    assert.ok(lines.some(line => line.includes('a torn tail was cut')))
    await balanced(s)
  })

  test('a start never fails for what is in the journal: what is intact is stored, and the books balance', async t => {
    const database = await testDatabase(t)
    const proxy = await tcpProxy(t, database.url)
    const s = await startService(t, { databaseUrl: proxy.url, env: stopsWhole })
    const random = seeded(7)
    const ruins: [string, (path: string) => Promise<unknown>][] = [
      [
        'bytes changed here and there',
        async path => {
          const { size } = await stat(path)
          for (let n = 0; n < 5; n++) await flipByte(path, Math.floor(random() * Math.min(size, 4_000)))
        },
      ],
      ['the head of the file overwritten', async path => overwrite(path, 0, randomBytes(200))],
      ['cut in the middle', path => truncate(path, 700)],
      ['empty', path => truncate(path, 0)],
      ['other bytes altogether', path => writeFile(path, randomBytes(5_000))],
      ['zeros', path => writeFile(path, Buffer.alloc(3_000))],
      ['gone', path => rm(path)],
    ]
    let sent = 0
    for (const [what, ruin] of ruins) {
      proxy.down()
      await sendThrees(s, 4, what)
      sent += 12
      await s.stop()
      await ruin(join(s.dir, 'journal', (await segmentsOf(s)).at(-1) ?? ''))
      await writeFile(join(s.dir, 'journal', 'notes.txt'), 'somebody else’s file')
      await writeFile(join(s.dir, 'accepted.json'), what)
      proxy.up()
      await s.restart()
      await sendThrees(s, 1, `after ${what}`)
      sent += 3
      await s.settled()
      const rows = await database.sql<{ message: string }[]>`select message from logs`
      const texts = rows.map(({ message }) => message)
      assert.equal(new Set(texts).size, texts.length, `${what}: nothing twice`)
      assert.ok(texts.includes(`after ${what} 0.2`), what)
      assert.ok(texts.length <= sent)
      await balanced(s)
    }
  })
})

async function balanced(s: TestService): Promise<void> {
  const metrics = await (await fetch(`${s.url}/metrics`)).text()
  assert.equal(/^log_ingestion_ledger_imbalance_rows (\S+)/m.exec(metrics)?.[1], '0')
}

async function segmentsOf(s: TestService): Promise<string[]> {
  return (await readdir(join(s.dir, 'journal'))).filter(file => file.endsWith('.journal')).sort()
}

async function overwrite(path: string, at: number, bytes: Buffer): Promise<void> {
  const file = await open(path, 'r+')
  try {
    await file.write(bytes, 0, bytes.length, at)
  } finally {
    await file.close()
  }
}

function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return state / 2 ** 32
  }
}

describe('G33: one owner per journal; what it holds is stored once, whoever stores it and whatever was restored', () => {
  test('a database restored from an older backup gets back what the journal still keeps, once', async t => {
    const s = await startService(t)
    await sendThrees(s, 3, 'before the backup')
    await s.settled()
    // The backup: copies of every table that a commit touches.
    const tables = [
      'public.logs',
      'purser_logs.commits',
      'purser_logs.ledger',
      'purser_logs.totals',
      'purser_logs.usage_hours',
    ]
    for (const [i, table] of tables.entries()) await s.sql.unsafe(`create table backup_${i} as select * from ${table}`)
    await sendThrees(s, 4, 'after the backup')
    await s.settled()
    await s.stop()
    for (const [i, table] of tables.entries())
      await s.sql.unsafe(`delete from ${table}; insert into ${table} select * from backup_${i}`)
    await s.restart()
    await pollUntil(async () => (await countOf(s)) === 21n, { what: 'the missing ranges to be stored again' })
    await s.settled()
    const ledger = (await (await s.get('/api/v1/ledger?present=true')).json()) as LedgerAnswer
    assert.deepEqual(
      [ledger.totals.accepted, ledger.totals.stored, ledger.totals.present, ledger.difference],
      ['21', '21', '21', '0'],
    )
    const twice = await s.sql`select message from logs group by 1 having count(*) > 1`
    assert.equal(twice.length, 0)
  })

  test('a second process on the same folder is refused, and names the first', async t => {
    const s = await startService(t)
    await sendThrees(s, 1, 'before')
    const second = startProcess(t, {
      env: {
        LOG_INGESTION_SERVER_HOST: '127.0.0.1',
        LOG_INGESTION_SERVER_PORT: '0',
        LOG_INGESTION_DATA_DIR: s.dir,
        LOG_INGESTION_DATABASE_URL: 'postgres://nobody@127.0.0.1:9/none',
      },
    })
    assert.equal(await second.exited, 1)
    const said = second.lines.map(line => JSON.stringify(line)).join()
    assert.match(said, new RegExp(`has a writer already.*pid ${process.pid}`))
    await sendThrees(s, 1, 'after')
    await s.settled()
    assert.equal(await countOf(s), 6n)
  })

  for (const [when, isSettled] of [
    ['taken at rest', true],
    ['taken under load', false],
  ] as const)
    test(`a folder restored from a snapshot ${when} neither loses nor repeats entries, and the counts agree`, async t => {
      const database = await testDatabase(t)
      const proxy = await tcpProxy(t, database.url)
      const s = await startService(t, { databaseUrl: proxy.url })
      await sendThrees(s, 2, 'stored')
      await s.settled()
      if (!isSettled) proxy.down()
      await sendThrees(s, 3, 'in the snapshot')
      if (isSettled) await s.settled()
      const snapshot = await mkdtemp(join(tmpdir(), 'purser-snapshot-'))
      t.after(() => rm(snapshot, { recursive: true, force: true }))
      // As the device had it, without a stop: ranges may cross its end.
      // Files that are about to be renamed may be gone before they are copied; a device keeps them, and nobody reads them.
      await cp(s.dir, snapshot, { recursive: true, filter: path => !/accepted\.json\../.test(path) })
      await sendThrees(s, 4, 'after the snapshot')
      proxy.up()
      await s.settled()
      await s.restart()
      await sendThrees(s, 2, 'in the next life')
      await s.settled()
      await s.stop()
      await rm(s.dir, { recursive: true })
      await cp(snapshot, s.dir, { recursive: true })
      for (const name of ['restored', 'and again', 'and once more']) {
        await s.restart()
        await sendThrees(s, 2, name)
        await s.settled()
        const twice = await database.sql`select message from logs group by 1 having count(*) > 1`
        assert.equal(twice.length, 0)
        const ledger = (await (await s.get('/api/v1/ledger?present=true', await operator(s))).json()) as LedgerAnswer
        assert.deepEqual([ledger.totals.present, ledger.difference], [String(await countOf(database)), '0'], name)
      }
      assert.equal(await countOf(database), 51n)
    })

  test('journal drain stores what a lost replica left, once, however often it runs; a running one is refused', async t => {
    const database = await testDatabase(t)
    const s = await startService(t, { databaseUrl: database.url })
    await sendThrees(s, 2, 'stored')
    await s.settled()
    // Nothing goes in until a right is there that nobody grants in time.
    await database.sql`create function refuse() returns trigger language plpgsql as $$ begin raise insufficient_privilege; end $$`
    await database.sql`create trigger refuse before insert on logs for each row execute function refuse()`
    await sendThrees(s, 5, 'left')
    const o = { databaseUrl: database.url, dedupeWindowMs: 60_000, patienceMs: 20_000, clock: systemClock, log }
    await assert.rejects(drainJournal({ ...o, dir: s.dir }), /already running|has a writer already/)
    await s.stop()
    await database.sql`drop trigger refuse on logs`
    // Carried to another machine, twice.
    const carried = await mkdtemp(join(tmpdir(), 'purser-drain-'))
    t.after(() => rm(carried, { recursive: true, force: true }))
    for (const copy of ['one', 'two']) await cp(s.dir, join(carried, copy), { recursive: true })
    const first = await drainJournal({ ...o, dir: join(carried, 'one') })
    assert.deepEqual([first.stored, first.problem, first.bytesLeft], [15, undefined, 0])
    for (const dir of [join(carried, 'one'), join(carried, 'two'), s.dir])
      assert.equal((await drainJournal({ ...o, dir })).stored, 0)
    const [count] = await database.sql<{ count: bigint; distinct: bigint }[]>`
    select count(*) as count, count(distinct message) as distinct from logs`
    assert.deepEqual({ ...count }, { count: 21n, distinct: 21n })
    await assert.rejects(drainJournal({ ...o, dir: carried }), /is not the data directory of a replica/)
  })
})

/** Who sees all tenants, and the comparison with the journal. */
async function operator(s: TestService): Promise<Record<string, string>> {
  const token = mintToken(await loadSecret({ dataDir: s.dir }), {
    audience: 'log-ingestion',
    role: 'operator',
    subject: 'test',
    clock: systemClock,
  })
  return { authorization: `Bearer ${token}`, 'x-api-key': '' }
}

async function countOf(s: Pick<TestService, 'sql'>): Promise<bigint> {
  const [row] = await s.sql<{ count: bigint }[]>`select count(*) as count from logs`
  return row?.count ?? 0n
}
