import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { drivenClock } from '../test/kit/base.ts'
import { openLogFile } from './log-files.ts'
import { toEntry } from './ship-logs.ts'
import { table } from './terminal.ts'

test('our JSON lines become entries that log-ingestion accepts; anything else keeps its text', () => {
  const clock = drivenClock(Date.UTC(2026, 0, 1))
  assert.deepEqual(
    toEntry(
      'billaged',
      '{"level":"FATAL","time":"2026-01-01T00:00:00.123Z","service":"billaged","msg":"gone","pid":7}',
      clock,
    ),
    {
      timestamp: '2026-01-01T00:00:00.123Z',
      service: 'billaged',
      level: 'FATAL',
      message: 'gone',
      metadata: { pid: 7 },
    },
  )
  assert.deepEqual(toEntry('builderd', 'Segmentation fault', clock), {
    timestamp: '2026-01-01T00:00:00.000Z',
    service: 'builderd',
    level: 'INFO',
    message: 'Segmentation fault',
  })
  for (const line of ['', '{', '{"a":1}', '[]', 'null', '{"level":17}', `{"msg":"${'é'.repeat(20_000)}"}`]) {
    const entry = toEntry('x', line, clock)
    assert.ok(
      entry.message.length > 0 &&
        Buffer.byteLength(entry.message) <= 10_000 &&
        /^(DEBUG|INFO|WARN|ERROR|FATAL)$/.test(entry.level),
      line.slice(0, 20),
    )
  }
})

test('a log file is rotated by size and only the newest few are kept', t => {
  const dir = mkdtempSync(join(tmpdir(), 'logs-'))
  t.after(() => rmSync(dir, { recursive: true }))
  const file = openLogFile(dir, 'shop', 100)
  for (let i = 0; i < 60; i++) file.write(`line ${i} ${'x'.repeat(20)}`)
  file.close()
  assert.deepEqual(
    ['', '.1', '.2', '.3', '.4'].map(suffix => existsSync(join(dir, `shop.log${suffix}`))),
    [true, true, true, true, false],
  )
  assert.match(readFileSync(join(dir, 'shop.log.1'), 'utf8'), /line 59|line 5\d/)
})

test('tables align by what is seen, not by colour codes', () => {
  assert.equal(
    table(
      ['A', 'B'],
      [
        ['\x1b[32mok\x1b[0m', '1'],
        ['degraded', '2'],
      ],
    ),
    'A         B\n\x1b[32mok\x1b[0m        1\ndegraded  2',
  )
})
