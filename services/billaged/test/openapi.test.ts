import assert from 'node:assert/strict'
import test from 'node:test'
import { routeScopes } from '../http/authorize.ts'
import { routeDocs } from '../http/openapi.ts'
import { startBilling } from './kit.ts'

test('/openapi.json names every route, its scope and its parameters, and no other', async t => {
  const billing = await startBilling(t)
  const { status, body } = await billing.api('GET', '/openapi.json', undefined, null)
  assert.equal(status, 200)
  const { paths } = body as {
    paths: Record<
      string,
      Record<string, { summary: string; security: object[]; parameters?: { in: string; name: string }[] }>
    >
  }
  const routes = Object.keys(routeScopes).filter(route => !route.includes('*'))
  // Words about routes that are gone; a route without words is in the document all the same.
  assert.deepEqual(
    Object.keys(routeDocs).filter(route => !routes.includes(route)),
    [],
  )
  const documented = Object.entries(paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, operation]) => {
      const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name)
      const given = (operation.parameters ?? []).filter(one => one.in === 'path').map(one => one.name)
      assert.deepEqual(given, names)
      return `${method.toUpperCase()} ${path.replace(/\{(\w+)\}/g, ':$1')}`
    }),
  )
  assert.deepEqual(documented.toSorted(), routes.toSorted())
  // What is open in the document is open at the door, and nothing else is.
  for (const [path, operations] of Object.entries(paths)) {
    if (path === '/health/detailed' || operations.get === undefined) continue
    const reply = await billing.api('GET', path.replace(/\{\w+\}/g, 'x'), undefined, null)
    assert.equal(reply.status === 401, operations.get.security.length > 0, path)
  }
})
