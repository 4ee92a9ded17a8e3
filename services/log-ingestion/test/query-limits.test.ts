// What a query may take of the service: time, rows, its turn, and what its expressions may be.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { ProblemAnswer, SearchAnswer } from '../api.ts'
import { rowsScannedMax } from '../http/search.ts'
import type { SearchPlan } from '../store/store.ts'
import { adminKey, batch, entry, startService } from './start.ts'
import { daySeconds, openTestStore, row } from './stored.ts'

describe('G37: a query ends at its time or its rows with a cursor to go on, waits its turn, and runs in linear time', () => {
  for (const kind of ['rows', 'columnar'] as const)
    test(`at its time and at its number of rows the page is partial, and its cursor leads to the rest: ${kind}`, async t => {
      const s = await openTestStore(t)
      const all: string[] = []
      for (let n = 0; n < 40; n++) {
        const rows = Array.from({ length: 50 }, (_, i) => row({ seconds: daySeconds + n, message: `m${n}.${i}` }))
        all.push(...rows.map(({ message }) => message))
        await s.commit(kind, [s.pending(rows)])
      }
      const dayNs = BigInt(daySeconds) * 1_000_000_000n
      const plan: SearchPlan = {
        tenant: 'public',
        // Only the evaluator can decide this one.
        query: { kind: 'regex', of: 'message', name: '', pattern: '\\.(7|49)$' },
        fromNs: dayNs - 10n ** 12n,
        toNs: dayNs + 10n ** 12n,
        order: 'asc',
        after: undefined,
        limit: 1_000,
        bytesMax: 1e6,
        timeoutMs: 10_000,
        rowsScannedMax: 1e6,
      }
      const wanted = all.filter(text => /\.(7|49)$/.test(text))
      const readAll = async (limits: Partial<SearchPlan>, now: () => number) => {
        const found: string[] = []
        let pages = 0
        for (let after: SearchPlan['after'] | null = undefined; after !== null; pages++) {
          const page = await s.store.search({ ...plan, ...limits, after }, now)
          assert.equal(page.isPartial, page.resume !== undefined)
          found.push(...page.entries.map(({ message }) => message))
          after = page.resume ?? null
          assert.ok(pages < 5_000, 'each page gets on')
        }
        assert.deepEqual(found, wanted)
        return pages
      }
      assert.equal(await readAll({}, () => 0), 1)
      assert.ok((await readAll({ rowsScannedMax: 500 }, () => 0)) > 1)
      let nowMs = 0
      // Each look at the clock finds it a second later.
      assert.ok((await readAll({ timeoutMs: 10_000 }, () => (nowMs += 1_000))) > 1)
    })

  test('ten seconds unless asked for, sixty at most, fifty million rows; expressions are RE2, linear, 1 KiB at most', async t => {
    assert.equal(rowsScannedMax, 50_000_000)
    const s = await startService(t)
    await s.post('/api/v1/logs', JSON.stringify({ log: entry({ message: `${'a'.repeat(9_000)}!` }) }))
    await s.settled()
    const search = async (parameters: Record<string, string>) => {
      const answer = await s.get(`/api/v1/logs/search?${new URLSearchParams(parameters)}`)
      return { status: answer.status, body: (await answer.json()) as SearchAnswer & ProblemAnswer }
    }
    assert.equal((await search({ timeout: '60s' })).status, 200)
    assert.equal((await search({ timeout: '61s' })).status, 400)
    // A backtracking engine would not come back from these.
    for (const q of ['/(a+)+$/', '/(a|a)*b/', '/(.*)*x/']) assert.deepEqual((await search({ q })).body.logs, [])
    assert.equal((await search({ q: '/(a+)+!$/' })).body.logs.length, 1)
    for (const q of ['/(?=a)/', '/(a)\\1/', '/(?<!a)b/', `/${'a'.repeat(1_025)}/`, '/(a{100}){100}/'])
      assert.equal((await search({ q })).body.reason, 'BAD_QUERY', q)
    assert.equal((await search({ q: `/${'a'.repeat(1_024)}/` })).status, 200)
  })

  test('two at once per key and four per replica; who has waited five seconds gets a 429', async t => {
    const s = await startService(t, {
      env: { LOG_INGESTION_ADMIN_API_KEYS: `${adminKey},acme=acme-admin-key,third=third-admin-key` },
    })
    await s.post('/api/v1/logs/batch', batch(entry()))
    await s.settled()
    const held = Promise.withResolvers<void>()
    t.after(() => held.resolve())
    const locked = Promise.withResolvers<void>()
    const holding = s.sql.begin(async tx => {
      await tx`lock table public.logs in access exclusive mode`
      locked.resolve()
      await held.promise
    })
    await locked.promise
    const ask = (key: string) => s.get('/api/v1/logs/search?timeout=60s', { 'x-api-key': key })
    const running = [adminKey, adminKey, 'acme-admin-key', 'acme-admin-key'].map(ask)
    // A third of one key, and a fifth of all.
    const refused = await Promise.all([ask(adminKey), ask('third-admin-key')])
    for (const answer of refused) {
      assert.equal(answer.status, 429)
      assert.ok(Number(answer.headers.get('retry-after')) >= 1)
      assert.equal(((await answer.json()) as ProblemAnswer).reason, 'QUERIES_BUSY')
    }
    const waiting = ask('third-admin-key')
    held.resolve()
    await holding
    for (const answer of await Promise.all([...running, waiting])) assert.equal(answer.status, 200)
  })
})
