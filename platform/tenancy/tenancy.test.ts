import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { drivenClock, testBase } from '../../test/kit/base.ts'
import { testDatabase } from '../../test/kit/database.ts'
import { pollUntil } from '../../test/kit/poll.ts'
import { openSql, withDatabase } from '../postgres.ts'
import { type Clock, systemClock } from '../time.ts'
import { masked } from './audit.ts'
import { isSlug, numberedSlug, slugFrom } from './slug.ts'
import { type Actor, mayDo, openTenancy, TenantNameTaken } from './tenancy.ts'

const secret = Buffer.from('s'.repeat(32))
const by: Actor = { kind: 'session', name: 'ada', address: '127.0.0.1' }

async function open(t: TestContext, url: string, clock: Clock = systemClock) {
  const { log } = testBase(t)
  const sql = openSql({ url, max: 4, applicationName: 'tenancy test', log })
  const tenancy = await openTenancy({ sql, secret, log, clock })
  t.after(async () => {
    await tenancy.close()
    await sql.end({ timeout: 1 })
  })
  return { tenancy, sql }
}

test('a key speaks for its tenant with its scopes until it is revoked, on every process, within a second', async t => {
  const { url } = await testDatabase(t)
  const [{ tenancy: one }, { tenancy: two }] = await Promise.all([open(t, url), open(t, url)])
  const acme = await one.tenants.create({ name: 'Acme Robotics' }, by)
  assert.equal(acme.slug, 'acme-robotics')
  const created = await one.keys.create(
    { tenantId: acme.id, name: 'ci', scopes: ['ai', 'logs:write'], format: 'hex64' },
    by,
  )
  assert.match(created.key, /^[0-9a-f]{64}$/)
  const principal = await pollUntil(
    () => {
      const p = two.authenticate(created.key)
      return typeof p === 'object' && p
    },
    { what: 'the key on the other process' },
  )
  assert.deepEqual(
    [principal.tenant?.slug, [...principal.scopes], principal.keyName, principal.via],
    ['acme-robotics', ['ai', 'logs:write'], 'ci', 'key'],
  )
  assert.ok(mayDo(principal, 'ai') && !mayDo(principal, 'logs:read'))
  assert.ok(await two.keys.revoke(created.id, by))
  assert.equal(two.authenticate(created.key), 'unknown')
  await pollUntil(() => one.authenticate(created.key) === 'unknown', {
    what: 'the revocation on the other process',
  })
  assert.equal(await one.keys.revoke(created.id, by), false)
})

test('nothing that is stored or told reveals a key', async t => {
  const { url } = await testDatabase(t)
  const { tenancy, sql } = await open(t, url)
  const { key, prefix } = await tenancy.keys.create(
    { tenantId: 1, name: 'x', scopes: ['ai'], format: 'base64url44' },
    by,
  )
  assert.equal(key.length, 44)
  const rows = await sql`select k::text as row from tenancy.api_key k union all select a::text from tenancy.audit a`
  assert.doesNotMatch(JSON.stringify(rows), new RegExp(key.slice(0, 20)))
  assert.equal(prefix, key.slice(0, 8))
  assert.doesNotMatch(
    JSON.stringify(await tenancy.keys.list(1), (_, v) => (typeof v === 'bigint' ? String(v) : v)),
    new RegExp(key.slice(8, 28)),
  )
})

test('a key expires at its instant, without anyone doing anything', async t => {
  const { url } = await testDatabase(t)
  const clock = drivenClock()
  const { tenancy } = await open(t, url, clock)
  const { key } = await tenancy.keys.create(
    { tenantId: 1, name: 'x', scopes: ['ai'], format: 'hex64', expiresAt: new Date(clock.now() + 1_000) },
    by,
  )
  clock.advance(999)
  assert.equal(typeof tenancy.authenticate(key), 'object')
  clock.advance(1)
  assert.equal(tenancy.authenticate(key), 'unknown')
})

test('with the database away known keys keep working, and an unknown one is never called invalid', async t => {
  const { url } = await testDatabase(t)
  const clock = drivenClock()
  const { tenancy, sql } = await open(t, url, clock)
  const { key } = await tenancy.keys.create({ tenantId: 1, name: 'x', scopes: ['ai'], format: 'hex64' }, by)
  assert.equal(tenancy.authenticate('nonsense'), 'unknown')
  await sql.end({ timeout: 1 })
  clock.advance(60_000)
  assert.equal(typeof tenancy.authenticate(key), 'object')
  assert.equal(tenancy.authenticate('nonsense'), 'unavailable')
})

test('an outage is noticed by the first unknown key, and its end brings what changed meanwhile', async t => {
  const { url, sql: admin } = await testDatabase(t)
  const { tenancy, sql } = await open(t, url)
  const { key, id } = await tenancy.keys.create({ tenantId: 1, name: 'x', scopes: ['ai'], format: 'hex64' }, by)
  const [row] = await admin<{ name: string }[]>`select current_database() as name`
  const elsewhere = openSql({
    url: withDatabase(url, 'postgres'),
    max: 1,
    applicationName: 'outage',
    log: testBase(t).log,
  })
  t.after(() => elsewhere.end())
  const name = row?.name ?? ''
  await elsewhere`alter database ${elsewhere(name)} allow_connections false`
  await elsewhere`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${name}`
  await pollUntil(() => tenancy.authenticate('nonsense') === 'unavailable', { what: 'the outage to be noticed' })
  assert.equal(typeof tenancy.authenticate(key), 'object')
  await assert.rejects(tenancy.keys.revoke(id, by))
  await elsewhere`alter database ${elsewhere(name)} allow_connections true`
  await pollUntil(() => sql`update tenancy.api_key set revoked_at = now()`, { what: 'the database' })
  await pollUntil(() => tenancy.authenticate(key) === 'unknown', { what: 'the revocation that was made meanwhile' })
})

test('the public tenant stays', async t => {
  const { url } = await testDatabase(t)
  const { tenancy } = await open(t, url)
  const everyone = tenancy.tenants.bySlug('public')
  assert.ok(everyone)
  await assert.rejects(tenancy.tenants.remove(everyone.id, by), /public cannot be removed/)
})

test('a static key reaches its tenant also when that had to take another slug', async t => {
  const { url } = await testDatabase(t)
  const { tenancy } = await open(t, url)
  const first = await tenancy.tenants.create({ name: 'globex' }, by)
  await tenancy.tenants.remove(first.id, by)
  await tenancy.keys.importStatic([{ key: 'k1', tenantSlug: 'globex', name: 'env-1', scopes: ['ai'] }])
  const principal = tenancy.authenticate('k1')
  assert.ok(typeof principal === 'object')
  assert.equal(principal.tenant?.slug, 'globex-2')
})

test('static keys authenticate from memory, make their tenants once, and can be replaced', async t => {
  const { url } = await testDatabase(t)
  const { tenancy, sql } = await open(t, url)
  const give = (keys: string[]) =>
    tenancy.keys.importStatic(keys.map(key => ({ key, tenantSlug: 'globex', name: 'env-1', scopes: ['logs:write'] })))
  await Promise.all([give(['k1', 'k2']), give(['k1', 'k2'])])
  const principal = tenancy.authenticate('k1')
  assert.ok(typeof principal === 'object' && principal.via === 'static' && principal.tenant?.slug === 'globex')
  await give(['k2'])
  assert.deepEqual([tenancy.authenticate('k1'), typeof tenancy.authenticate('k2')], ['unknown', 'object'])
  assert.equal((await sql`select 1 from tenancy.tenant where name = 'globex'`).length, 1)
  assert.equal((await sql`select 1 from tenancy.api_key`).length, 0)
})

test('a tenant’s name may change and be used again after its end; its slug never', async t => {
  const { url } = await testDatabase(t)
  const { tenancy } = await open(t, url)
  assert.equal(tenancy.tenants.bySlug('public')?.name, 'public')
  const first = await tenancy.tenants.create({ name: 'Globex' }, by)
  await assert.rejects(tenancy.tenants.create({ name: 'Globex' }, by), TenantNameTaken)
  await assert.rejects(tenancy.tenants.update(first.id, { name: 'public' }, by), TenantNameTaken)
  const { key } = await tenancy.keys.create({ tenantId: first.id, name: 'x', scopes: ['ai'], format: 'hex64' }, by)
  const renamed = await tenancy.tenants.update(first.id, { name: 'Globex Intl' }, by)
  assert.deepEqual([renamed?.slug, renamed?.name], ['globex', 'Globex Intl'])
  assert.ok(await tenancy.tenants.remove(first.id, by))
  assert.equal(await tenancy.tenants.remove(first.id, by), false)
  assert.equal(tenancy.authenticate(key), 'unknown')
  assert.equal(tenancy.tenants.bySlug('globex'), undefined)
  const second = await tenancy.tenants.create({ name: 'Globex Intl' }, by)
  assert.notEqual(second.id, first.id)
  const again = await tenancy.tenants.create({ name: 'Globex' }, by)
  assert.equal(again.slug, 'globex-2')
})

test('ensure finds by slug or name and makes one tenant however many ask at once', async t => {
  const { url } = await testDatabase(t)
  const [{ tenancy: one }, { tenancy: two }] = await Promise.all([open(t, url), open(t, url)])
  const found = await Promise.all(
    Array.from({ length: 10 }, (_, i) => (i % 2 ? one : two).tenants.ensure('initech', by)),
  )
  assert.equal(new Set(found.map(tenant => tenant.id)).size, 1)
  assert.equal((await one.tenants.ensure('initech', by)).slug, 'initech')
})

test('the audit trail names every act, refuses changes, and shows where it was tampered with', async t => {
  const { url } = await testDatabase(t)
  const { tenancy, sql } = await open(t, url)
  await Promise.all(Array.from({ length: 8 }, (_, i) => tenancy.tenants.create({ name: `t${i}` }, by)))
  await tenancy.audit({
    actor: by,
    action: 'plan.update',
    object: 'plan std',
    before: { apiKey: 'hunter2' },
    after: { nested: [{ password: 'hunter2', n: 7n }] },
  })
  assert.equal(await tenancy.verifyAudit(), undefined)
  const rows = await sql<{ body: string }[]>`select body from tenancy.audit order by seq`
  assert.equal(rows.length, 9)
  assert.doesNotMatch(JSON.stringify(rows), /hunter2/)
  await assert.rejects(sql`update tenancy.audit set body = '{}' where seq = 3`, /append-only/)
  await assert.rejects(sql`delete from tenancy.audit`, /append-only/)
  await sql`alter table tenancy.audit disable trigger all`
  await sql`update tenancy.audit set body = replace(body, 'ada', 'eve') where seq = 3`
  assert.equal(await tenancy.verifyAudit(), 3n)
  await sql`delete from tenancy.audit where seq = 2`
  assert.equal(await tenancy.verifyAudit(), 2n)
})

test('the day a key was last used is written without a query per call', async t => {
  const { url } = await testDatabase(t)
  const { log } = testBase(t)
  const sql = openSql({ url, max: 4, applicationName: 'tenancy test', log })
  const tenancy = await openTenancy({ sql, secret, log, clock: drivenClock(Date.UTC(2026, 4, 6)) })
  const { key } = await tenancy.keys.create({ tenantId: 1, name: 'x', scopes: ['ai'], format: 'hex64' }, by)
  for (let i = 0; i < 1_000; i++) tenancy.authenticate(key)
  await tenancy.close()
  const [row] = await sql<{ day: string }[]>`select last_used_on::text as day from tenancy.api_key`
  assert.equal(row?.day, '2026-05-06')
  await sql.end({ timeout: 1 })
})

test('slugs are always valid, whatever the name', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), fc.integer({ min: 1, max: 99_999 }), (name, n) =>
      isSlug(numberedSlug(slugFrom(name), n)),
    ),
  )
  assert.deepEqual(['Müller & Söhne', '--x', '', 'A'.repeat(99)].map(slugFrom), [
    'muller-sohne',
    'x',
    'tenant',
    'a'.repeat(63),
  ])
})

test('masking reaches every depth and never a name that merely resembles', () => {
  assert.deepEqual(masked({ a: [{ apiKey: 'x', keys: 2, secretName: 'y' }], token: null }), {
    a: [{ apiKey: '***', keys: 2, secretName: '***' }],
    token: null,
  })
})

test('a key of an older installation is adopted once, however many processes find it', async t => {
  const { url } = await testDatabase(t)
  const [{ tenancy: one }, { tenancy: two }] = await Promise.all([open(t, url), open(t, url)])
  const tenantId = one.tenants.bySlug('public')?.id ?? 0
  const old = { tenantId, name: 'old', scopes: ['logs:write'], key: 'somebody-chose-this' }
  const adopted = await Promise.all([one.keys.adopt(old, by), two.keys.adopt(old, by), one.keys.adopt(old, by)])
  assert.equal(new Set(adopted.map(key => key.id)).size, 1)
  const principal = one.authenticate(old.key)
  assert.equal(typeof principal === 'object' && principal.keyName, 'old')
  assert.equal((await one.keys.list(tenantId)).length, 1)
})
