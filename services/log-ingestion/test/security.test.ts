// Names and texts that want to be SQL, and secrets looked for in every byte that the service wrote. That webhooks reach no
// denied network and follow no redirect is in rules.test.ts, beside the alerts they belong to.

import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { testBase } from '../../../test/kit/base.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { adminKey, batch, entry, startService } from './start.ts'

const hostile = [
  `'; DROP TABLE logs; --`,
  `") OR 1=1 --`,
  `$1`,
  `\\'; SELECT pg_sleep(60); --`,
  `a->>'b'`,
  `%_\\`,
  `{}[]"quoted"`,
  `__proto__`,
  'x'.repeat(300),
]

test('G27: names and values that want to be SQL are names and values, on every way to ask', async t => {
  for (const storage of ['rows', 'columnar']) {
    const s = await startService(t, { env: { LOG_INGESTION_STORAGE: storage } })
    const entries = hostile.map((name, i) => entry({ message: `${name} ${i}`, metadata: { [name]: name, n: i } }))
    assert.equal((await s.post('/api/v1/logs/batch', batch(...entries, entry()))).status, 202)
    await s.settled()
    const quoted = (text: string) => JSON.stringify(text)
    const found = async (q: string) => {
      const response = await s.post('/api/v1/logs/search', JSON.stringify({ q }), {
        'x-api-key': adminKey,
        'content-type': 'application/json',
      })
      const text = await response.text()
      assert.equal(response.status, 200, `${q}: ${text}`)
      return (JSON.parse(text) as { logs: { metadata: { n?: number } | null }[] }).logs.map(log => log.metadata?.n)
    }
    for (const [i, name] of hostile.entries()) {
      assert.deepEqual(await found(`${quoted(name)}:${quoted(name)}`), [i], `${storage}: ${name}`)
      assert.ok((await found(quoted(`${name} ${i}`))).includes(i), `${storage}: text ${name}`)
      assert.deepEqual(await found(`service:${quoted(name)}`), [], `${storage}: service ${name}`)
      const part = encodeURIComponent(name)
      for (const path of [
        `/api/v1/logs/fields/${part}/values`,
        `/api/v1/logs/histogram?by=${part}`,
        `/api/v1/logs/search?order=${part}`,
        `/api/v1/logs/search?fields=${part}`,
        `/api/v1/logs/search?cursor=${part}`,
        `/api/v1/logs/search?from=${part}`,
        `/api/v1/logs/${part}`,
        `/api/v1/receipts/${part}`,
        `/admin/logs/recent?limit=${part}`,
        `/admin/metrics?range=${part}&interval=${part}`,
        `/loki/api/v1/label/${part}/values`,
      ]) {
        const { status } = await s.get(path)
        assert.ok([200, 400, 404, 414].includes(status), `${storage}: ${path} is ${status}`)
      }
    }
    assert.equal((await found('')).length, hostile.length + 1, 'nothing is gone, nothing is more')
  }
})

test('G27: secrets and redacted values are in no log line, metric, error or file', async t => {
  const secret = (name: string) => `${name}-4c1d7e90a2b35f68`
  const names = ['write', 'admin', 'jwt-secret-of-some-length', 'redis', 'guess', 'password', 'card', 'header']
  const lines: string[] = []
  const said: string[] = []
  const s = await startService(t, {
    base: testBase(t, { lines }),
    env: {
      LOG_INGESTION_API_KEYS: secret('write'),
      LOG_INGESTION_ADMIN_API_KEYS: secret('admin'),
      LOG_INGESTION_JWT_SECRET: secret('jwt-secret-of-some-length'),
      REDIS_URL: `redis://user:${secret('redis')}@127.0.0.1:9/0`,
      LOG_INGESTION_SELF_LOGS: 'true',
      LOG_INGESTION_REDACT_KEYS: 'card_holder',
    },
  })
  const ask = async (path: string, body: string | undefined, headers: Record<string, string>) => {
    const response = await fetch(s.url + path, { headers, ...(body === undefined ? {} : { method: 'POST', body }) })
    said.push(JSON.stringify([...response.headers]), await response.text())
    return response.status
  }
  const metadata = { password: secret('password'), deep: [{ 'Card-Holder': secret('card') }] }
  const good = batch(entry({ message: 'kept', metadata }))
  assert.equal(await ask('/api/v1/logs/batch', good, { 'x-api-key': secret('write') }), 202)
  for (const path of ['/api/v1/logs', '/loki/api/v1/push', '/v1/logs', '/_bulk', '/api/v2/logs', '/admin/stats']) {
    assert.ok((await ask(path, '{', { 'x-api-key': secret('guess') })) >= 400)
    assert.ok((await ask(path, `{"log":{"password":"${secret('password')}`, { 'x-api-key': secret('write') })) >= 400)
  }
  await ask(`/v1/input/${secret('guess')}`, '{}', {})
  await ask('/api/v1/logs/search?q=(', undefined, { 'x-api-key': secret('admin') })
  await ask('/admin/login', JSON.stringify({ email: 'a@b.example', password: secret('password') }), {
    'content-type': 'application/json',
    authorization: `Bearer ${secret('header')}`,
  })
  await pollUntil(() => lines.some(line => line.includes('Redis is away')), { what: 'a word about Redis' })
  const metrics = await (await fetch(`${s.url}/metrics`)).text()
  const health = await (await fetch(`${s.url}/health`)).text()
  const stored = await s.sql<{ row: string }[]>`SELECT logs::text AS row FROM logs`
  await s.stop()
  const files = (await readdir(s.dir, { recursive: true, withFileTypes: true })).filter(file => file.isFile())
  assert.ok(files.some(file => file.name.endsWith('.journal')))
  const places = [
    ['a log line', lines.join('\n')],
    ['an answer', said.join('\n')],
    ['the metrics', metrics],
    ['the health', health],
    ['the table', stored.map(({ row }) => row).join('\n')],
    ...(await Promise.all(
      files.map(async file => [file.name, await readFile(join(file.parentPath, file.name), 'latin1')] as const),
    )),
  ] as const
  for (const name of names)
    for (const [place, text] of places) assert.ok(!text.includes(secret(name)), `${name} is in ${place}`)
})

test('G26: no route, id, cursor, receipt or parameter shows or changes what is another tenant’s', async t => {
  const s = await startService(t)
  const marker = 'belongs-to-public'
  const ours = { 'x-api-key': adminKey, 'content-type': 'application/json' }
  const theirs = { 'x-api-key': 'acme-admin-key', 'content-type': 'application/json' }
  const call = async (method: string, path: string, headers: Record<string, string>, body?: object) => {
    const response = await fetch(s.url + path, { method, headers, ...(body ? { body: JSON.stringify(body) } : {}) })
    return { status: response.status, text: await response.text(), headers: response.headers }
  }
  const made: Record<string, string> = {}
  const make = async (path: string, body: object) => {
    const { status, text } = await call('POST', path, ours, body)
    assert.ok(status < 300, `${path}: ${text}`)
    const { id } = JSON.parse(text) as { id: string | number }
    made[path] = String(id)
  }
  const sent = await call('POST', '/api/v1/logs', ours, { log: entry({ message: marker, metadata: { marker } }) })
  made['/api/v1/receipts'] = sent.headers.get('x-receipt') ?? ''
  await call('POST', '/api/v2/logs', ours, [{ message: marker, ddsource: 1, date: 'never' }, 7])
  await s.settled()
  await make('/api/v1/searches', { name: marker, q: marker })
  await make('/api/v1/alerts', { name: marker, q: marker, kind: 'count', threshold: 1, window: '1m' })
  await make('/api/v1/retention', { service: marker, keep: '40d' })
  await make('/api/v1/redaction', { name: 'of-public', pattern: marker, keys: [] })
  await make('/api/v1/limits', { key: marker, rows_per_second: 1_000_000 })
  await make('/admin/api/keys', { name: marker })
  const error = { class: marker, message: marker, backtrace: [] }
  await make('/api/v1/notices', { notifier: {}, error, request: {}, server: {} })
  const page = await call('GET', '/api/v1/logs/search?limit=1', ours)
  const { logs, cursor } = JSON.parse(page.text) as { logs: { id: string }[]; cursor: string | null }
  made['/api/v1/logs'] = String(logs[0]?.id)
  const ids = [...new Set(Object.values(made))]

  const { paths } = JSON.parse((await call('GET', '/api/v1/openapi.json', ours)).text) as {
    paths: Record<string, Record<string, unknown>>
  }
  const endless = /\/(tail|export)$|openapi/
  /** Everything of public that is listed anywhere, to be the same afterwards. */
  const inventory = async () => {
    const lists = Object.keys(paths).filter(path => paths[path]?.get && !path.includes('{') && !endless.test(path))
    const kept = lists.filter(path => /searches|retention|redaction|limits|keys|faults|quarantine|recent/.test(path))
    return await Promise.all(kept.map(async path => `${path} ${(await call('GET', path, ours)).text}`))
  }
  const before = await inventory()
  assert.ok(before.filter(text => text.includes(marker)).length >= 5, before.join('\n'))
  let tried = 0
  for (const [path, operations] of Object.entries(paths)) {
    if (endless.test(path)) continue
    const concrete = path.includes('{') ? ids.map(id => path.replaceAll(/\{\w+\}/g, encodeURIComponent(id))) : [path]
    for (const method of Object.keys(operations).map(name => name.toUpperCase()))
      for (const at of concrete) {
        // Sending is no reading, and signing in has its own tests.
        if (method === 'POST' && /\/auth\/|login|push|\/logs(\/batch|\/ndjson)?$|insert|_bulk/.test(path)) continue
        const query = `${at.includes('?') ? '&' : '?'}tenant=public&from=-1d${cursor ? `&cursor=${cursor}` : ''}`
        const body = method === 'GET' ? undefined : { name: 'x', q: '*', reason: 'x', from: '-1d', to: 'now' }
        const { status, text } = await call(method, at + query, theirs, body)
        tried++
        assert.ok(!text.includes(marker), `${method} ${at}: ${status} ${text}`)
        assert.ok(status < 500, `${method} ${at}: ${status} ${text}`)
      }
  }
  assert.ok(tried > 100, `${tried} requests`)
  for (const path of ['/api/v1/receipts', '/api/v1/logs', '/api/v1/searches', '/api/v1/alerts', '/api/v1/faults']) {
    const id = made[path] ?? made['/api/v1/notices'] ?? ''
    assert.equal((await call('GET', `${path}/${encodeURIComponent(id)}`, theirs)).status === 200, false, path)
  }
  assert.deepEqual(await inventory(), before, 'nothing of public changed')
  // Its state moves by itself.
  const alert = await call('GET', `/api/v1/alerts/${made['/api/v1/alerts']}`, ours)
  assert.deepEqual([alert.status, alert.text.includes(marker)], [200, true])
})
