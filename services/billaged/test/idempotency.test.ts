import assert from 'node:assert/strict'
import test from 'node:test'
import { startBilling } from './kit.ts'

test('a POST with an Idempotency-Key is done once and answered alike, for its caller, for a day', async t => {
  let aheadMs = 0
  const clock = { now: () => Date.now() + aheadMs, monotonicMs: () => performance.now() }
  const billing = await startBilling(t, { clock })
  const post = async (key: string, body: object, path = '/v1/webhooks') => {
    const response = await fetch(billing.url + path, {
      method: 'POST',
      headers: { authorization: `Bearer ${billing.key}`, 'content-type': 'application/json', 'idempotency-key': key },
      body: JSON.stringify(body),
    })
    return {
      status: response.status,
      replayed: response.headers.get('idempotency-replayed'),
      body: (await response.json()) as { secret: string; reason: string },
    }
  }
  const hook = { url: 'http://127.0.0.1:9/' }
  const count = async () => {
    const { body } = await billing.api('GET', '/v1/webhooks')
    return (body as { webhooks: unknown[] }).webhooks.length
  }
  // At once and again: one endpoint, one secret.
  const together = await Promise.all([1, 2, 3, 4].map(() => post('k1', hook)))
  const done = together.filter(reply => reply.status === 201)
  assert.ok(
    done.length >= 1 &&
      together.every(reply => reply.status === 201 || reply.body.reason === 'IDEMPOTENCY_IN_PROGRESS'),
  )
  const again = await post('k1', hook)
  assert.deepEqual([again.status, again.replayed], [201, 'true'])
  assert.deepEqual(again.body, done[0]?.body)
  assert.match(again.body.secret, /^whsec_/)
  assert.equal(await count(), 1)

  // Another call under the key is a mistake; without a key, or under another, it is a call of its own.
  assert.equal((await post('k1', { ...hook, description: 'other' })).body.reason, 'IDEMPOTENCY_KEY_REUSED')
  assert.equal((await post('k2', hook)).status, 201)
  assert.equal(await count(), 2)
  assert.equal((await post('with space', hook)).status, 400)

  // What was refused left nothing, and may be tried again.
  const plan = { customerId: 'acme', planId: 'example', from: '2020-01-01T00:00:00Z' }
  assert.equal((await post('k3', { ...plan, planId: 'none' }, '/v1/subscriptions')).status, 404)
  assert.notEqual((await post('k3', plan, '/v1/subscriptions')).status, 422)

  // A day later the key is free.
  aheadMs = 86_400_001
  assert.deepEqual([(await post('k1', hook)).replayed, await count()], [null, 3])
})
