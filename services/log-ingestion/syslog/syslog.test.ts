import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { syslog } from '../protocols/syslog.ts'
import { decode, nowMs, receipt } from '../test/decode.ts'
import { parseAllowed, parseHostPort } from './addresses.ts'
import { FrameReader, packFrames } from './frames.ts'

const read = (...messages: string[]) =>
  decode(
    syslog('10.0.0.9', 'Europe/Berlin'),
    packFrames(messages.map(text => ({ bytes: Buffer.from(text), lostBytes: 0 }))),
  ).rows
const peer = '10.0.0.9'

test('RFC 5424, with structured data, NIL values, escapes and a byte order mark', () => {
  assert.deepEqual(
    read(
      '<165>1 2026-01-15T11:59:59.003Z mymachine evntslog 77 ID47 [ex@1 iut="3" q="a \\"b\\" \\] \\x" ip="1" ip="2"][empty] \ufeffAn event',
      '<34>1 - - - - - - ',
      '<34>1 - - - - - -',
      '<0>1 2026-01-15T11:59:59Z h su - - - panic',
    ),
    [
      [
        '2026-01-15T11:59:59.003Z',
        'evntslog',
        'INFO',
        'An event',
        {
          facility: 'local4',
          host: 'mymachine',
          pid: '77',
          msgid: 'ID47',
          sd: { 'ex@1': { iut: '3', q: 'a "b" ] \\x', ip: ['1', '2'] }, empty: {} },
          peer,
        },
      ],
      [receipt, 'syslog', 'CRITICAL', '', { facility: 'auth', peer }],
      [receipt, 'syslog', 'CRITICAL', '', { facility: 'auth', peer }],
      ['2026-01-15T11:59:59Z', 'su', 'FATAL', 'panic', { facility: 'kern', host: 'h', peer }],
    ],
  )
})

test('RFC 3164: the year is the nearest, the zone the configured one, and every part may be missing', () => {
  assert.deepEqual(
    read(
      '<34>Jan 15 12:30:00 mymachine su[12]: failed',
      '<35>Dec 31 23:59:59 h cron: last year',
      '<36>Jan  1 00:00:00 kernel: no host',
      '<37>2026-01-15T12:00:00.5+01:00 h app: as rsyslog forwards',
      '<37>2026-01-15T12:00:00+01:00 h app[7] without a colon',
      '<38>no header at all',
      'no priority',
      '<999>1 too much',
      '<39>Feb 30 00:00:00 h x: no such day',
    ),
    [
      ['2026-01-15T11:30:00Z', 'su', 'CRITICAL', 'failed', { facility: 'auth', host: 'mymachine', pid: '12', peer }],
      ['2025-12-31T22:59:59Z', 'cron', 'ERROR', 'last year', { facility: 'auth', host: 'h', peer }],
      ['2025-12-31T23:00:00Z', 'kernel', 'WARN', 'no host', { facility: 'auth', peer }],
      ['2026-01-15T11:00:00.5Z', 'app', 'INFO', 'as rsyslog forwards', { facility: 'auth', host: 'h', peer }],
      ['2026-01-15T11:00:00Z', 'app', 'INFO', 'without a colon', { facility: 'auth', host: 'h', pid: '7', peer }],
      [receipt, 'syslog', 'INFO', 'no header at all', { facility: 'auth', peer }],
      [receipt, 'syslog', 'INFO', 'no priority', { peer }],
      [receipt, 'syslog', 'INFO', '<999>1 too much', { peer }],
      [receipt, 'syslog', 'DEBUG', 'Feb 30 00:00:00 h x: no such day', { facility: 'auth', peer }],
    ],
  )
})

test('long messages are cut and say how long they were, the part that was never held included', () => {
  const reader = new FrameReader(1_500)
  const [frame] = reader.push(Buffer.from(`<13>${'x'.repeat(9_996)}\n`))
  assert.ok(frame)
  assert.deepEqual([frame.bytes.length, frame.lostBytes], [1_500, 8_500])
  const [row] = decode(syslog(peer, 'UTC'), packFrames([frame])).rows
  assert.equal(row?.[3].length, 1_000)
  assert.deepEqual(row?.[4], { facility: 'user', peer, _truncated_from_bytes: 9_996 })
})

const texts = fc.array(
  fc.string({ unit: 'grapheme-ascii', minLength: 1 }).map(text => `<13>${text}`),
  { minLength: 1 },
)

test('frames come out as they went in, however the stream is cut', () => {
  fc.assert(
    fc.property(texts, fc.boolean(), fc.array(fc.nat({ max: 40 })), (sent, isCounted, cuts) => {
      const stream = Buffer.from(sent.map(text => (isCounted ? `${text.length} ${text}` : `${text}\n`)).join(''))
      const reader = new FrameReader(10_000)
      const got: string[] = []
      let at = 0
      for (const cut of [...cuts, stream.length]) {
        got.push(...reader.push(stream.subarray(at, at + cut)).map(({ bytes }) => bytes.toString()))
        at += cut
      }
      got.push(...reader.end().map(({ bytes }) => bytes.toString()))
      assert.deepEqual(got, sent)
    }),
  )
})

test('any bytes become entries, one per frame, and hold no more than a frame', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.oneof(
          fc.uint8Array({ maxLength: 200 }),
          fc.constantFrom('<13>1 - - - - - [a b="', '5 <13>', '\n', '999999999 ').map(text => Buffer.from(text)),
        ),
      ),
      chunks => {
        const reader = new FrameReader(100)
        const frames = [...chunks.flatMap(chunk => reader.push(Buffer.from(chunk))), ...reader.end()]
        for (const { bytes } of frames) assert.ok(bytes.length <= 100)
        const { rows, rejectedCount } = decode(syslog(peer, 'UTC'), packFrames(frames), { options: { nowMs } })
        assert.equal(rows.length + rejectedCount, frames.length)
      },
    ),
    { numRuns: 500 },
  )
})

test('addresses of settings', () => {
  assert.deepEqual(parseHostPort('127.0.0.1:514'), { host: '127.0.0.1', port: 514 })
  assert.deepEqual(parseHostPort('[::1]:6514'), { host: '::1', port: 6514 })
  assert.deepEqual(parseHostPort(':514'), { host: '0.0.0.0', port: 514 })
  assert.deepEqual(parseHostPort('514'), { host: '0.0.0.0', port: 514 })
  for (const bad of ['', 'host', 'host:', 'host:99999', 'a b:1', '::1:514'])
    assert.equal(parseHostPort(bad), undefined, bad)
  assert.equal(parseAllowed(['loopback', '10.0.0.0/8'])?.check('10.1.2.3'), true)
  for (const bad of ['10.0.0.0/33', 'host', '10.0.0.0/', '1.2.3.4/8/9'])
    assert.equal(parseAllowed([bad]), undefined, bad)
})
