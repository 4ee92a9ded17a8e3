// The shipper as users run it, a process of its own, against the real service.

import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { appendFile, copyFile, mkdtemp, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { startService, type TestService, writeKey } from '../../services/log-ingestion/test/start.ts'
import { pollUntil } from '../../test/kit/poll.ts'
import { singleLines, splitEvents, stackTraces, startsAt } from './ship/events.ts'

const main = new URL('../main.ts', import.meta.url).pathname

interface Shipper {
  child: ChildProcess
  stderr: () => string
  exited: Promise<number | null>
}

interface Bench {
  s: TestService
  dir: string
  log: string
  run(...args: string[]): Shipper
  /** Messages stored so far, in order of acceptance. */
  stored(): Promise<string[]>
  until(count: number): Promise<string[]>
}

async function openBench(t: TestContext): Promise<Bench> {
  const s = await startService(t)
  const dir = await mkdtemp(join(tmpdir(), 'purser-ship-'))
  const children: ChildProcess[] = []
  t.after(async () => {
    for (const child of children) child.kill('SIGKILL')
    await rm(dir, { recursive: true, force: true })
  })
  const stored = async () =>
    (await s.sql<{ message: string }[]>`select message from logs order by id`).map(row => row.message)
  return {
    s,
    dir,
    log: join(dir, 'app.log'),
    run(...args) {
      const child = spawn(
        process.execPath,
        [
          '--disable-warning=ExperimentalWarning',
          main,
          'logs',
          'ship',
          ...(args[0] === 'journald' ? [] : ['--service', 'shop']),
          '--state',
          join(dir, 'state'),
          ...args,
        ],
        {
          env: {
            PATH: process.env.PATH,
            NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
            PURSER_LOGS_URL: s.url,
            PURSER_LOGS_KEY: writeKey,
          },
          stdio: ['pipe', 'pipe', 'pipe'],
        },
      )
      children.push(child)
      let stderr = ''
      child.stderr?.setEncoding('utf8').on('data', text => {
        stderr += text
      })
      return { child, stderr: () => stderr, exited: new Promise(resolve => child.once('exit', resolve)) }
    },
    stored,
    async until(count) {
      await pollUntil(async () => (await stored()).length >= count, { what: `${count} entries` })
      return await stored()
    },
  }
}

const lines = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, i) => `n=${from + i} something happened`)
const numbers = (messages: readonly string[]) => messages.map(message => Number(/^n=(\d+)/.exec(message)?.[1]))
const range = (to: number) => Array.from({ length: to }, (_, i) => i)
const write = (path: string, texts: readonly string[]) => appendFile(path, texts.map(text => `${text}\n`).join(''))

test('a file is shipped once: JSON as it is, text with level and time, traces whole; a second run sends nothing', async t => {
  const b = await openBench(t)
  const time = new Date().toISOString()
  await writeFile(
    b.log,
    [
      `{"time":"${time}","level":"warn","msg":"from json","user":{"id":12345678901234567890}}`,
      `${time} ERROR it broke`,
      'java.lang.IllegalStateException: no',
      '\tat com.example.Shop.buy(Shop.java:42)',
      'Caused by: java.io.IOException: gone',
      '\t... 12 more',
      'last line, without a line feed',
    ].join('\n'),
  )
  const first = b.run('--once', b.log)
  assert.equal(await first.exited, 0, first.stderr())
  assert.match(first.stderr(), /1 file .* acknowledged on disk 4 /)
  const rows = await (async () => {
    await b.until(4)
    return b.s.sql<{ message: string; level: string; metadata: string; service: string }[]>`
      select message, level, metadata::text as metadata, service from logs order by id`
  })()
  assert.deepEqual(
    rows.map(row => [row.message.split('\n').length, row.level, row.service]),
    [
      [1, 'WARN', 'shop'],
      [1, 'ERROR', 'shop'],
      [4, 'INFO', 'shop'],
      [1, 'INFO', 'shop'],
    ],
  )
  assert.match(rows[0]?.metadata ?? '', /12345678901234567890/)
  assert.equal((JSON.parse(rows[2]?.metadata ?? '') as { file: string }).file, b.log)

  const second = b.run('--once', '--json', b.log)
  assert.equal(await second.exited, 0, second.stderr())
  await b.s.settled()
  assert.equal((await b.stored()).length, 4)
  await appendFile(b.log, '\nand one more\n')
  assert.equal(await b.run('--once', b.log).exited, 0)
  assert.deepEqual((await b.until(5)).at(-1), 'and one more')
})

test('follows across rotation, copy-and-truncate, and a rotation that happened while it was away', async t => {
  const b = await openBench(t)
  await write(b.log, lines(0, 10))
  const shipper = b.run(b.log)
  await b.until(10)

  await rename(b.log, `${b.log}.1`)
  // A writer that still has the old file open.
  await write(`${b.log}.1`, lines(10, 13))
  await write(b.log, lines(13, 20))
  await b.until(20)

  await copyFile(b.log, `${b.log}.2`)
  await truncate(b.log)
  await write(b.log, lines(20, 24))
  assert.deepEqual(numbers(await b.until(24)), range(24), shipper.stderr())
  shipper.child.kill('SIGTERM')
  assert.equal(await shipper.exited, 0)

  await write(b.log, lines(24, 27))
  await rename(b.log, `${b.log}.3`)
  await write(b.log, lines(27, 30))
  assert.equal(await b.run('--once', b.log).exited, 0)
  assert.deepEqual(numbers(await b.until(30)), range(30))
  assert.equal((await b.stored()).length, 30)
})

test('kill -9 again and again, with rotation under way: nothing is lost, nothing is repeated', async t => {
  const b = await openBench(t)
  let written = 0
  let rotations = 0
  const more = async () => {
    await write(b.log, lines(written, written + 300))
    written += 300
  }
  for (let round = 0; round < 4; round++) {
    // What an earlier life sent must not pass for progress of this one.
    await b.s.settled()
    const before = (await b.stored()).length
    const shipper = b.run(b.log)
    await more()
    const progress = (rows: number) =>
      pollUntil(async () => (await b.stored()).length > before + rows, {
        what: 'some progress',
        everyMs: 5,
      })
    await progress(0)
    await more()
    await rename(b.log, `${b.log}.${++rotations}`)
    for (let step = 0; step < 3; step++) await more()
    // Killed at once, or somewhere on its way through the file that was rotated away and the one behind it.
    await progress(round * 100)
    shipper.child.kill('SIGKILL')
    await shipper.exited
  }
  const last = b.run('--once', b.log)
  assert.equal(await last.exited, 0, last.stderr())
  await b.s.settled()
  const found = numbers(await b.stored())
  // Compared as counts first: thousands of numbers are no message.
  assert.deepEqual([new Set(found).size, found.length], [written, written], 'different ones, and all')
  assert.ok(
    found.every((n, i) => n === i),
    'in their order',
  )
})

test('standard input is shipped to its end; a refused key is said at once; two shippers do not share a file', async t => {
  const b = await openBench(t)
  const piped = b.run('-')
  piped.child.stdin?.end(`${lines(0, 5).join('\n')}\n`)
  assert.equal(await piped.exited, 0, piped.stderr())
  assert.deepEqual(numbers(await b.until(5)), range(5))

  await write(b.log, lines(0, 1))
  const refused = b.run('--key', 'nope', '--once', b.log)
  assert.equal(await refused.exited, 1)
  assert.match(refused.stderr(), /Invalid API key/)

  const first = b.run(b.log)
  await b.until(6)
  const second = b.run(b.log)
  assert.equal(await second.exited, 1)
  assert.match(second.stderr(), /another shipper follows .*--state/)
  first.child.kill('SIGTERM')
  assert.equal(await first.exited, 0)
})

test('journald: entries with their unit and level, from the cursor on', async t => {
  const b = await openBench(t)
  const fake = join(b.dir, 'journalctl')
  const us = `${Date.now()}000`
  // Stands in for journalctl: entries of a file behind the cursor that is asked for.
  await writeFile(
    fake,
    `#!/bin/sh
after=''
while [ $# -gt 0 ]; do [ "$1" = --after-cursor ] && after=$2; shift; done
[ -z "$after" ] && exec cat ${b.dir}/entries
sed "1,/\\"$after\\"/d" ${b.dir}/entries
`,
    { mode: 0o755 },
  )
  const line = (n: number) =>
    JSON.stringify({
      __CURSOR: `c${n}`,
      __REALTIME_TIMESTAMP: us,
      PRIORITY: '3',
      SYSLOG_IDENTIFIER: 'sshd',
      _SYSTEMD_UNIT: 'ssh.service',
      MESSAGE: `n=${n}`,
    })
  await writeFile(join(b.dir, 'entries'), `${[0, 1, 2].map(line).join('\n')}\n`)
  const run = () => b.run('journald', '--once', '--journalctl', fake)
  const first = run()
  assert.equal(await first.exited, 0, first.stderr())
  await b.until(3)
  await appendFile(join(b.dir, 'entries'), `${line(3)}\n`)
  assert.equal(await run().exited, 0)
  assert.deepEqual(numbers(await b.until(4)), range(4))
  const [row] = await b.s.sql<{ service: string; level: string; unit: string }[]>`
    select service, level, metadata->>'unit' as unit from logs order by id limit 1`
  assert.deepEqual({ ...row }, { service: 'sshd', level: 'ERROR', unit: 'ssh.service' })
  assert.match(await readFile(join(b.dir, 'state', 'journald.json'), 'utf8'), /"c3"/)
})

test('stack traces stay with the line they belong to, in the languages people use', () => {
  const events = (text: string, rule = stackTraces) =>
    splitEvents(Buffer.from(text), rule, true).map(event => event.text)
  const python =
    'ERROR handling request\nTraceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\nValueError: bad'
  assert.deepEqual(events(`before\n${python}\nafter\n`), ['before', python, 'after'])
  const chained = `${python}\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File "b.py", line 2, in h\nKeyError: 'x'`
  assert.deepEqual(events(`${chained}\nnext`).at(-1), 'next')
  const node = 'TypeError: x is not a function\n    at f (file.js:1:2)\n    at g (file.js:3:4) {\n  code: 1\n}'
  assert.deepEqual(events(`${node}\nnext`), [node, 'next'])
  assert.deepEqual(events('a\n  b\nc', singleLines), ['a', '  b', 'c'])
  assert.deepEqual(events('2026 a\nb\n2026 c', startsAt('^\\d{4}')), ['2026 a\nb', '2026 c'])
  assert.equal(splitEvents(Buffer.from('whole\nnot yet'), stackTraces, false).length, 1)
  const long = splitEvents(Buffer.from('x'.repeat(1_000_000)), stackTraces, true)
  assert.ok(long.length > 4 && long.every(event => event.text.length <= 200 * 1024))
})
