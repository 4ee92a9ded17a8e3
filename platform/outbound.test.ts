import assert from 'node:assert/strict'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type TestContext, test } from 'node:test'
import { deniedNetworks } from './network.ts'
import { postOutbound } from './outbound.ts'

const nothing = deniedNetworks([])

async function listen(t: TestContext, answer: RequestListener): Promise<string> {
  const server = createServer(answer)
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const post = (url: string, more: object = {}) =>
  postOutbound({ url, body: '{"a":1}', headers: { 'x-one': '1' }, denied: nothing, timeoutMs: 5_000, ...more })

test('a body arrives whole with its headers, and only a 2xx is well', async t => {
  const seen: string[] = []
  const url = await listen(t, (request, response) => {
    request.on('data', (chunk: Buffer) => seen.push(`${request.headers['x-one']} ${chunk}`))
    request.on('end', () => response.writeHead(request.url === '/no' ? 500 : 204).end())
  })
  assert.deepEqual(await post(url), { status: 204, problem: null })
  assert.deepEqual(await post(`${url}/no`), { status: 500, problem: 'answered 500' })
  assert.deepEqual(seen, ['1 {"a":1}', '1 {"a":1}'])
})

test('a redirect is not followed', async t => {
  let followed = 0
  const inner = await listen(t, (_, response) => {
    followed++
    response.end()
  })
  const url = await listen(t, (_, response) => response.writeHead(307, { location: inner }).end())
  assert.deepEqual(await post(url), { status: 307, problem: 'answered 307; redirects are not followed' })
  assert.equal(followed, 0)
})

test('a denied address is not dialled, whether written or behind a name', async t => {
  let asked = 0
  const url = await listen(t, (_, response) => {
    asked++
    response.end()
  })
  const denied = deniedNetworks(['127.0.0.0/8', '::1'])
  for (const host of ['127.0.0.1', 'localhost', '[::ffff:127.0.0.1]', '0x7f000001']) {
    const outcome = await post(url.replace('127.0.0.1', host), { denied })
    assert.match(outcome.problem ?? '', /WEBHOOK_DENY forbids it/, host)
  }
  assert.equal(asked, 0)
})

test('silence ends at the time-out, and an endless answer costs bounded bytes', async t => {
  const silent = await listen(t, () => {})
  assert.deepEqual(await post(silent, { timeoutMs: 50 }), { status: null, problem: 'no answer within 0.05 s' })
  const endless = await listen(t, (_, response) => {
    const more = () => {
      while (!response.destroyed && response.write('x'.repeat(16_384))) {}
    }
    response.on('drain', more)
    more()
  })
  assert.deepEqual(await post(endless), { status: 200, problem: null })
})
