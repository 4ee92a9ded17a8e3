import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addressOf, failureFrom } from './http.ts'
import { serviceUrl } from './service-url.ts'

const answer = (status: number, body: unknown, headers: Record<string, string> = {}) =>
  new Response(typeof body === 'string' ? body : JSON.stringify(body), { status, headers })

test('every service is reached on this origin, and empty parameters stay out of the address', () => {
  assert.equal(
    addressOf({
      service: 'log-ingestion',
      path: '/api/v1/logs/search',
      params: { q: 'a b', cursor: undefined, from: '' },
    }),
    '/console/logs/api/v1/logs/search?q=a+b',
  )
  assert.equal(addressOf({ service: 'metrics-collector', index: 3, path: '/health' }), '/console/collectors/3/health')
  assert.equal(addressOf({ service: 'budgetguard', path: '/admin/me' }), '/admin/me')
})

test("a failure keeps the service's own sentence, whichever of our shapes it came in", async () => {
  const cases: [unknown, string, string][] = [
    [{ error: 'Bad', detail: 'limit is 5; at most 3', reason: 'TOO_LARGE' }, 'limit is 5; at most 3', 'TOO_LARGE'],
    [{ error: 'Invalid request body', details: 'unexpected EOF' }, 'unexpected EOF', ''],
    [{ error: 'Unauthorized', message: 'Sign in first', reason: 'UNAUTHORIZED' }, 'Sign in first', 'UNAUTHORIZED'],
    [{ code: 'not_found', message: 'build not found: x' }, 'build not found: x', 'not_found'],
    [{ error: { message: 'no', reason: 'BUDGET_EXCEEDED' } }, 'no', 'BUDGET_EXCEEDED'],
    [{ status: 'error', errorType: 'bad_data', error: 'unexpected ")"' }, 'unexpected ")"', ''],
  ]
  for (const [body, message, reason] of cases) {
    const failure = await failureFrom('billaged', answer(400, body))
    assert.deepEqual([failure.message, failure.reason, failure.kind], [message, reason, 'invalid'])
  }
})

test('what a failure means for the page follows from its status, also when the body is no JSON of ours', async () => {
  const kinds: [number, string][] = [
    [401, 'signed-out'],
    [403, 'forbidden'],
    [404, 'missing'],
    [429, 'busy'],
    [500, 'failed'],
    [501, 'unimplemented'],
    [502, 'away'],
    [503, 'away'],
    [504, 'away'],
  ]
  for (const [status, kind] of kinds) {
    const failure = await failureFrom('builderd', answer(status, '<html>proxy page</html>'))
    assert.equal(failure.kind, kind)
    assert.match(failure.message, new RegExp(`^builderd answered ${status}`))
  }
  assert.equal(
    (await failureFrom('builderd', answer(404, { code: 'unimplemented', message: 'not yet' }))).kind,
    'unimplemented',
  )
  assert.equal((await failureFrom('log-ingestion', answer(429, {}, { 'retry-after': '7' }))).retryAfterS, 7)
  assert.equal((await failureFrom('log-ingestion', answer(429, {}, { 'retry-after': 'soon' }))).retryAfterS, null)
})

test('the addresses shown for curl move with the console, as the ports of one machine do', () => {
  const page = { protocol: 'http:', hostname: 'example.test', port: '3000' }
  assert.equal(serviceUrl('log-ingestion', page), 'http://example.test:8080')
  assert.equal(serviceUrl('billaged', { ...page, port: '23000' }), 'http://example.test:28081')
  assert.equal(serviceUrl('budgetguard', { ...page, protocol: 'https:', port: '' }), 'https://example.test')
  assert.equal(serviceUrl('builderd', { ...page, protocol: 'https:', port: '' }), 'http://example.test:8082')
})
