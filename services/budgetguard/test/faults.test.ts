// kill -9, a database that goes away, a journal that is full: what was promised is still true afterwards.

import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { parseUsd } from '#platform/money'
import type { Sql } from '#platform/postgres'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { sum } from '../amount.ts'
import {
  admin,
  adminKey,
  auditBooks,
  auditDatabase,
  chat,
  errorOf,
  makeTenant,
  monthly,
  rowsOf,
  secret,
  startService,
  type TestTenant,
  tempDir,
} from './kit.ts'
import { relayDatabase } from './proxy.ts'

interface Child {
  url: string
  admin: <T>(method: string, path: string, body?: unknown) => Promise<T>
  process: ChildProcess
  kill(): Promise<void>
}

const mainFile = fileURLToPath(new URL('../main.ts', import.meta.url))

/** A real process, as an operator starts it. */
async function startChild(
  t: TestContext,
  o: { dataDir: string; databaseUrl: string; env?: Record<string, string> },
): Promise<Child> {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', mainFile], {
    env: {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
      BUDGETGUARD_PORT: '0',
      BUDGETGUARD_HOST: '127.0.0.1',
      LOG_FORMAT: 'json',
      DATABASE_URL: o.databaseUrl,
      PURSER_DATA_DIR: o.dataDir,
      PURSER_SECRET: secret,
      ADMIN_API_KEY: adminKey,
      ...o.env,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exited = new Promise<void>(resolve => child.once('close', () => resolve()))
  t.after(async () => {
    child.kill('SIGKILL')
    await exited
  })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
  })
  const url = await pollUntil(() => /"url":"([^"]+)"[^\n]*"msg":"ready"/.exec(output)?.[1], {
    what: 'the child to be ready',
  })
  return {
    url,
    process: child,
    admin: (method, path, body) => admin(url, method, path, body),
    async kill() {
      child.kill('SIGKILL')
      await exited
    },
  }
}

/** Opens a stream that lasts, and resolves when its first bytes are here; `ended` when it is cut. */
async function openStream(child: Child, tenant: TestTenant) {
  const response = await fetch(`${child.url}/v1/chat/completions`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${tenant.key}`,
      'content-type': 'application/json',
      'x-echo-chunk-delay-ms': '30000',
    },
    body: JSON.stringify({
      model: 'echo-priced',
      stream: true,
      max_tokens: 40,
      messages: [{ role: 'user', content: 'a stream that will not see its end' }],
    }),
  })
  assert.equal(response.status, 200)
  const reader = response.body?.getReader()
  await reader?.read()
  return {
    heldUsd: response.headers.get('x-budgetguard-hold-usd') ?? '',
    ended: (async () => {
      while (!(await reader?.read())?.done);
    })().catch(() => undefined),
  }
}

for (const [policy, share] of [
  ['hold', 1n],
  ['release', 0n],
] as const)
  test(`kill -9 in mid-stream: the next start ends the holds (${policy}), and the books balance`, async t => {
    const { url: databaseUrl, sql } = await testDatabase(t)
    const dataDir = tempDir(t)
    const env = { BUDGETGUARD_ORPHAN_SETTLE: policy }
    const first = await startChild(t, { dataDir, databaseUrl, env })
    const tenant = await makeTenant(first, 'killed', '1')
    assert.equal((await chat(first.url, tenant.key)).status, 200)
    const streams = await Promise.all([openStream(first, tenant), openStream(first, tenant)])
    await first.kill()
    await Promise.all(streams.map(stream => stream.ended))

    const second = await startChild(t, { dataDir, databaseUrl, env })
    const rows = await rowsOf(second, tenant, 3)
    const orphans = rows.filter(row => row.reason === 'ORPHANED')
    assert.equal(orphans.length, 2)
    for (const [i, row] of orphans.entries()) {
      assert.equal(row.heldUsd, streams[i]?.heldUsd)
      assert.equal(parseUsd(row.usd), parseUsd(row.heldUsd) * share)
    }
    const state = await monthly(second, tenant)
    assert.equal(state.heldUsd, '0')
    assert.equal(BigInt(state.currentUsageNano), sum(rows.map(row => BigInt(row.usdNano))))
    await auditDatabase(sql)
    assert.equal((await chat(second.url, tenant.key)).status, 200, 'the rest of the budget is still there')
    await second.kill()
  })

test('one of two processes killed at random under load, again and again: every answered call has its row, no limit is passed', async t => {
  const { url: databaseUrl, sql } = await testDatabase(t)
  const dataDirs = [tempDir(t), tempDir(t)] as const
  const survivor = await startChild(t, { dataDir: dataDirs[0], databaseUrl })
  const tenant = await makeTenant(survivor, 'stormy', '0.02')
  let answered = 0n
  const requests = new Set<string>()
  const storm = (url: string, callers: number) => {
    const leave = new AbortController()
    const loops = Array.from({ length: callers }, async () => {
      while (!leave.signal.aborted) {
        const answer = await chat(url, tenant.key, {}, { 'x-echo-delay-ms': '5' }).catch(() => null)
        if (answer === null) return
        if (answer.status !== 200) continue
        answered += parseUsd(answer.headers.get('x-budgetguard-cost-usd') ?? '')
        requests.add(answer.headers.get('x-budgetguard-request-id') ?? '')
      }
    })
    return { leave: () => leave.abort(), done: Promise.all(loops) }
  }
  const beside = storm(survivor.url, 3)
  for (let life = 0; life < 3; life++) {
    const child = await startChild(t, { dataDir: dataDirs[1], databaseUrl })
    const calls = storm(child.url, 5)
    const wanted = requests.size + 25 + life * 7
    await pollUntil(() => requests.size >= wanted, { what: 'some calls', everyMs: 1 })
    await child.kill()
    await calls.done
  }
  beside.leave()
  await beside.done
  const last = await startChild(t, { dataDir: dataDirs[1], databaseUrl })
  const known = await pollUntil(
    async () => {
      const rows = await sql<{ request_id: string; settled_nano: bigint }[]>`
        select request_id, settled_nano from budgetguard.ledger where status <> 'blocked'`
      const ids = new Set(rows.map(row => row.request_id))
      assert.equal(ids.size, rows.length, 'a call is in the ledger twice')
      return (await openHolds(sql)) === 0 && requests.difference(ids).size === 0 && rows
    },
    { what: 'every answered call in the ledger and no hold left' },
  )
  assert.ok(sum(known.map(row => row.settled_nano)) >= answered)
  await auditDatabase(sql)
  await last.kill()
  await survivor.kill()
})

test('the database away: calls go on from the slice in hand, then 503, never 402 and never for nothing; recovery is by itself', async t => {
  const database = await testDatabase(t)
  const relay = await relayDatabase(t, database.url)
  const service = await startService(t, { database: { url: relay.url, sql: database.sql } })
  const tenant = await makeTenant(service, 'outage', '1')
  const other = await makeTenant(service, 'cold', '1')
  assert.equal((await service.chat(tenant.key)).status, 200)

  await relay.stop()
  const during = [await service.chat(tenant.key), await service.chat(tenant.key)]
  assert.ok(
    during.every(answer => answer.status === 200),
    'the slice in hand pays',
  )
  const cold = await service.chat(other.key)
  assert.equal(cold.status, 503, cold.text)
  assert.equal(errorOf(cold).reason, 'BUDGET_STORE_UNAVAILABLE')
  assert.equal(cold.headers.get('retry-after'), '5')
  await pollUntil(async () => /"ok":false/.test(await (await fetch(`${service.url}/health`)).text()), {
    what: '/health to say so',
  })

  await relay.start()
  await pollUntil(async () => (await service.chat(other.key)).status === 200, { what: 'calls again' })
  assert.equal((await rowsOf(service, tenant, 3)).length, 3)
  await auditBooks(service)
})

test('a full journal refuses before anything is sent, and ends still find room', async t => {
  const database = await testDatabase(t)
  const relay = await relayDatabase(t, database.url)
  const service = await startService(t, {
    database: { url: relay.url, sql: database.sql },
    env: { BUDGETGUARD_JOURNAL_BYTES: '1MiB' },
  })
  const tenant = await makeTenant(service, 'full', '9')
  // A slice large enough to go on without the database.
  await Promise.all(Array.from({ length: 60 }, () => service.chat(tenant.key)))
  await relay.stop()
  let made = 60
  let refused: Awaited<ReturnType<typeof service.chat>> | undefined
  const pad = { user: 'u'.repeat(200), model: 'echo' }
  for (; !refused && made < 3_000; ) {
    const answers = await Promise.all(Array.from({ length: 40 }, () => service.chat(tenant.key, pad)))
    made += answers.filter(answer => answer.status === 200).length
    refused = answers.find(answer => answer.status === 503)
  }
  assert.ok(refused)
  assert.equal(errorOf(refused).reason, 'BUDGET_STORE_UNAVAILABLE')
  assert.equal((await fetch(`${service.url}/health/ready`)).status, 503)
  await relay.start()
  await pollUntil(async () => (await service.chat(tenant.key, pad)).status === 200, { what: 'calls again' })
  made += 1
  const [row] = await pollUntil(
    async () => {
      const rows = await database.sql<{ n: number }[]>`
        select coalesce(sum(count), 0)::int as n from budgetguard.ledger where status = 'success'`
      return rows[0]?.n === made && rows
    },
    { what: `${made} successes in the ledger` },
  )
  assert.equal(row?.n, made)
  await auditDatabase(database.sql)
})

test('a clean stop returns every slice and leaves nothing unfolded', async t => {
  const service = await startService(t)
  const tenant = await makeTenant(service, 'stopped', '1')
  for (let i = 0; i < 5; i++) await service.chat(tenant.key)
  await service.close()
  const [row] = await service.sql<{ granted: bigint; open: bigint; rows: bigint }[]>`
    select (select sum(granted_nano)::int8 from budgetguard.accounts) as granted,
      (select count(*) from budgetguard.leases where state <> 'closed') as open,
      (select count(*) from budgetguard.ledger) as rows`
  assert.deepEqual([row?.granted, row?.open, row?.rows], [0n, 0n, 5n])
})

test('the ledger refuses UPDATE, DELETE and TRUNCATE, also on a partition', async t => {
  const service = await startService(t)
  const tenant = await makeTenant(service, 'frozen', '1')
  await service.chat(tenant.key)
  await rowsOf(service, tenant, 1)
  const [partition] = await service.sql<{ name: string }[]>`
    select inhrelid::regclass::text as name from pg_inherits where inhparent = 'budgetguard.ledger'::regclass`
  assert.ok(partition)
  for (const table of ['budgetguard.ledger', partition.name])
    for (const statement of [`update ${table} set settled_nano = 0`, `delete from ${table}`, `truncate ${table}`])
      await assert.rejects(service.sql.unsafe(statement), /append-only/, statement)
})

async function openHolds(sql: Sql): Promise<number> {
  const [row] = await sql<{ n: number }[]>`select count(*)::int as n from budgetguard.holds`
  return row?.n ?? 0
}
