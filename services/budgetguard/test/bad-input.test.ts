// What the data plane refuses, in the dialect of its caller, before anything is held.

import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { auditBooks, makeTenant, rowsOf, startService } from './kit.ts'

test('the way in', async t => {
  const service = await startService(t)

  await t.test('a compressed body is read, and __proto__ is plain data', async () => {
    const tenant = await makeTenant(service, 'acme', '1')
    const body = '{"__proto__":{"x":1},"constructor":{},"model":"echo","messages":[{"role":"user","content":"packed"}]}'
    const response = await fetch(`${service.url}/v1/chat/completions`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${tenant.key}`,
        'content-type': 'application/json',
        'content-encoding': 'gzip',
      },
      body: gzipSync(body),
    })
    assert.match(await response.text(), /"content":"packed"/)
  })

  await t.test('a header block over 16 kB is 431', async () => {
    const { port, hostname } = new URL(service.url)
    const status = await new Promise<string>((resolve, reject) => {
      const socket = connect(Number(port), hostname)
      socket.once('error', reject)
      socket.once('data', data => {
        resolve(data.toString('latin1').slice(0, 12))
        socket.destroy()
      })
      socket.write(`GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Pad: ${'x'.repeat(17_000)}\r\n\r\n`)
    })
    assert.equal(status, 'HTTP/1.1 431')
  })

  await t.test(
    'who is calling: any of the clients’ places for a key, and the missing and the wrong alike in no detail',
    async () => {
      const tenant = await makeTenant(service, 'acme', '1')
      const models = async (headers: Record<string, string>, path = '/v1/models') =>
        fetch(service.url + path, { headers })
      const { key } = tenant
      const places: Record<string, string>[] = [
        { authorization: `Bearer ${key}` },
        { 'x-api-key': key },
        { 'x-goog-api-key': key },
      ]
      for (const headers of places)
        assert.equal((await models(headers)).status, 200, JSON.stringify(Object.keys(headers)))
      const missing = await models({})
      assert.equal(missing.status, 401)
      assert.match(
        await missing.text(),
        /Authentication required\. Provide API key via Authorization header or X-API-Key header/,
      )
      const wrong = await models({ authorization: 'Bearer nope' })
      assert.match(await wrong.text(), /"message":"Invalid API key"/)
      // The other dialects are refused in their own shapes, by their own routes.
      for (const [path, shape] of [
        ['/v1/messages', /^\{"type":"error","error":\{"type":"api_error"/],
        ['/v1/responses', /"type":"server_error"/],
        ['/v1beta/models/gemini-2.5-pro:generateContent', /"status":"UNIMPLEMENTED"/],
      ] as const) {
        const response = await fetch(service.url + path, { method: 'POST', headers: { 'x-api-key': key } })
        assert.equal(response.status, 501)
        assert.match(await response.text(), shape)
      }
    },
  )
})

test('bodies that are not one plain JSON object are refused with their fault named', async t => {
  const service = await startService(t, { env: { BUDGETGUARD_BODY_LIMIT: '64KiB' } })
  const tenant = await makeTenant(service, 'acme', '1')
  const post = async (body: string | Buffer, headers: Record<string, string> = {}) => {
    const response = await fetch(`${service.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${tenant.key}`, 'content-type': 'application/json', ...headers },
      body,
    })
    const { error } = (await response.json()) as { error: { message: string; reason: string; param: string | null } }
    return { status: response.status, ...error }
  }
  const ok = '"model":"echo","messages":[{"role":"user","content":"x"}]'
  const cases: [body: string | Buffer, headers: Record<string, string>, status: number, message: RegExp][] = [
    ['', {}, 400, /body is empty/],
    ['{', {}, 400, /\(at byte 1\)/],
    ['[]', {}, 400, /must be a JSON object/],
    [`\ufeff{${ok}}`, {}, 400, /byte order mark/],
    [Buffer.from([0x7b, 0xff, 0x7d]), {}, 400, /not valid UTF-8/],
    [`{${ok},"model":"echo-priced"}`, {}, 400, /"model" is given twice/],
    [`{${ok},"x":${'['.repeat(200)}${']'.repeat(200)}}`, {}, 400, /nested deeper than 128/],
    ['{"messages":[]}', {}, 400, /model is required/],
    ['{"model":"echo"}', {}, 400, /messages is required/],
    ['{"model":"echo","messages":[]}', {}, 400, /at least one message/],
    [`{${ok},"max_tokens":0}`, {}, 400, /max_tokens must be a whole number from 1/],
    [`{${ok},"n":1.5}`, {}, 400, /n must be a whole number/],
    [`{${ok},"pad":"${'x'.repeat(70_000)}"}`, {}, 413, /larger than 65536 bytes/],
    [gzipSync(`{${ok},"pad":"${'x'.repeat(700_000)}"}`), { 'content-encoding': 'gzip' }, 413, /larger than 65536/],
    [Buffer.from('not gzip'), { 'content-encoding': 'gzip' }, 400, /not valid gzip/],
    [`{${ok}}`, { 'content-encoding': 'snappy' }, 415, /Content-Encoding snappy/],
    [`{${ok}}`, { 'content-type': 'text/plain' }, 415, /Content-Type text\/plain/],
    [`{${ok}}`, { 'content-type': 'application/json; charset=utf-16' }, 415, /send UTF-8/],
    [`{${ok}}`, { 'x-tags': 'team-a, team-b' }, 400, /^Tags not found for this tenant: team-a, team-b$/],
    [`{${ok}}`, { 'x-session-id': 's'.repeat(300) }, 400, /x-session-id is longer than 200/],
    ['{"model":"claude-sonnet-4-0","messages":[{"role":"user"}]}', {}, 501, /served by Anthropic/],
    ['{"model":"gpt-4o","messages":[{"role":"user"}]}', {}, 503, /OpenAI API key not configured/],
  ]
  for (const [body, headers, status, message] of cases) {
    const answer = await post(body, headers)
    assert.deepEqual([answer.status, message.test(answer.message)], [status, true], JSON.stringify(answer))
  }
  // Every one of them is a row but the one refused before its caller's session could be read.
  const rows = await rowsOf(service, tenant, cases.length - 1)
  assert.ok(rows.every(row => row.status !== 'success' && row.usd === '0'))
  await auditBooks(service)
})
