// What the gateway sends to a provider, and what becomes of everything a provider may answer.

import assert from 'node:assert/strict'
import { request as rawRequest } from 'node:http'
import { type TestContext, test } from 'node:test'
import { parseUsd } from '#platform/money'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { LedgerRow } from '../api.ts'
import { auditBooks, errorOf, makeTenant, rowsOf, startService, type TestService, type TestTenant } from './kit.ts'
import {
  chunk,
  completion,
  done,
  json,
  openEvents,
  startUpstream,
  type Upstream,
  usage,
  usageChunk,
} from './upstream.ts'

const providerKey = 'sk-operator-0123456789abcdef'
const body = { model: 'gpt-4o-mini', max_tokens: 20, messages: [{ role: 'user', content: 'hi' }] }

async function setUp(t: TestContext, env: Record<string, string> = {}) {
  const upstream = await startUpstream(t)
  const service = await startService(t, {
    env: { OPENAI_BASE_URL: upstream.url, OPENAI_KEY: providerKey, ...env },
  })
  return { upstream, service, tenant: await makeTenant(service, 'acme', '5') }
}

async function onlyRow(service: TestService, tenant: TestTenant): Promise<LedgerRow> {
  const [row] = await rowsOf(service, tenant, 1)
  assert.ok(row)
  return row
}
test('providers, polite and rude', async t => {
  const { upstream, service } = await setUp(t, {
    BUDGETGUARD_FIRST_BYTE_TIMEOUT: '400ms',
    BUDGETGUARD_IDLE_TIMEOUT: '400ms',
  })
  const fresh = async () => {
    upstream.seen.length = 0
    return { upstream, service, tenant: await makeTenant(service, 'acme', '5') }
  }

  await t.test('the body goes out as it came, but for what is ours; the answer comes back byte for byte', async () => {
    const { upstream, service, tenant } = await fresh()
    const text =
      '{ "messages":[{"role":"user","content":"caf\\u00e9"}], "seed": 12345678901234567890, "model":"gpt-4o-mini" }'
    const answer = '{ "id":"chatcmpl-9", "choices":[ ],  "usage":{"prompt_tokens":1000000,"completion_tokens":0}}'
    upstream.answer = (_, response) => json(response, 200, answer)
    const response = await fetch(`${service.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${tenant.key}`, 'content-type': 'application/json' },
      body: text,
    })
    assert.equal(await response.text(), answer)
    const [seen] = upstream.seen
    // The default output limit is the only addition.
    assert.equal(seen?.text, text.replace(/ }$/, ' ,"max_tokens":16384}'))
    assert.equal(seen?.headers.authorization, `Bearer ${providerKey}`)
    assert.equal(seen?.headers['x-api-key'], undefined)
    // 1 M input tokens of gpt-4o-mini.
    assert.equal(response.headers.get('x-budgetguard-cost-usd'), '0.15')
  })

  await t.test('cached input is priced as cached, and the cost in the header is the cost in the ledger', async () => {
    const { upstream, service, tenant } = await fresh()
    upstream.answer = (_, response) => completion(response, { usage: usage(1_000, 10, 600) })
    const answer = await service.chat(tenant.key, body)
    // 400 × 0.15 + 600 × 0.075 + 10 × 0.60 USD per million.
    assert.equal(answer.headers.get('x-budgetguard-cost-usd'), '0.000111')
    const row = await onlyRow(service, tenant)
    assert.deepEqual(
      [row.usd, row.promptTok, row.cachedTok, row.compTok, row.usageSource, row.status],
      ['0.000111', 1_000, 600, 10, 'reported', 'success'],
    )
    assert.equal(row.costExact, '111000000000000000')
  })

  await t.test('a stream passes byte for byte; the usage chunk only we asked for is withheld', async () => {
    const { upstream, service, tenant } = await fresh()
    const relayed = `: hello\n\n${chunk('a')}event: message\nid: 7\n${chunk('b')}${chunk('', 'stop')}`
    upstream.answer = (_, response) => {
      openEvents(response)
      response.end(relayed + usageChunk(9, 2) + done)
    }
    const answer = await service.chat(tenant.key, { ...body, stream: true })
    assert.equal(answer.text, relayed + done)
    assert.deepEqual(upstream.seen[0]?.body.stream_options, { include_usage: true })
    assert.equal((await onlyRow(service, tenant)).compTok, 2)
  })

  await t.test(
    'a caller who asks for usage gets the usage chunk, and one who asks for a report gets the cost before the end',
    async () => {
      const { upstream, service, tenant } = await fresh()
      const events = chunk('a', 'stop') + usageChunk(9, 1)
      upstream.answer = (_, response) => {
        openEvents(response)
        response.end(events + done)
      }
      const wish = { ...body, stream: true, stream_options: { include_usage: true } }
      const answer = await service.chat(tenant.key, wish, { 'x-budgetguard-report': 'comment' })
      assert.ok(answer.text.startsWith(events))
      const comment = /: budgetguard (\{.*\})\n\ndata: \[DONE\]\n\n$/.exec(answer.text)
      assert.ok(comment?.[1])
      assert.equal(JSON.parse(comment[1]).costUsd, (await onlyRow(service, tenant)).usd)
    },
  )

  await t.test('an error of the provider passes byte for byte, costs nothing and leaves a row', async () => {
    const { upstream, service, tenant } = await fresh()
    const error = '{"error": {"message":"slow down", "type":"requests","param":null,"code":"rate_limit_exceeded"}}'
    upstream.answer = (_, response) => json(response, 429, error, { 'retry-after': '7' })
    const answer = await service.chat(tenant.key, body)
    assert.equal(answer.status, 429)
    assert.equal(answer.text, error)
    assert.equal(answer.headers.get('retry-after'), '7')
    const row = await onlyRow(service, tenant)
    assert.deepEqual([row.status, row.reason, row.usd], ['failed', 'UPSTREAM_ERROR', '0'])
    await auditBooks(service)
  })

  await t.test(
    'an error that is not in the caller’s dialect is wrapped once, and never carries the operator’s key',
    async () => {
      const { upstream, service, tenant } = await fresh()
      upstream.answer = (_, response) => {
        response.writeHead(500, { 'content-type': 'text/html' })
        response.end(`<h1>bad key ${providerKey}</h1>`)
      }
      const answer = await service.chat(tenant.key, body)
      assert.equal(answer.status, 500)
      assert.equal(errorOf(answer).upstream, '<h1>bad key ***</h1>')
      assert.equal(errorOf(answer).type, 'server_error')
    },
  )

  for (const [name, misbehave] of Object.entries<Upstream['answer']>({
    'HTML with status 200': (_, response) => {
      response.writeHead(200, { 'content-type': 'text/html' })
      response.end('<html>welcome</html>')
    },
    'malformed JSON': (_, response) => json(response, 200, '{"choices":[{'),
    'a JSON array': (_, response) => json(response, 200, '[]'),
    'an error with status 200': (_, response) => json(response, 200, { error: { message: 'no' } }),
  }))
    await t.test(`${name} is answered with 502, ends the hold and leaves a failed row`, async () => {
      const { upstream, service, tenant } = await fresh()
      upstream.answer = misbehave
      for (const stream of [false, true]) {
        const answer = await service.chat(tenant.key, { ...body, stream })
        assert.equal(answer.status, 502, answer.text)
        assert.equal(errorOf(answer).reason, 'UPSTREAM_MALFORMED')
      }
      for (const row of await rowsOf(service, tenant, 2)) {
        assert.deepEqual([row.status, row.reason], ['failed', 'UPSTREAM_MALFORMED'])
        assert.ok(parseUsd(row.usd) <= parseUsd(row.heldUsd))
      }
      await auditBooks(service)
    })

  await t.test(
    'sent and never answered: 504, and the whole hold is booked, because it may all have been produced',
    async () => {
      const { upstream, service, tenant } = await fresh()
      upstream.answer = () => new Promise(() => {})
      const answer = await service.chat(tenant.key, body)
      assert.equal(answer.status, 504)
      const row = await onlyRow(service, tenant)
      assert.deepEqual([row.reason, row.usageSource, row.usd], ['UPSTREAM_TIMEOUT', 'hold', row.heldUsd])
      await auditBooks(service)
    },
  )

  await t.test('a stream cut or stalled half-way ends with an error event, and the whole hold is booked', async () => {
    const { upstream, service, tenant } = await fresh()
    const answers: Upstream['answer'][] = [
      (_, response) => {
        openEvents(response)
        response.write(chunk('half'), () => response.destroy())
      },
      (_, response) => {
        openEvents(response)
        response.end(chunk('half'))
      },
      (_, response) => {
        openEvents(response)
        response.write(chunk('half'))
      },
    ]
    for (const misbehave of answers) {
      upstream.answer = misbehave
      const answer = await service.chat(tenant.key, { ...body, stream: true })
      assert.equal(answer.status, 200)
      assert.ok(answer.text.startsWith(chunk('half')))
      const [, last = ''] = answer.text.split(chunk('half'))
      assert.match(JSON.parse(last.slice('data: '.length)).error.reason, /^UPSTREAM_(CUT|TIMEOUT)$/)
    }
    for (const row of await rowsOf(service, tenant, 3)) assert.deepEqual([row.status, row.usd], ['failed', row.heldUsd])
    await auditBooks(service)
  })

  await t.test(
    'a caller who leaves a stream stops the provider, and pays the input and what was produced',
    async () => {
      const { upstream, service, tenant } = await fresh()
      let isStopped = false
      upstream.answer = (_, response) => {
        openEvents(response)
        response.write(chunk('0123456789'))
        response.once('close', () => {
          isStopped = true
        })
      }
      await leaveAfterFirstByte(service.url, tenant.key)
      await pollUntil(() => isStopped, { what: 'the provider to be told' })
      const row = await onlyRow(service, tenant)
      assert.deepEqual(
        [row.status, row.reason, row.usageSource, row.compTok],
        ['failed', 'CLIENT_GONE', 'estimated', 10],
      )
      assert.ok(parseUsd(row.usd) > 0n && parseUsd(row.usd) <= parseUsd(row.heldUsd))
      await auditBooks(service)
    },
  )

  await t.test('a stream without a report is booked by what was seen of it, never at zero', async () => {
    const { upstream, service, tenant } = await fresh()
    upstream.answer = (_, response) => {
      openEvents(response)
      response.end(chunk('0123456789', 'stop') + done)
    }
    await service.chat(tenant.key, { ...body, stream: true })
    const row = await onlyRow(service, tenant)
    assert.deepEqual([row.status, row.usageSource, row.compTok], ['success', 'estimated', 10])
  })
})

test('a caller’s own provider key is used for its call; a model without a price is refused unless a fallback is set', async t => {
  const upstream = await startUpstream(t)
  const service = await startService(t, { env: { OPENAI_BASE_URL: upstream.url } })
  const tenant = await makeTenant(service, 'own key', '5')
  const unconfigured = await service.chat(tenant.key, body)
  assert.equal(unconfigured.status, 503)
  assert.equal(unconfigured.headers.get('x-should-retry'), 'false')
  assert.equal((await service.chat('sk-own-1', body, { 'x-api-key': tenant.key })).status, 200)
  assert.equal((await service.chat(tenant.key, body, { 'x-openai-key': 'sk-own-2' })).status, 200)
  assert.deepEqual(
    upstream.seen.map(seen => seen.headers.authorization),
    ['Bearer sk-own-1', 'Bearer sk-own-2'],
  )

  const unknown = { ...body, model: 'llama-local' }
  assert.equal(errorOf(await service.chat(tenant.key, unknown)).reason, 'MODEL_NOT_FOUND')
  await service.restart({ BUDGETGUARD_UNKNOWN_PRICE: 'fallback:10/20' })
  const answer = await service.chat('sk-own-1', unknown, { 'x-api-key': tenant.key })
  // 9 × 10 + 3 × 20 USD per million.
  assert.equal(answer.headers.get('x-budgetguard-cost-usd'), '0.00015')
  const zero = { model: 'zero', inputPrice: 0, cachedInputPrice: 0, outputPrice: 0 }
  await service.admin('POST', '/admin/model-pricing', zero)
  assert.equal(errorOf(await service.chat(tenant.key, { ...body, model: 'zero' })).reason, 'MODEL_NOT_PRICED')
  await auditBooks(service)
})

test('nobody listening: 502, nothing sent, nothing booked', async t => {
  const service = await startService(t, { env: { OPENAI_BASE_URL: 'http://127.0.0.1:1/v1', OPENAI_KEY: providerKey } })
  const tenant = await makeTenant(service, 'acme', '5')
  const answer = await service.chat(tenant.key, body)
  assert.equal(answer.status, 502)
  assert.equal(errorOf(answer).reason, 'UPSTREAM_UNREACHABLE')
  assert.equal((await onlyRow(service, tenant)).usd, '0')
  await auditBooks(service)
})

test('a provider that breaks its own limit is booked in full, flagged and counted, and only above the limit is it overspend', async t => {
  const { upstream, service, tenant } = await setUp(t)
  upstream.answer = (_, response) => completion(response, { usage: usage(9, 1_000_000) })
  await service.chat(tenant.key, body)
  const row = await onlyRow(service, tenant)
  assert.equal(row.usd, '0.60000135')
  assert.match(await service.metrics(), /^budgetguard_hold_overrun_nanousd_total\{[^}]*\} [1-9]/m)
  await auditBooks(service)
})

test('only what a broken provider limit pushes above a budget is overspend', async t => {
  const { upstream, service } = await setUp(t)
  const tenant = await makeTenant(service, 'tight', '0.1')
  upstream.answer = (_, response) => completion(response, { usage: usage(9, 1_000_000) })
  await service.chat(tenant.key, body)
  await rowsOf(service, tenant, 1)
  // 0.60000135 booked against 0.1.
  assert.match(await service.metrics(), /^budgetguard_overspend_nanousd_total 500001350$/m)
  assert.equal((await service.chat(tenant.key, body)).status, 402)
})

test('a caller who leaves before a plain answer stops the provider, and pays the whole hold: nobody saw what was produced', async t => {
  const { upstream, service, tenant } = await setUp(t)
  const asked = Promise.withResolvers<void>()
  const stopped = Promise.withResolvers<void>()
  upstream.answer = (_, response) => {
    response.once('close', () => stopped.resolve())
    asked.resolve()
  }
  const leave = new AbortController()
  const call = fetch(`${service.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${tenant.key}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
    signal: leave.signal,
  }).catch(() => undefined)
  await asked.promise
  leave.abort()
  await Promise.all([call, stopped.promise])
  const row = await onlyRow(service, tenant)
  assert.deepEqual(
    [row.status, row.reason, row.usageSource, row.usd],
    ['failed', 'CLIENT_GONE', 'estimated', row.heldUsd],
  )
  await auditBooks(service)
})

test('with ON_DISCONNECT=drain the stream is read to its end and the reported usage is booked', async t => {
  const { upstream, service, tenant } = await setUp(t, { BUDGETGUARD_ON_DISCONNECT: 'drain' })
  const left = Promise.withResolvers<void>()
  upstream.answer = async (_, response) => {
    openEvents(response)
    response.write(chunk('a'))
    await left.promise
    response.end(chunk('b', 'stop') + usageChunk(9, 5) + done)
  }
  await leaveAfterFirstByte(service.url, tenant.key)
  left.resolve()
  const row = await onlyRow(service, tenant)
  assert.deepEqual([row.status, row.usageSource, row.compTok], ['success', 'reported', 5])
  await auditBooks(service)
})

/** Opens a stream, waits for its first event, and hangs up. */
function leaveAfterFirstByte(url: string, key: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = rawRequest(
      `${url}/v1/chat/completions`,
      { method: 'POST', headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' } },
      response => {
        response.once('data', () => {
          request.destroy()
          resolve()
        })
        response.on('error', () => {})
      },
    )
    request.on('error', error => (request.destroyed ? undefined : reject(error)))
    request.end(JSON.stringify({ ...body, stream: true }))
  })
}
