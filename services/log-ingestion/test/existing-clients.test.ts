// The clients that already send: stand-ins for the npm client, the Ruby client and a widely copied Rails snippet, each with
// that one's habits of batching and resending, through what happens on a bad day. On both storages nothing may be missing and
// nothing may be there twice.

import assert from 'node:assert/strict'
import { request as httpRequest } from 'node:http'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { testDatabase } from '../../../test/kit/database.ts'
import { pollUntil } from '../../../test/kit/poll.ts'
import { unusedPort } from '../../../test/kit/ports.ts'
import { startService, type TestService, writeKey } from './start.ts'
import { tcpProxy } from './tcp-proxy.ts'

interface Entry {
  timestamp: string
  service: string
  level: string
  message: string
  metadata?: object
}

const entryOf = (message: string): Entry => ({
  timestamp: new Date().toISOString(),
  service: 'shop',
  level: 'INFO',
  message,
  metadata: { pid: 7 },
})

interface Heard {
  status: number
  headers: Record<string, string | string[] | undefined>
  body: string
}

/** As clients on top of sockets send: no keep-alive, and a broken connection is an error. */
function post(url: string, path: string, body: object, headers: Record<string, string>): Promise<Heard> {
  const text = JSON.stringify(body)
  return new Promise((resolve, reject) => {
    const sent = httpRequest(
      url + path,
      {
        method: 'POST',
        agent: false,
        headers: { 'content-type': 'application/json', 'x-api-key': writeKey, ...headers },
      },
      answer => {
        let said = ''
        answer.setEncoding('utf8').on('data', piece => {
          said += piece
        })
        answer.on('error', reject)
        answer.on('end', () => resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body: said }))
      },
    )
    sent.on('error', reject)
    sent.end(text)
  })
}

const waitMsOf = ({ headers }: Heard) => Number(headers['retry-after']) * 1_000

/** Ten entries or a timer; back into the queue on 429 alone, gone on anything else. */
async function npmClient(url: string, messages: readonly string[]): Promise<{ dropped: number; refused: number }> {
  let queue = messages.map(entryOf)
  const counts = { dropped: 0, refused: 0 }
  while (queue.length > 0) {
    const taken = queue.slice(0, 10)
    queue = queue.slice(10)
    const heard = await post(url, '/api/v1/logs/batch', { logs: taken }, { 'user-agent': 'node' }).catch(
      () => undefined,
    )
    if (heard?.status === 429) {
      counts.refused++
      queue = [...taken, ...queue]
      await sleep(waitMsOf(heard))
    } else if (heard === undefined || heard.status >= 300) counts.dropped += taken.length
  }
  return counts
}

/** Sends the same bytes again after a 429 and after a network error, never after anything else. */
async function rubyClient(url: string, batches: readonly (readonly string[])[]): Promise<{ failed: number[] }> {
  const failed: number[] = []
  for (const messages of batches) {
    const logs = messages.map(entryOf)
    for (;;) {
      const heard = await post(url, '/api/v1/logs/batch', { logs }, { 'user-agent': 'Ruby' }).catch(() => undefined)
      if (heard === undefined || heard.status === 429) {
        await sleep(heard ? waitMsOf(heard) : 20)
        continue
      }
      if (heard.status >= 300) failed.push(heard.status)
      break
    }
  }
  return { failed }
}

/** Only 200 and 201 are success to it: after a 202 it sends the same entry three times more. */
async function railsSnippet(url: string, messages: readonly string[]): Promise<Heard[]> {
  const heard: Heard[] = []
  for (const message of messages) {
    const log = entryOf(message)
    for (let tries = 0; tries < 4; tries++) {
      const answer = await post(url, '/api/v1/logs', { log }, { 'user-agent': 'Ruby' })
      heard.push(answer)
      if (answer.status === 200 || answer.status === 201) break
    }
  }
  return heard
}

const numbered = (count: number, name: string) => Array.from({ length: count }, (_, at) => `${name} ${at}`)

/** Every message there is, as often as it is there. */
async function stored(s: TestService): Promise<string[]> {
  await s.settled()
  const exported = await s.get('/api/v1/logs/export?format=ndjson&from=-1h&fields=message')
  assert.equal(exported.status, 200)
  const text = await exported.text()
  return text
    .split('\n')
    .filter(line => line !== '')
    .map(line => (JSON.parse(line) as { message: string }).message)
    .sort()
}

async function behindProxy(t: TestContext, env: Record<string, string>) {
  const database = await testDatabase(t)
  const proxy = await tcpProxy(t, database.url)
  const port = String(await unusedPort())
  const s = await startService(t, {
    databaseUrl: proxy.url,
    env: { LOG_INGESTION_SERVER_PORT: port, ...env },
  })
  return { s, proxy }
}

for (const storage of ['rows', 'columnar'])
  test(`${storage}: the npm client loses nothing to rate limits and to a database that goes and comes`, async t => {
    const { s, proxy } = await behindProxy(t, {
      LOG_INGESTION_STORAGE: storage,
      LOG_INGESTION_RATELIMIT_ENABLED: 'true',
      LOG_INGESTION_RATELIMIT_DEFAULT_RPS: '2',
      LOG_INGESTION_RATELIMIT_BURST: '3',
    })
    proxy.down()
    // Several processes of one application; one alone may be slower than its limit.
    const messages = Array.from({ length: 6 }, (_, at) => numbered(30, `npm ${at}`))
    const sent = await Promise.all(messages.map(own => npmClient(s.url, own)))
    proxy.up()
    // Whoever reads is limited as well, and what waits in the journal survives a restart.
    await s.restart({ LOG_INGESTION_RATELIMIT_ENABLED: 'false' })
    assert.deepEqual(
      sent.map(({ dropped }) => dropped),
      messages.map(() => 0),
      'it drops on any answer but 202 and 429',
    )
    assert.ok(
      sent.some(({ refused }) => refused > 0),
      'nothing was refused',
    )
    assert.deepEqual(await stored(s), messages.flat().toSorted())
  })

for (const storage of ['rows', 'columnar'])
  test(`${storage}: the Ruby client’s resends over a restart are stored once`, async t => {
    const { s } = await behindProxy(t, { LOG_INGESTION_STORAGE: storage })
    const messages = numbered(600, 'ruby')
    const batches = Array.from({ length: 60 }, (_, at) => messages.slice(at * 10, at * 10 + 10))
    const { url } = s
    const sending = rubyClient(url, batches)
    await pollUntil(async () => (await stored(s)).length > 0, { what: 'the first batch', everyMs: 20 })
    await s.restart()
    assert.deepEqual((await sending).failed, [], 'it gives up on any answer but 202 and 429')
    assert.deepEqual(await stored(s), messages.toSorted())
  })

for (const storage of ['rows', 'columnar'])
  test(`${storage}: the Rails snippet, which takes 202 for failure, has each entry stored once`, async t => {
    const { s } = await behindProxy(t, { LOG_INGESTION_STORAGE: storage })
    const messages = numbered(5, 'rails')
    const heard = await railsSnippet(s.url, messages)
    assert.deepEqual(
      heard.map(({ status, body }) => `${status} ${body}`),
      heard.map(() => '202 {"message":"Log accepted"}'),
    )
    assert.deepEqual(
      heard.map(({ headers }) => headers['x-duplicate']),
      messages.flatMap(() => [undefined, 'true', 'true', 'true']),
    )
    assert.deepEqual(await stored(s), messages.toSorted())
  })
