// Evidence of what was stored, as somebody would check it who trusts neither the service nor its commands: from the rows of
// the database and what is documented of them.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHash, createPublicKey, verify } from 'node:crypto'
import { type TestContext, test } from 'node:test'
import { loadSecret } from '#platform/tenancy/secret'
import { mintToken } from '#platform/tenancy/token'
import { testBase } from '../../../test/kit/base.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { shiftedClock } from './shifted-clock.ts'
import { adminKey, batch, entry, startService, type TestService } from './start.ts'

const main = new URL('../../../purser/main.ts', import.meta.url).pathname
const dayMs = 86_400_000
const timeoutMs = 60_000
const sha256 = (...parts: Buffer[]) => parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest()

async function purserVerify(s: TestService): Promise<{ code: number | null; out: string }> {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', main, 'logs', 'verify'], {
    env: {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
      PURSER_LOGS_URL: s.url,
      PURSER_LOGS_KEY: adminKey,
    },
  })
  let out = ''
  child.stdout.setEncoding('utf8').on('data', text => {
    out += text
  })
  const code = await new Promise<number | null>(resolve => child.once('close', resolve))
  return { code, out }
}

/** Each link is the hash of the one before it and of what it stands for. */
async function followChains(s: TestService): Promise<number> {
  const links = await s.sql<{ tenant: string; day: string; seq: bigint; sha256: Buffer; chain: Buffer }[]>`
    select tenant, day::text as day, seq, sha256, chain from purser_logs.chain order by tenant, chain.day, seq`
  for (const ours of Map.groupBy(links, ({ tenant, day }) => `${tenant} ${day}`).values()) {
    let before: Buffer = Buffer.alloc(32)
    for (const link of ours) {
      before = sha256(before, link.sha256)
      assert.deepEqual(link.chain, before)
    }
  }
  return links.length
}

async function followRewrites(s: TestService): Promise<Record<string, number>> {
  const found = await s.sql<
    {
      tenant: string
      day: string
      reason: string
      before: string[]
      after: string[]
      at: bigint
      key: Buffer
      signature: Buffer
    }[]
  >`select tenant, day::text as day, reason, at_us as at, public_key as key, signature,
           array(select encode(h, 'hex') from unnest(before) h) as before,
           array(select encode(h, 'hex') from unnest(after) h) as after from purser_logs.rewrites`
  const reasons: Record<string, number> = {}
  for (const { tenant, day, reason, before, after, at, key, signature } of found) {
    const text = `purser.logs.rewrite.v1\n${tenant}\n${day}\n${reason}\n${before.join(',')}\n${after.join(',')}\n${at}`
    const publicKey = createPublicKey({ key, format: 'der', type: 'spki' })
    assert.equal(publicKey.asymmetricKeyType, 'ed25519')
    assert.ok(verify(null, Buffer.from(text), publicKey, signature), text)
    reasons[reason] = (reasons[reason] ?? 0) + 1
  }
  return reasons
}

async function send(s: TestService, now: number): Promise<void> {
  for (let n = 0; n < 12; n++) {
    const at = (days: number) => new Date(now - days * dayMs - n * 1_000).toISOString()
    const entries = [0.001, 0.002, 3, 5].map((days, i) =>
      entry({ timestamp: at(days), message: `m${n}.${i}`, level: i === 1 ? 'debug' : 'info', metadata: { n } }),
    )
    assert.equal((await s.post('/api/v1/logs/batch', batch(...entries))).status, 202)
    // A commit of its own, hence a link.
    await s.settled()
  }
}

/** Deletes by filter, lets the rest expire in part, and waits for both. */
async function eraseSome(s: TestService, clock: ReturnType<typeof shiftedClock>): Promise<void> {
  const post = async (path: string, body: object) => {
    const headers = { 'x-api-key': adminKey, 'content-type': 'application/json' }
    const answer = await s.post(path, JSON.stringify(body), headers)
    assert.ok(answer.ok, await answer.clone().text())
    return (await answer.json()) as { id: string }
  }
  clock.advance(1)
  const to = new Date(clock.now()).toISOString()
  const from = new Date(clock.now() - 6 * dayMs).toISOString()
  const { id } = await post('/api/v1/logs/delete', { q: 'n:3 OR n:4', from, to, reason: 'evidence' })
  clock.advance(60_000)
  const isDone = async () =>
    ((await (await s.get(`/api/v1/deletions/${id}`)).json()) as { state: string }).state === 'done'
  await pollUntil(isDone, { timeoutMs, what: 'the deletion' })
  await post('/api/v1/retention', { level: 'debug', keep: '1m' })
  await post('/api/v1/retention', { keep: '2d' })
  const expired = async () => {
    const [row] = await s.sql<{ expired: bigint }[]>`select sum(expired)::int8 as expired from purser_logs.ledger`
    return row?.expired === 30n
  }
  await pollUntil(expired, { timeoutMs, what: 'ten entries and two days to expire' })
}

test('G44: every block, and with CHAIN every commit to rows, is a link of SHA-256 per tenant and day; rewrites are signed, and verify names the first broken link', {
  concurrency: 3,
}, async t => {
  await Promise.all([
    t.test('columnar', t => holds(t, { LOG_INGESTION_STORAGE: 'columnar' })),
    t.test('rows with CHAIN', t => holds(t, { LOG_INGESTION_STORAGE: 'rows', LOG_INGESTION_CHAIN: 'true' })),
    t.test('rows without', async t => {
      const s = await startService(t, { env: { LOG_INGESTION_STORAGE: 'rows' } })
      await send(s, Date.now())
      assert.equal(await followChains(s), 0, 'off by default')
    }),
  ])
})

async function holds(t: TestContext, env: Record<string, string>): Promise<void> {
  const clock = shiftedClock()
  const s = await startService(t, { base: testBase(t, { clock }), env })
  await send(s, clock.now())
  assert.ok((await followChains(s)) >= 36, 'one per commit and day')
  const blocks = async () => {
    const found = await s.sql<{ sha256: Buffer; head: Buffer; messages: Buffer; metadata: Buffer }[]>`
      select sha256, head, messages, metadata from purser_logs.blocks`
    for (const block of found) assert.deepEqual(sha256(block.head, block.messages, block.metadata), block.sha256)
    return found.length
  }
  const isColumnar = env.LOG_INGESTION_STORAGE === 'columnar'
  assert.equal((await blocks()) > 0, isColumnar)
  assert.equal((await purserVerify(s)).code, 0)
  await eraseSome(s, clock)
  await followChains(s)
  await blocks()
  const reasons = await followRewrites(s)
  assert.ok((reasons.deletion ?? 0) >= 1 && (reasons.retention ?? 0) >= 1)
  if (isColumnar) {
    await pollUntil(async () => ((await followRewrites(s)).compaction ?? 0) > 0, { timeoutMs, what: 'a merge' })
    await blocks()
  }
  const good = await purserVerify(s)
  assert.equal(good.code, 0, good.out)

  const [victim] = await s.sql<{ seq: bigint; day: string }[]>`
    update purser_logs.chain set sha256 = sha256('forged') where seq = 5 and chain.day = (select max(c.day) from purser_logs.chain c)
    returning seq, chain.day::text as day`
  const forged = await purserVerify(s)
  assert.equal(forged.code, 1)
  assert.match(forged.out, new RegExp(`^${victim?.day} +public .*BROKEN: link 5 does not follow`, 'm'))
}

test('who runs the installation verifies every tenant at once, a key its own alone', async t => {
  const s = await startService(t, { env: { LOG_INGESTION_STORAGE: 'columnar' } })
  for (const key of ['test-write-key', 'acme-write-key'])
    assert.equal((await s.post('/api/v1/logs', JSON.stringify({ log: entry() }), { 'x-api-key': key })).status, 202)
  await s.settled()
  const secret = await loadSecret({ dataDir: s.dir })
  const { clock } = s.base
  const owner = mintToken(secret, { audience: 'log-ingestion', role: 'owner', subject: 'test', clock })
  const verified = async (headers: Record<string, string>, query = '') => {
    const text = await (await fetch(`${s.url}/api/v1/chain/verify${query}`, { headers })).text()
    const days = text
      .trim()
      .split('\n')
      .map(line => JSON.parse(line) as { tenant: string; rows: string; broken: object | null })
    return days.map(({ tenant, rows, broken }) => `${tenant} ${rows}${broken ? ' broken' : ''}`).sort()
  }
  assert.deepEqual(await verified({ authorization: `Bearer ${owner}` }), ['acme 1', 'public 1'])
  assert.deepEqual(await verified({ authorization: `Bearer ${owner}` }, '?tenant=acme'), ['acme 1'])
  assert.deepEqual(await verified({ 'x-api-key': adminKey }, '?tenant=acme'), ['public 1'])
  assert.deepEqual(await verified({ 'x-api-key': 'acme-admin-key' }), ['acme 1'])
  const heads = await fetch(`${s.url}/api/v1/chain/heads`, { headers: { authorization: `Bearer ${owner}` } })
  const { heads: all } = (await heads.json()) as { heads: { tenant: string; links: string }[] }
  assert.deepEqual(
    all.map(({ tenant, links }) => [tenant, links]),
    [
      ['acme', '1'],
      ['public', '1'],
    ],
  )
})
