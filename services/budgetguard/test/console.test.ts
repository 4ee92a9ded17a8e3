// What the console stands on: its pages, the list of services, and the way to them.

import assert from 'node:assert/strict'
import { createServer, type IncomingMessage, request as rawRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type TestContext, test } from 'node:test'
import { mintToken, verifyToken } from '#platform/tenancy/token'
import { systemClock } from '#platform/time'
import type { ConsoleService } from '../api.ts'
import { adminKey, makeTenant, secret, startService, type TestService } from './kit.ts'

async function signIn(service: TestService, credential: object = { adminKey }): Promise<string> {
  const response = await fetch(`${service.url}/admin/login`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(credential),
  })
  return (response.headers.get('set-cookie') ?? '').split(';')[0] ?? ''
}

interface Seen {
  method: string
  url: string
  headers: IncomingMessage['headers']
  body: string
}

/** A service beside us that answers everything and remembers what it was asked. */
async function startNeighbour(t: TestContext) {
  const seen: Seen[] = []
  const left = Promise.withResolvers<void>()
  const server = createServer(async (request, response) => {
    const parts: Buffer[] = []
    for await (const chunk of request) parts.push(chunk)
    seen.push({
      method: request.method ?? '',
      url: request.url ?? '',
      headers: request.headers,
      body: Buffer.concat(parts).toString('utf8'),
    })
    if (request.url?.startsWith('/stream')) {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.write('data: 1\n\n')
      response.once('close', () => left.resolve())
      return
    }
    response.writeHead(request.url === '/health/detailed' ? 200 : 201, {
      'content-type': 'application/json',
      'set-cookie': 'stolen=1',
    })
    response.end('{"status":"ok","version":"1.2.3","dependencies":{}}')
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.closeAllConnections()
    return new Promise<void>(resolve => server.close(() => resolve()))
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, seen, streamLeft: left.promise }
}
test('pages', async t => {
  const service = await startService(t)

  await t.test('pages carry a strict policy; nothing but the built files can be read', async () => {
    const get = (path: string) => fetch(service.url + path, { redirect: 'manual' })
    const root = await get('/')
    assert.deepEqual([root.status, root.headers.get('location')], [302, '/dashboard'])
    for (const path of ['/dashboard', '/dashboard/usage-tracking', '/dashboard/admin/tenants']) {
      const page = await get(path)
      assert.ok([200, 503].includes(page.status))
      assert.match(page.headers.get('content-type') ?? '', /text\/html/)
      assert.match(page.headers.get('content-security-policy') ?? '', /default-src 'none'; script-src 'self'/)
      if (page.status === 503) assert.match(await page.text(), /npm run build:console/)
    }
    for (const path of [
      '/dashboard/assets/../../../../etc/passwd',
      '/dashboard/assets/%2e%2e%2f%2e%2e%2fpackage.json',
      '/dashboard/..%2f..%2fpackage.json',
      '/dashboard/assets/nothing.js',
      '/dashboard/%2e%2e/config.ts',
      '/dashboard/../../package.json',
    ])
      assert.equal(await rawStatus(service.url, path), 404, path)
  })
})

test('the way to a service carries a token of ours with the session’s role, and neither cookie nor key', async t => {
  const neighbour = await startNeighbour(t)
  const service = await startService(t, { env: { PURSER_BILLAGED_URL: neighbour.url } })
  const cookie = await signIn(service)
  const { origin } = new URL(service.url)
  neighbour.seen.length = 0
  const response = await fetch(`${service.url}/console/billaged/v1/preview?x=1%2F2`, {
    method: 'POST',
    headers: {
      cookie,
      origin,
      'content-type': 'application/json',
      authorization: 'Bearer mine',
    },
    body: '{"a":1}',
  })
  assert.equal(response.status, 201)
  assert.equal(response.headers.get('set-cookie'), null)
  assert.match(response.headers.get('content-security-policy') ?? '', /sandbox/)
  const [seen] = neighbour.seen.filter(entry => entry.url.startsWith('/v1'))
  assert.deepEqual([seen?.method, seen?.url, seen?.body], ['POST', '/v1/preview?x=1%2F2', '{"a":1}'])
  assert.equal(seen?.headers.cookie, undefined)
  assert.equal(seen?.headers['x-api-key'], undefined)
  const token = /^Bearer (pit_.*)$/.exec(seen?.headers.authorization ?? '')?.[1] ?? ''
  const claims = verifyToken(Buffer.from(secret), token, { audience: 'billaged', clock: systemClock })
  assert.deepEqual([claims?.role, claims?.subject], ['owner', 'console'])
})

test('nobody without a session gets through, and a session changes things from its own pages only', async t => {
  const neighbour = await startNeighbour(t)
  const service = await startService(t, {
    env: { PURSER_COLLECTORS: neighbour.url, PURSER_BILLAGED_URL: neighbour.url },
  })
  const path = `${service.url}/console/collectors/0/api/v1/query`
  assert.equal((await fetch(path)).status, 401)
  assert.equal((await fetch(`${service.url}/console/services`)).status, 401)
  const cookie = await signIn(service)
  assert.equal((await fetch(path, { headers: { cookie } })).status, 201)
  assert.equal((await fetch(path, { method: 'POST', headers: { cookie }, body: 'x' })).status, 403)
  assert.equal((await fetch(path, { headers: { 'x-admin-key': adminKey } })).status, 401, 'a key is no session')
  const viewer = await signIn(service, {
    token: mintToken(Buffer.from(secret), {
      audience: 'console-login',
      role: 'viewer',
      subject: 'test',
      clock: systemClock,
    }),
  })
  const { origin } = new URL(service.url)
  assert.equal((await fetch(path, { headers: { cookie: viewer } })).status, 201)
  assert.equal((await fetch(path, { method: 'POST', headers: { cookie: viewer, origin }, body: 'x' })).status, 403)
  assert.ok(neighbour.seen.every(entry => entry.method === 'GET'))
  // billaged decides by the role in its token: a viewer may ask what would be billed, which is a POST.
  const preview = `${service.url}/console/billaged/v1/preview`
  assert.equal((await fetch(preview, { method: 'POST', headers: { cookie: viewer }, body: 'x' })).status, 403)
  assert.equal((await fetch(preview, { method: 'POST', headers: { cookie: viewer, origin }, body: 'x' })).status, 201)
  const token = /^Bearer (pit_.*)$/.exec(neighbour.seen.at(-1)?.headers.authorization ?? '')?.[1] ?? ''
  const claims = verifyToken(Buffer.from(secret), token, { audience: 'billaged', clock: systemClock })
  assert.equal(claims?.role, 'viewer')
})

test('a stream arrives as it is sent, and ends upstream when the reader leaves', async t => {
  const neighbour = await startNeighbour(t)
  const service = await startService(t, { env: { PURSER_COLLECTORS: neighbour.url } })
  const cookie = await signIn(service)
  const leave = new AbortController()
  const response = await fetch(`${service.url}/console/collectors/0/stream`, {
    headers: { cookie },
    signal: leave.signal,
  })
  const reader = response.body?.getReader()
  const first = await reader?.read()
  assert.equal(Buffer.from(first?.value ?? []).toString(), 'data: 1\n\n')
  leave.abort()
  await neighbour.streamLeft
})

test('the list of services says which are there, which are off, and which do not answer', async t => {
  const neighbour = await startNeighbour(t)
  const service = await startService(t, {
    env: { PURSER_LOGS_URL: neighbour.url, PURSER_BUILDERD_URL: 'http://127.0.0.1:1' },
  })
  const response = await fetch(`${service.url}/console/services`, { headers: { cookie: await signIn(service) } })
  const services = (await response.json()) as ConsoleService[]
  assert.deepEqual(
    services.map(entry => [entry.name, entry.path, entry.status, entry.version]),
    [
      ['budgetguard', '', 'ok', '0.0.0'],
      ['log-ingestion', '/console/logs', 'ok', '1.2.3'],
      ['billaged', '/console/billaged', 'off', null],
      ['builderd', '/console/builderd', 'down', null],
      ['metrics-collector', '/console/collectors/0', 'off', null],
    ],
  )
})

/** fetch would tidy the path up before sending it. */
function rawStatus(url: string, path: string): Promise<number | undefined> {
  const { hostname, port } = new URL(url)
  return new Promise((resolve, reject) => {
    rawRequest({ hostname, port, path }, response => {
      response.resume()
      resolve(response.statusCode)
    })
      .once('error', reject)
      .end()
  })
}

test('no key is in any answer or log line', async t => {
  const operatorKey = 'sk-operator-secret-0123456789'
  const service = await startService(t, { env: { OPENAI_KEY: operatorKey, OPENAI_BASE_URL: 'http://127.0.0.1:1/v1' } })
  const tenant = await makeTenant(service, 'quiet', '1')
  const own = 'sk-callers-own-0123456789'
  const answers = [
    await service.chat(tenant.key),
    await service.chat(tenant.key, { model: 'gpt-4o' }),
    await service.chat('0'.repeat(64)),
    await service.chat(own, { model: 'gpt-4o' }, { 'x-api-key': tenant.key }),
  ]
  const pages = await Promise.all(
    ['/admin/tenant', '/admin/holds', '/admin/usage/ledger', `/admin/tenant/${tenant.id}/apikeys`, '/admin/me'].map(
      async path => (await fetch(service.url + path, { headers: { 'x-admin-key': adminKey } })).text(),
    ),
  )
  const metrics = await service.metrics()
  await service.close()
  const heads = answers.map(answer => answer.text + JSON.stringify([...answer.headers]))
  const everything = [...heads, ...pages, metrics, ...service.lines].join('\n')
  for (const key of [tenant.key, operatorKey, own, adminKey, secret]) assert.ok(!everything.includes(key), key)
})
