import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { test } from 'node:test'
import { jwtVerify, SignJWT } from 'jose'
import { drivenClock } from '../../../test/kit/base.ts'
import { looksLikeJwt, mintJwt, tokenTtlS, type UserClaims, verifyJwt } from './jwt.ts'

const secret = Buffer.from('a secret of at least thirty-two bytes')
const claims: UserClaims = {
  userId: 7,
  email: 'a@example.org',
  name: 'Ann',
  isAdmin: true,
  tenant: 'public',
  isPlatformAdmin: false,
}

test('a token says what older instances read, and ends after a day', async () => {
  const clock = drivenClock()
  const token = mintJwt(secret, claims, clock)
  const { payload, protectedHeader } = await jwtVerify(token, secret, { currentDate: new Date(clock.now()) })
  assert.equal(protectedHeader.alg, 'HS256')
  assert.deepEqual(payload, {
    user_id: 7,
    user_email: 'a@example.org',
    user_name: 'Ann',
    is_admin: true,
    iss: 'cmd-log',
    iat: clock.now() / 1_000,
    exp: clock.now() / 1_000 + 86_400,
  })
  assert.deepEqual(verifyJwt(secret, token, clock), claims)
  clock.advance(tokenTtlS * 1_000)
  assert.equal(verifyJwt(secret, token, clock), undefined)
})

test('only our own HS256 tokens are taken', async () => {
  const clock = drivenClock()
  const body = { user_id: 7, user_email: 'a@example.org', is_admin: true }
  const made = (alg: string, key: Buffer, issuer = 'cmd-log') =>
    new SignJWT(body)
      .setProtectedHeader({ alg })
      .setIssuer(issuer)
      .setIssuedAt(clock.now() / 1_000)
      .setExpirationTime(clock.now() / 1_000 + 60)
      .sign(key)
  assert.equal(verifyJwt(secret, await made('HS256', secret), clock)?.userId, 7)
  assert.equal(verifyJwt(secret, await made('HS256', Buffer.alloc(40)), clock), undefined, 'another secret')
  assert.equal(verifyJwt(secret, await made('HS512', Buffer.concat([secret, secret])), clock), undefined)
  assert.equal(verifyJwt(secret, await made('HS256', secret, 'somebody'), clock), undefined)
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const none = `${part({ alg: 'none' })}.${part({ ...body, iss: 'cmd-log', exp: 4e9 })}.`
  assert.equal(verifyJwt(secret, none, clock), undefined)
  const disguised = none.slice(0, -1)
  const signature = createHmac('sha256', secret).update(disguised).digest('base64url')
  assert.equal(verifyJwt(secret, `${disguised}.${signature}`, clock), undefined, 'alg none, rightly signed')
  assert.equal(looksLikeJwt('test-write-key'), false)
  assert.equal(verifyJwt(secret, `eyJ${'a'.repeat(9_000)}.a.a`, clock), undefined)
})
