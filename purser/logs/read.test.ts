// The reading subcommands as users run them, against the real service.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { adminKey, batch, entry, startService, type TestService } from '../../services/log-ingestion/test/start.ts'
import { pollUntil } from '../../test/kit/poll.ts'
import { unusedPort } from '../../test/kit/ports.ts'

const main = new URL('../main.ts', import.meta.url).pathname

function start(t: TestContext, s: TestService, args: readonly string[]) {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', main, 'logs', ...args], {
    env: {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
      PURSER_LOGS_URL: s.url,
      PURSER_LOGS_KEY: adminKey,
    },
  })
  t.after(() => child.kill('SIGKILL'))
  const said = { out: '', err: '' }
  child.stdout.setEncoding('utf8').on('data', text => {
    said.out += text
  })
  child.stderr.setEncoding('utf8').on('data', text => {
    said.err += text
  })
  const exited = new Promise<number | null>(resolve => child.once('close', resolve))
  return { child, said, exited }
}

async function run(t: TestContext, s: TestService, ...args: string[]) {
  const { said, exited } = start(t, s, args)
  const code = await exited
  return { code, ...said }
}

test('--help of a subcommand says what it takes and who is asked; behind -- it is a word', async t => {
  const s = await startService(t)
  const help = await run(t, s, 'search', '--help')
  assert.deepEqual([help.code, help.err], [0, ''])
  assert.match(help.out, /^Usage: purser logs search QUERY .*--url or PURSER_LOGS_URL.*--key or PURSER_LOGS_KEY/s)
  assert.deepEqual(await run(t, s, 'search', '--', '--help'), { code: 0, out: '', err: '' })
})

test('who has seen enough of the output ends the command without a word', async t => {
  const s = await startService(t)
  for (let i = 0; i < 3; i++)
    await s.post(
      '/api/v1/logs/batch',
      batch(...Array.from({ length: 300 }, () => entry({ message: 'x'.repeat(1_000) }))),
    )
  await s.settled()
  for (const args of [['export'], ['search', '--limit', '1000'], ['search', '--limit', '1000', '--json']]) {
    const { child, said, exited } = start(t, s, args)
    child.stdout.once('data', () => child.stdout.destroy())
    const code = await exited
    assert.ok(code === 141 || code === 0, `${args.join(' ')}: ${code}`)
    assert.equal(said.err, '', args.join(' '))
  }
})

test('search and export: lines for people, exact JSON for programs, refusals with the query mended', async t => {
  const s = await startService(t)
  const big = '12345678901234567890.10'
  await s.post(
    '/api/v1/logs/batch',
    `{"logs":[${JSON.stringify(entry({ message: 'cart failed', level: 'error' }))},{"timestamp":"${new Date().toISOString()}","service":"shop","level":"info","message":"big","metadata":{"n":${big}}}]}`,
  )
  await s.settled()
  const people = await run(t, s, 'search', 'level:error', 'cart')
  assert.deepEqual([people.code, people.err], [0, ''])
  assert.match(people.out, /^\S+Z ERROR shop cart failed\n$/)
  const negated = await run(t, s, 'search', '-cart', '--json')
  assert.ok(negated.out.includes(`"n":${big}`), 'no digit is lost')
  assert.equal(
    (await run(t, s, 'search', '--limit', '1')).err,
    'more than 1 match; raise --limit or narrow the query\n',
  )
  const refused = await run(t, s, 'search', 'level:eror')
  assert.deepEqual([refused.code, refused.out], [1, ''])
  assert.match(refused.err, /"eror" is not a level at position 6; .* for example: level:error/)
  assert.equal((await run(t, s, 'search', '--limit', 'x')).code, 2)

  const dir = await mkdtemp(join(tmpdir(), 'purser-export-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  const file = join(dir, 'logs.csv')
  const exported = await run(t, s, 'export', '--format', 'csv', '--fields', 'level,message', '--output', file)
  assert.deepEqual([exported.code, exported.err], [0, `2 rows in ${file}\n`])
  assert.equal((await readFile(file, 'utf8')).split('\r\n').length, 4)
  assert.equal((await run(t, s, 'export')).out.split('\n').length - 1, 2)

  const patterns = JSON.parse((await run(t, s, 'patterns', '--json')).out) as { patterns: { template: string }[] }
  assert.deepEqual(patterns.patterns.map(({ template }) => template).sort(), ['big', 'cart failed'])
})

test('tail goes on behind the last entry after the service was away, and Ctrl-C ends it well', async t => {
  const s = await startService(t, { env: { LOG_INGESTION_SERVER_PORT: String(await unusedPort()) } })
  const tail = start(t, s, ['tail', '-noise', '--json'])
  const send = (...texts: string[]) => s.post('/api/v1/logs/batch', batch(...texts.map(message => entry({ message }))))
  const connected = async () => /tail_subscribers 1/.test(await (await fetch(`${s.url}/metrics`)).text())
  await pollUntil(connected, { what: 'the tail to listen' })
  await send('a', 'noise')
  await pollUntil(() => tail.said.out.includes('"a"'), { what: 'the first entry', everyMs: 10 })
  await s.restart()
  await send('b', 'c')
  await pollUntil(() => tail.said.out.includes('"c"'), { what: 'the entries sent meanwhile', everyMs: 10 })
  const messages = tail.said.out
    .trimEnd()
    .split('\n')
    .map(line => (JSON.parse(line) as { message: string }).message)
  assert.deepEqual(messages, ['a', 'b', 'c'])
  tail.child.kill('SIGINT')
  assert.equal(await tail.exited, 0)
})
