import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createBrowserDoor } from './browser.ts'
import { readOwnPages } from './own-pages.ts'

test('a service that runs alone serves the built log screens to browsers, and says in the page that it does', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'purser-pages-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  assert.equal(readOwnPages(join(folder, 'none/')), undefined, 'not built')
  await mkdir(join(folder, 'assets'))
  await writeFile(join(folder, 'index.html'), '<!doctype html>\n<head><title>x</title></head>')
  await writeFile(join(folder, 'assets/index-12345678.js'), 'js')
  await writeFile(join(folder, 'assets/mark.svg'), '<svg/>')
  await writeFile(join(folder, 'notes.txt'), 'not for anybody')
  const ownPages = readOwnPages(`${folder}/`)
  assert.ok(ownPages)
  const door = createBrowserDoor({ origins: () => [], consoleUrl: undefined, ownPages })
  const server = createServer((request, response) => {
    if (!door(request, response)) response.writeHead(404).end()
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.after(() => server.close())
  const address = server.address()
  const url = `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`
  const get = async (path: string, accept = 'text/html', method = 'GET') => {
    const answer = await fetch(url + path, { method, headers: { accept }, redirect: 'manual' })
    return { status: answer.status, headers: answer.headers, text: await answer.text() }
  }
  for (const path of ['/dashboard', '/dashboard/logs?q=x', '/dashboard/logs/errors']) {
    const page = await get(path)
    assert.equal(page.status, 200, path)
    assert.match(page.text, /<head>\s*<meta name="served-by" content="log-ingestion" \/><title>x/)
    assert.match(page.headers.get('content-security-policy') ?? '', /default-src 'none'.*frame-ancestors 'none'/)
  }
  for (const [path, location] of [
    ['/', '/dashboard/logs'],
    ['/logs?q=level:error', '/dashboard/logs?q=level:error'],
    ['/errors', '/dashboard/logs/errors'],
  ] as const) {
    const page = await get(path)
    assert.deepEqual([page.status, page.headers.get('location')], [302, location])
    assert.equal((await get(path, 'application/json')).status, 404, 'to programs it is what it was')
  }
  assert.match(
    (await get('/dashboard/assets/index-12345678.js', '*/*')).headers.get('cache-control') ?? '',
    /immutable/,
  )
  assert.equal((await get('/assets/mark.svg', '*/*')).headers.get('content-type'), 'image/svg+xml')
  for (const path of ['/dashboard/notes.txt', '/assets/none.js', '/dashboard/%2Fetc'])
    assert.equal((await get(path)).status, 404, path)
  assert.equal((await get('/dashboard', 'text/html', 'POST')).status, 404)
  assert.equal((await get('/api/v1/logs/search')).status, 404)
})
