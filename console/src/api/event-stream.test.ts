import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createEventParser, retryDelayMs, type StreamEvent } from './event-stream.ts'

const read = (chunks: readonly string[]): StreamEvent[] => {
  const events: StreamEvent[] = []
  const parser = createEventParser({ onEvent: event => events.push(event) })
  for (const chunk of chunks) parser.feed(chunk)
  return events
}

test('events mean the same however the network cuts them', () => {
  const stream =
    '\uFEFF: hello\r\nid: 7\r\nevent: log\r\ndata: {"a":1}\r\ndata:second line\r\n\r\n:\n\ndata: é😀\rdata\r\rretry: 50\n\nevent: gap\ndata: 3\n\n'
  const whole = read([stream])
  assert.deepEqual(whole, [
    { event: 'log', data: '{"a":1}\nsecond line', id: '7' },
    { event: 'message', data: 'é😀\n', id: '7' },
    { event: 'gap', data: '3', id: '7' },
  ])
  fc.assert(
    fc.property(fc.array(fc.nat(stream.length), { maxLength: 12 }), cuts => {
      const at = [0, ...cuts.sort((a, b) => a - b), stream.length]
      assert.deepEqual(read(at.slice(1).map((end, i) => stream.slice(at[i], end))), whole)
    }),
  )
})

test('an event without data is not an event, and a field it does not know is skipped', () => {
  assert.deepEqual(read(['event: log\n\nfoo: bar\nid: 1\n\ndata: x\n\n']), [{ event: 'message', data: 'x', id: '1' }])
})

test('an event larger than the bound is dropped and the next one still arrives', () => {
  const part = `data: ${'x'.repeat(1_000_000)}\n`
  assert.deepEqual(read([part, part, part, '\n', 'data: next\n\n']), [{ event: 'message', data: 'next', id: null }])
  assert.deepEqual(read(['y'.repeat(3_000_000), '\n', 'data: next\n\n']), [
    { event: 'message', data: 'next', id: null },
  ])
})

test('the server may set the first wait; waits double, stay under 15 s and never reach zero', () => {
  let retry = 0
  createEventParser({ onEvent: () => {}, onRetry: ms => (retry = ms) }).feed('retry: 250\n')
  assert.equal(retry, 250)
  assert.equal(retryDelayMs(0, 1000, 0.5), 1000)
  assert.equal(retryDelayMs(3, 1000, 0.5), 8000)
  fc.assert(
    fc.property(fc.nat(10_000), fc.double({ min: 0, max: 1, noNaN: true }), (n, random) => {
      const wait = retryDelayMs(n, 1000, random)
      assert.ok(wait >= 800 && wait <= 15_000)
    }),
  )
})
