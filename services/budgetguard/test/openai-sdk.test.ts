// The official client, pointed at port 3000 with nothing else changed.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import OpenAI, { APIError, AuthenticationError, BadRequestError, RateLimitError } from 'openai'
import { auditBooks, makeTenant, rowsOf, setBudget, startService, type TestService } from './kit.ts'

const client = (service: TestService, apiKey: string) => new OpenAI({ apiKey, baseURL: `${service.url}/v1` })
const call = {
  model: 'echo-priced',
  max_tokens: 50,
  messages: [{ role: 'user' as const, content: 'Where is the money?' }],
}
test('the official client needs nothing but the address', async t => {
  const service = await startService(t)

  await t.test('plain and streamed calls answer, with usage, and cost what the ledger says', async () => {
    const tenant = await makeTenant(service, 'sdk', '1')
    const openai = client(service, tenant.key)

    const plain = await openai.chat.completions.create(call)
    assert.equal(plain.choices[0]?.message.content, 'Where is the money?')
    assert.deepEqual([plain.usage?.prompt_tokens, plain.usage?.completion_tokens], [5, 5])

    const parts: string[] = []
    const usages: unknown[] = []
    const stream = await openai.chat.completions.create({
      ...call,
      stream: true,
      stream_options: { include_usage: true },
    })
    for await (const chunk of stream) {
      parts.push(chunk.choices[0]?.delta.content ?? '')
      if (chunk.usage) usages.push(chunk.usage.completion_tokens)
    }
    assert.equal(parts.join(''), 'Where is the money?')
    assert.deepEqual(usages, [5])

    // 5 × 1 + 5 × 2 USD per million, twice.
    const rows = await rowsOf(service, tenant, 2)
    assert.deepEqual(
      rows.map(row => row.usd),
      ['0.000015', '0.000015'],
    )
    await auditBooks(service)
  })

  await t.test('an output limit is obeyed and reported as length', async () => {
    const tenant = await makeTenant(service, 'sdk', '1')
    const answer = await client(service, tenant.key).chat.completions.create({ ...call, max_tokens: 2 })
    assert.deepEqual(
      [answer.choices[0]?.message.content, answer.choices[0]?.finish_reason, answer.usage?.completion_tokens],
      ['Where is', 'length', 2],
    )
  })

  await t.test('a spent budget is the client’s own error with status 402, asked once', async () => {
    const tenant = await makeTenant(service, 'sdk', '0')
    const failure = await client(service, tenant.key)
      .chat.completions.create(call)
      .catch((error: unknown) => error)
    assert.ok(failure instanceof APIError)
    assert.deepEqual([failure.status, failure.code, failure.type], [402, 'budget_exceeded', 'insufficient_quota'])
    assert.match(failure.message, /Budget exceeded/)
    const rows = await rowsOf(service, tenant, 1)
    assert.deepEqual([rows[0]?.status, rows[0]?.reason], ['blocked', 'BUDGET_EXCEEDED'])
  })

  await t.test(
    'a wrong key is an AuthenticationError, a bad request a BadRequestError, a rate a RateLimitError',
    async () => {
      const tenant = await makeTenant(service, 'sdk', '1')
      const wrong = await client(service, 'f'.repeat(64))
        .models.list()
        .catch((error: unknown) => error)
      assert.ok(wrong instanceof AuthenticationError)
      assert.equal(wrong.code, 'invalid_api_key')
      const openai = client(service, tenant.key)
      const unknown = await openai.chat.completions
        .create({ ...call, model: 'nobody-1' })
        .catch((error: unknown) => error)
      assert.ok(unknown instanceof BadRequestError)
      assert.match(unknown.message, /No provider configured for model: nobody-1/)
      await service.admin('PUT', `/admin/tenant/${tenant.id}/ratelimit`, { rateLimitPerMin: 1 })
      await setBudget(service, tenant, '1')
      const patient = new OpenAI({ apiKey: tenant.key, baseURL: `${service.url}/v1`, maxRetries: 0 })
      await patient.chat.completions.create(call)
      const rated = await patient.chat.completions.create(call).catch((error: unknown) => error)
      assert.ok(rated instanceof RateLimitError)
    },
  )
})

test('the model list is what this key can call now', async t => {
  const service = await startService(t)
  const tenant = await makeTenant(service, 'sdk', '1')
  const models: string[] = []
  for await (const model of client(service, tenant.key).models.list()) models.push(model.id)
  assert.deepEqual(models, ['echo', 'echo-priced'])
  const one = await client(service, tenant.key).models.retrieve('echo-priced')
  assert.equal(one.id, 'echo-priced')
  await service.restart({ OPENAI_KEY: 'sk-x' })
  const more = await client(service, tenant.key).models.list()
  assert.ok(more.data.some(model => model.id === 'gpt-4o-mini'))
  assert.ok(!more.data.some(model => model.id.startsWith('claude')), 'listed only what is served')
})
