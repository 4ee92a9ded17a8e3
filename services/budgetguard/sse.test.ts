import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { eventBytesMax, eventData, SseSplitter } from './sse.ts'

const line = fc.oneof(
  fc.constant('data: {"a":1}'),
  fc.constant(': ping'),
  fc.constant('id: 7'),
  fc.constant('data:[DONE]'),
  fc.string({ maxLength: 5 }).map(s => `data: ${s.replace(/[\r\n]/g, '')}`),
)
const ending = fc.constantFrom('\n', '\r\n', '\r')
const stream = fc
  .tuple(fc.array(fc.array(line, { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 6 }), ending)
  .map(([events, end]) => events.map(lines => `${lines.join(end)}${end}${end}`))

test('however the bytes are cut, the same events come out and not a byte is lost', () => {
  fc.assert(
    fc.property(stream, fc.array(fc.nat(), { maxLength: 12 }), (events, cuts) => {
      const bytes = Buffer.from(events.join(''))
      const places = [...new Set([0, ...cuts.map(cut => cut % (bytes.length + 1)), bytes.length])].sort((a, b) => a - b)
      const splitter = new SseSplitter()
      const out: Buffer[] = []
      for (const [i, from] of places.entries()) {
        const to = places[i + 1]
        if (to !== undefined) out.push(...splitter.push(bytes.subarray(from, to)).map(event => Buffer.from(event)))
      }
      assert.deepEqual(Buffer.concat([...out, splitter.rest()]), bytes)
      const data = out.map(eventData).filter(text => text !== null)
      const whole = new SseSplitter()
        .push(bytes)
        .map(eventData)
        .filter(text => text !== null)
      assert.deepEqual(data, whole)
    }),
  )
})

test('an event that never ends is refused', () => {
  const splitter = new SseSplitter()
  const chunk = Buffer.alloc(1024 * 1024, 'x')
  assert.throws(() => {
    for (let i = 0; i <= eventBytesMax / chunk.length; i++) splitter.push(chunk)
  }, RangeError)
})

test('data lines join, comments have none', () => {
  assert.equal(eventData(Buffer.from('data: a\r\ndata:b\r\n\r\n')), 'a\nb')
  assert.equal(eventData(Buffer.from(': keep-alive\n\n')), null)
})
