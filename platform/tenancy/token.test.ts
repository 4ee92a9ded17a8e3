import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { drivenClock } from '../../test/kit/base.ts'
import { deriveKey, loadSecret } from './secret.ts'
import { mintToken, roles, verifyToken } from './token.ts'

const secret = Buffer.from('a'.repeat(32))

test('a token says what was put into it, for its audience, until it ends', () => {
  const clock = drivenClock()
  fc.assert(
    fc.property(
      fc.constantFrom(...roles),
      fc.option(fc.string({ minLength: 1, maxLength: 60 }), { nil: undefined }),
      fc.string({ minLength: 1, maxLength: 60 }),
      (role, tenant, subject) => {
        const token = mintToken(secret, {
          audience: 'billaged',
          role,
          subject,
          clock,
          ...(tenant === undefined ? {} : { tenant }),
        })
        const claims = verifyToken(secret, token, { audience: 'billaged', clock })
        assert.deepEqual({ ...claims, id: '' }, { role, tenant: tenant ?? null, subject, id: '' })
        assert.equal(verifyToken(secret, token, { audience: 'builderd', clock }), null)
      },
    ),
  )
  const token = mintToken(secret, { audience: 'a', role: 'viewer', subject: 's', ttlS: 60, clock })
  clock.advance(64_000)
  assert.ok(verifyToken(secret, token, { audience: 'a', clock }))
  clock.advance(2_000)
  assert.equal(verifyToken(secret, token, { audience: 'a', clock }), null)
})

test('any changed character, another secret, and any text that is not ours are refused without an exception', () => {
  const clock = drivenClock()
  const o = { audience: 'a', clock }
  const token = mintToken(secret, { ...o, role: 'viewer', subject: 's' })
  assert.equal(verifyToken(Buffer.from('b'.repeat(32)), token, o), null)
  fc.assert(
    fc.property(fc.nat(token.length - 1), fc.string({ minLength: 1, maxLength: 1 }), (at, character) => {
      const changed = token.slice(0, at) + character + token.slice(at + 1)
      // The last base64url character carries spare bits; a change there that means the same bytes is the same token.
      const isSame = Buffer.from(changed.slice(4).replace('.', ''), 'base64url').equals(
        Buffer.from(token.slice(4).replace('.', ''), 'base64url'),
      )
      fc.pre(changed !== token && !(isSame && at === token.length - 1))
      return verifyToken(secret, changed, o) === null
    }),
  )
  fc.assert(
    fc.property(
      fc.string(),
      text => verifyToken(secret, text, o) === null && verifyToken(secret, `pit_${text}`, o) === null,
    ),
  )
})

test('the root secret is made once, readable by its owner only, also when many start together', async t => {
  const dir = mkdtempSync(join(tmpdir(), 'secret-'))
  t.after(() => rmSync(dir, { recursive: true }))
  const secrets = await Promise.all(Array.from({ length: 20 }, () => loadSecret({ dataDir: join(dir, 'data') })))
  assert.equal(new Set(secrets.map(s => s.toString())).size, 1)
  assert.ok((secrets[0]?.length ?? 0) >= 32)
  assert.equal(statSync(join(dir, 'data', 'secret')).mode & 0o777, 0o600)
  await assert.rejects(loadSecret({ secret: 'short', dataDir: dir }), /5 bytes; at least 32/)
  writeFileSync(join(dir, 'secret'), 'short')
  chmodSync(join(dir, 'secret'), 0o600)
  await assert.rejects(loadSecret({ dataDir: dir }), /secret has 5 bytes/)
})

test('processes that start at the same time agree on one root secret', async t => {
  const dir = mkdtempSync(join(tmpdir(), 'secret-'))
  t.after(() => rmSync(dir, { recursive: true }))
  const script = `
    import { loadSecret } from ${JSON.stringify(new URL('./secret.ts', import.meta.url).href)}
    process.stdin.once('data', async () => {
      process.stdout.write((await loadSecret({ dataDir: process.argv[1] })).toString())
      process.exit()
    })
    process.stdout.write('ready')`
  const children = Array.from({ length: 4 }, () =>
    spawn(process.execPath, ['--no-warnings', '--input-type=module', '-e', script, join(dir, 'data')]),
  )
  await Promise.all(children.map(child => once(child.stdout, 'data')))
  for (const child of children) child.stdin.write('go')
  const secrets = await Promise.all(children.map(async child => String(await once(child.stdout, 'data'))))
  assert.equal(new Set(secrets).size, 1)
  assert.deepEqual(readdirSync(join(dir, 'data')), ['secret'])
})

test('keys of different purposes differ', () => {
  assert.notDeepEqual(deriveKey(secret, 'a'), deriveKey(secret, 'b'))
  assert.equal(deriveKey(secret, 'a').length, 32)
})
