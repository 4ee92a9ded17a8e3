// The API's description against the API; and what browsers ask: CORS, and the way to the console.

import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { request } from 'node:http'
import { test } from 'node:test'
import { readRoutes } from '../http/openapi.ts'
import { adminKey, entry, startService, type TestService } from './start.ts'

interface Schema {
  type?: string | string[]
  required?: string[]
  properties?: Record<string, Schema>
  items?: Schema
  $ref?: string
}
interface Document {
  paths: Record<
    string,
    Record<
      string,
      {
        parameters: { name: string; in: string }[]
        responses: Record<string, { content: Record<string, { schema: Schema }> }>
      }
    >
  >
  components: { schemas: Record<string, Schema> }
}

test('the document names the read routes that exist, no more and no fewer', () => {
  const folder = new URL('../http/', import.meta.url)
  const mine = ['search', 'histogram', 'fields', 'context-lines', 'export', 'patterns', 'tail', 'receipts']
  const files = globSync('*.ts', { cwd: folder.pathname }).filter(name => mine.includes(name.replace(/\.ts$/, '')))
  assert.equal(files.length, mine.length)
  const existing = files.flatMap(name =>
    [...readFileSync(new URL(name, folder), 'utf8').matchAll(/app\.(get|post)\('([^']+)'/g)].map(
      ([, method, path]) => `${method} ${path?.replaceAll(/:(\w+)/g, '{$1}')}`,
    ),
  )
  const described = readRoutes.flatMap(({ methods, path }) => methods.map(method => `${method} ${path}`))
  assert.deepEqual(described.toSorted(), existing.toSorted())
})

test('every route answers its example in the shape the document gives, and takes each parameter it names', async t => {
  const s = await startService(t)
  const sent = await s.post(
    '/api/v1/logs',
    JSON.stringify({ log: entry({ message: 'GET x', metadata: { status: 500 } }) }),
  )
  await s.settled()
  const { logs } = (await (await s.get('/api/v1/logs/search')).json()) as { logs: { id: string }[] }
  const document = (await (await fetch(`${s.url}/api/v1/openapi.json`)).json()) as Document
  for (const route of readRoutes) {
    const id = route.path.includes('receipts') ? (sent.headers.get('x-receipt') ?? '') : (logs[0]?.id ?? '')
    const path = route.path.replace('{id}', id).replace('{name}', 'status')
    const example = new URLSearchParams(route.example)
    for (const name of example.keys())
      assert.ok(
        route.parameters.some(known => known === name),
        `${route.path}: ${name}`,
      )
    for (const method of route.methods) {
      const operation = document.paths[route.path]?.[method]
      assert.ok(operation, route.path)
      const abort = new AbortController()
      const response = await (method === 'get'
        ? fetch(`${s.url}${path}?${example}`, { headers: { 'x-api-key': adminKey }, signal: abort.signal })
        : fetch(s.url + path, {
            method: 'POST',
            headers: { 'x-api-key': adminKey, 'content-type': 'application/json' },
            body: JSON.stringify(Object.fromEntries(example)),
            signal: abort.signal,
          }))
      assert.equal(response.status, 200, `${method} ${path}?${route.example}`)
      const { content } = operation.responses['200'] ?? { content: {} }
      const type = response.headers.get('content-type')?.split(';')[0] ?? ''
      assert.ok(content[type], `${route.path} answered ${type}`)
      if (type === 'application/json') assertShape(await response.json(), content[type].schema, document, route.path)
      else abort.abort()
    }
  }
})

function assertShape(value: unknown, schema: Schema, document: Document, where: string): void {
  if (schema.$ref !== undefined) {
    const target = document.components.schemas[schema.$ref.split('/').at(-1) ?? '']
    assert.ok(target, schema.$ref)
    assertShape(value, target, document, where)
    return
  }
  const type =
    value === null ? 'null' : Array.isArray(value) ? 'array' : Number.isInteger(value) ? 'integer' : typeof value
  const wanted = [schema.type ?? type].flat()
  assert.ok(
    wanted.includes(type) || (type === 'integer' && wanted.includes('number')),
    `${where}: ${type} is not ${wanted}`,
  )
  if (Array.isArray(value)) for (const item of value) assertShape(item, schema.items ?? {}, document, `${where}[]`)
  if (type !== 'object') return
  const members = value as Record<string, unknown>
  for (const name of schema.required ?? []) assert.ok(name in members, `${where} lacks ${name}`)
  for (const [name, inner] of Object.entries(schema.properties ?? {}))
    if (name in members) assertShape(members[name], inner, document, `${where}.${name}`)
}

test('the document has every route: each one it names exists, whoever made it', async t => {
  const s = await startService(t)
  const { paths } = (await (await fetch(`${s.url}/api/v1/openapi.json`)).json()) as Document
  for (const path of [
    '/admin/stats',
    '/auth/login',
    '/api/v1/logs/delete',
    '/api/v1/alerts/{id}',
    '/api/v1/logs/batch',
  ])
    assert.ok(paths[path], `${path} is missing`)
  for (const [path, methods] of Object.entries(paths))
    for (const method of Object.keys(methods)) {
      const abort = new AbortController()
      const response = await fetch(s.url + path.replaceAll(/\{\w+\}/g, '1'), {
        method: method.toUpperCase(),
        signal: abort.signal,
      })
      // Without a key: refused, but known.
      assert.ok(response.status !== 404 || (await response.text()) !== '{"error":"Not found"}', `${method} ${path}`)
      abort.abort()
    }
})

/** `fetch` sets no Origin of its own, and follows redirects. */
function raw(s: TestService, method: string, path: string, headers: Record<string, string>) {
  return new Promise<{ status: number; headers: Record<string, string | string[] | undefined> }>((resolve, reject) =>
    request(s.url + path, { method, headers }, response => {
      response.resume()
      resolve({ status: response.statusCode ?? 0, headers: response.headers })
    })
      .once('error', reject)
      .end(),
  )
}

test('CORS: configured origins alone, on intake and reading alike; OPTIONS of others is not found', async t => {
  const s = await startService(t, { env: { LOG_INGESTION_CORS_ORIGINS: 'https://shop.example' } })
  const preflight = { 'access-control-request-method': 'POST', 'access-control-request-headers': 'x-api-key' }
  for (const path of ['/api/v1/logs', '/api/v1/logs/search']) {
    const allowed = await raw(s, 'OPTIONS', path, { origin: 'https://shop.example', ...preflight })
    assert.equal(allowed.status, 204)
    assert.equal(allowed.headers['access-control-allow-origin'], 'https://shop.example')
    assert.equal(allowed.headers['access-control-allow-headers'], 'x-api-key')
    assert.equal((await raw(s, 'OPTIONS', path, { origin: 'https://evil.example', ...preflight })).status, 404)
    const answer = await raw(s, 'GET', path, { origin: 'https://shop.example', 'x-api-key': adminKey })
    assert.equal(answer.headers['access-control-allow-origin'], 'https://shop.example')
    const other = await raw(s, 'GET', path, { origin: 'https://evil.example', 'x-api-key': adminKey })
    assert.equal(other.headers['access-control-allow-origin'], undefined)
    assert.match(String(other.headers.vary), /Origin/)
  }
})

test('browsers are sent to the console when it is known; programs and API paths never are', async t => {
  const s = await startService(t, { env: { PURSER_BUDGETGUARD_URL: 'http://127.0.0.1:3000' } })
  const html = { accept: 'text/html,application/xhtml+xml;q=0.9,*/*;q=0.8', host: 'logs.example:8080' }
  for (const [path, location] of [
    ['/', 'http://logs.example:3000/dashboard/logs'],
    ['/logs?q=level:error', 'http://logs.example:3000/dashboard/logs?q=level:error'],
    ['/errors', 'http://logs.example:3000/dashboard/logs/errors'],
    ['/dashboard', 'http://logs.example:3000/dashboard'],
  ]) {
    const answer = await raw(s, 'GET', path ?? '', html)
    assert.deepEqual([answer.status, answer.headers.location], [302, location])
  }
  assert.equal((await raw(s, 'GET', '/api/v1/logs/search', html)).status, 401)
  assert.equal((await raw(s, 'GET', '/health', html)).status, 200)
  assert.notEqual((await raw(s, 'GET', '/', { accept: 'application/json' })).status, 302)
  // Without it the service has pages of its own, once they are built: http/own-pages.test.ts.
  const alone = await startService(t)
  assert.doesNotMatch(String((await raw(alone, 'GET', '/logs', html)).headers.location), /^http/)
})
