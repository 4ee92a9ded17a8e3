// The books: what was accepted, what became of it, and what is really there.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { hash } from 'node:crypto'
import { open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { testBase } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { LedgerAnswer, LedgerCounts } from '../api.ts'
import { shiftedClock } from './shifted-clock.ts'
import { batch, entry, startService, type TestService } from './start.ts'
import { tcpProxy } from './tcp-proxy.ts'

const secret = 'a secret that the command line knows too'

interface Told {
  code: number | null
  out: string
  answer: LedgerAnswer
}

/** `purser logs doctor reconcile`, as a person runs it. */
async function doctor(s: TestService, ...args: string[]): Promise<Told> {
  const run = async (...more: string[]) => {
    const purser = fileURLToPath(new URL('../../../bin/purser', import.meta.url))
    const child = spawn(purser, ['logs', 'doctor', 'reconcile', ...args, ...more], {
      env: {
        PATH: process.env.PATH,
        NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
        PURSER_LOGS_URL: s.url,
        PURSER_SECRET: secret,
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let out = ''
    child.stdout.setEncoding('utf8').on('data', text => {
      out += text
    })
    const code = await new Promise<number | null>(resolve => child.once('close', resolve))
    return { code, out }
  }
  const [people, json] = await Promise.all([run(), run('--json')])
  assert.equal(people.code, json.code)
  return { ...people, answer: JSON.parse(json.out) as LedgerAnswer }
}

const poison = { rows: 'public.logs', columnar: 'purser_logs.blocks' } as const
const check = {
  rows: `check (service <> 'poison')`,
  columnar: `check (not services @> array['poison'])`,
} as const

async function startBooks(t: TestContext, sink: keyof typeof poison) {
  const database = await testDatabase(t)
  const proxy = await tcpProxy(t, database.url)
  const clock = shiftedClock()
  // The command line has no other clock than the machine's: tests begin in the past and end now.
  clock.advance(-3_600_000 - 10_000)
  const s = await startService(t, {
    databaseUrl: proxy.url,
    base: testBase(t, { clock }),
    env: {
      LOG_INGESTION_STORAGE: sink,
      PURSER_SECRET: secret,
      LOG_INGESTION_DEDUPE_WINDOW: '0s',
      // A writer that a stop leaves behind would go on in this process, and store what is about to be damaged.
      LOG_INGESTION_SHUTDOWN_TIMEOUT: '1m',
    },
  })
  await s.settled()
  await database.sql.unsafe(`alter table ${poison[sink]} add constraint no_poison ${check[sink]}`)
  const send = async (count: number, o: { key?: string; service?: string; mark?: string; message?: string } = {}) => {
    const timestamp = new Date(clock.now()).toISOString()
    const sent = Array.from({ length: count }, (_, i) =>
      entry({ timestamp, service: o.service ?? 'shop', message: `${o.message ?? 'entry'} ${i}` }),
    )
    const body = batch(...sent)
    const response = await s.post('/api/v1/logs/batch', body, {
      ...(o.key ? { 'x-api-key': o.key } : {}),
      ...(o.mark ? { 'idempotency-key': o.mark } : {}),
    })
    assert.equal(response.status, 202)
    return { response, body }
  }
  return { s, sql: database.sql, proxy, clock, send }
}

const number = (text: string | undefined) => Number(text)

function assertBalanced(counts: LedgerCounts, what: string): void {
  const { accepted, stored, quarantined, duplicates, pending, damaged } = counts
  assert.equal(
    number(accepted),
    [stored, quarantined, duplicates, pending, damaged].reduce((sum, count) => sum + number(count), 0),
    what,
  )
}

describe('G11: nothing is lost between the journal, the commits and the tables without being seen', () => {
  for (const sink of ['rows', 'columnar'] as const)
    test(`${sink}: stored, quarantined, duplicates, pending, damaged, deleted and expired add up, per replica, key and hour`, async t => {
      const { s, sql, proxy, clock, send } = await startBooks(t, sink)
      await send(20)
      await send(3, { key: 'acme-write-key' })
      await send(2, { service: 'poison' })
      await s.settled()
      // A key under which another replica stores the same while this one cannot know.
      proxy.down()
      const { body: twice } = await send(4, { mark: 'k' })
      const sha256 = hash('sha256', twice, 'buffer').subarray(0, 16)
      await sql`
        insert into purser_logs.idempotency (tenant, key_id, idem_key, body_sha256, receipt, created_at)
        select tenant, key_id, 'k', ${sha256}, gen_random_uuid() || ':0:100:4:0', now()
        from purser_logs.ledger where tenant = 'public' limit 1`
      proxy.up()
      await s.settled()
      clock.advance(3_600_000)
      await send(5, { message: 'next hour' })
      await s.settled()

      // Deleted, and expired.
      const filter = JSON.stringify({ q: '"next hour 3"', from: '-2h', to: 'now', reason: 'a test' })
      const headers = { 'x-api-key': 'test-admin-key', 'content-type': 'application/json' }
      assert.equal((await s.post('/api/v1/logs/delete', filter, headers)).status, 202)
      clock.advance(10_000)
      await pollUntil(async () => (await counted(sql, 'deleted')) === 1, { what: 'the deletion', timeoutMs: 60_000 })
      const keep = JSON.stringify({ keep: '1m' })
      assert.equal((await s.post('/api/v1/retention', keep, { ...headers, 'x-api-key': 'acme-admin-key' })).status, 201)
      await pollUntil(async () => (await counted(sql, 'expired')) === 3, { what: 'the expiry', timeoutMs: 60_000 })

      // Damage: a byte of a record that was not stored yet.
      proxy.down()
      const { response: lost } = await send(6, { message: 'damaged' })
      await send(1, { message: 'behind it' })
      await s.stop()
      await flipIn(s.dir, lost)
      proxy.up()
      await s.restart()
      await s.settled()

      for (const since of ['1h', '24h']) {
        const { code, answer, out } = await doctor(s, '--since', since)
        assert.equal(answer.difference, '0', out)
        assert.equal(code, 0)
        assertBalanced(answer.totals, 'totals')
        for (const row of answer.rows) assertBalanced(row, `${row.key} ${row.hour}`)
      }
      const { answer } = await doctor(s)
      const { totals } = answer
      assert.deepEqual(
        [totals.quarantined, totals.duplicates, totals.damaged, totals.deleted, totals.expired, totals.pending],
        ['2', '4', '6', '1', '3', '0'],
      )
      assert.equal(number(totals.stored), number(totals.present) + 1 + 3)
      const hours = new Set(answer.rows.filter(row => number(row.accepted) > 0).map(row => row.hour))
      assert.ok(hours.size >= 2, 'hours of acceptance')
      assert.ok(new Set(answer.rows.map(row => row.tenant)).has('acme'))
    })

  test('what is acknowledged and not stored yet is pending, by key and hour; the equation holds meanwhile', async t => {
    const { s, sql, clock, send } = await startBooks(t, 'rows')
    clock.advance(3_600_000 + 10_000)
    await send(3)
    await s.settled()
    await sql`create function refuse() returns trigger language plpgsql as $$ begin raise insufficient_privilege; end $$`
    await sql`create trigger refuse before insert on logs for each row execute function refuse()`
    await send(4)
    await send(2, { key: 'acme-write-key' })
    const { code, answer, out } = await doctor(s, '--since', '1h')
    assert.deepEqual([code, answer.difference, answer.totals.pending, answer.totals.accepted], [0, '0', '6', '9'], out)
    const byTenant = new Map(answer.rows.map(row => [row.tenant, row.pending]))
    assert.deepEqual([byTenant.get('public'), byTenant.get('acme')], ['4', '2'])
  })

  for (const [what, harm, difference] of [
    ['rows that vanish from the table', `delete from logs where message = 'entry 1'`, '1'],
    [
      'rows that nobody accepted',
      `insert into logs (timestamp, service, level, message, created_at) select timestamp, service, level, message, created_at from logs where message = 'entry 1'`,
      '-1',
    ],
    ['a commit that the ledger forgot', 'update purser_logs.ledger set accepted = 0, stored = 0', '0'],
  ] as const)
    test(`${what} are seen`, async t => {
      const { s, sql, clock, send } = await startBooks(t, 'rows')
      clock.advance(3_600_000 + 10_000)
      await send(5)
      await s.settled()
      assert.equal((await doctor(s, '--since', '1h')).code, 0)
      await sql.unsafe(harm)
      const { code, answer, out } = await doctor(s, '--since', '1h')
      assert.equal(code, 1)
      assert.match(out, /rows are missing or too many/)
      if (difference === '0') {
        assert.notEqual(answer.difference, '0')
        const metrics = await (await fetch(`${s.url}/metrics`)).text()
        assert.equal(/^log_ingestion_ledger_imbalance_rows (\S+)/m.exec(metrics)?.[1], '5')
      } else assert.equal(answer.difference, difference)
    })
})

async function counted(sql: Awaited<ReturnType<typeof startBooks>>['sql'], column: 'deleted' | 'expired') {
  const [row] = await sql<{ rows: number }[]>`select sum(${sql(column)})::int as rows from purser_logs.ledger`
  return row?.rows ?? 0
}

/** One bit of the record that this answer is the receipt of. */
async function flipIn(dir: string, response: Response): Promise<void> {
  const bytes = Buffer.from((response.headers.get('x-receipt') ?? '').slice(4), 'base64url')
  const id = bytes.toString('hex', 1, 17)
  const names = await readdir(join(dir, 'journal'))
  const name = names.find(file => file.replaceAll('-', '') === `${id}.journal`) ?? ''
  const file = await open(join(dir, 'journal', name), 'r+')
  const at = bytes.readUIntLE(17, 6) + 100
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, at)
  buffer[0] = (buffer[0] ?? 0) ^ 1
  await file.write(buffer, 0, 1, at)
  await file.close()
}
