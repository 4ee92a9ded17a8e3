import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Cursor, JsonSyntaxError, noteEscape, noteNumber } from './cursor.ts'

/** What JSON.parse says, which has the same grammar. */
function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/** Whether the cursor takes the whole text, and if not, whether it says "cut". */
function judge(text: string): 'json' | 'cut' | 'bad' {
  const cursor = new Cursor(Buffer.from(text))
  try {
    cursor.skip()
    return cursor.peek() === -1 ? 'json' : 'bad'
  } catch (error) {
    if (!(error instanceof JsonSyntaxError)) throw error
    assert.ok(error.offset >= 0 && error.offset <= cursor.end)
    return error.isCut ? 'cut' : 'bad'
  }
}

test('every JSON text is taken, its depth counted and its end found', () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 6 }), fc.string(), (text, tail) => {
      const bytes = Buffer.from(`${text} ${tail}`)
      const cursor = new Cursor(bytes)
      cursor.skip()
      assert.equal(cursor.at, Buffer.byteLength(text.trimEnd()))
      assert.equal(cursor.deepest, depthOf(JSON.parse(text)))
    }),
  )
})

function depthOf(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0
  return 1 + Math.max(0, ...Object.values(value).map(depthOf))
}

test('a text with damage anywhere is judged as JSON.parse judges it', () => {
  const damage = fc.tuple(
    fc.nat(),
    fc.nat({ max: 3 }),
    fc.constantFrom('', '"', '\\', '{', ']', ',', '0', '-', '\n', '\u0001', 'x', ':'),
  )
  fc.assert(
    fc.property(fc.json({ maxDepth: 4 }), damage, (text, [seed, removed, inserted]) => {
      const at = seed % (text.length + 1)
      const damaged = text.slice(0, at) + inserted + text.slice(at + removed)
      assert.equal(judge(damaged) === 'json', isJson(damaged), JSON.stringify(damaged))
    }),
    { numRuns: 2_000 },
  )
})

test('a text cut inside a value is called cut, never bad', () => {
  fc.assert(
    fc.property(fc.array(fc.jsonValue(), { minLength: 1 }), fc.nat(), (value, seed) => {
      const text = JSON.stringify(value)
      assert.equal(judge(text.slice(0, 1 + (seed % (text.length - 1)))), 'cut')
    }),
  )
})

test('random bytes never end in anything but a syntax error', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), bytes => {
      const cursor = new Cursor(bytes)
      try {
        cursor.skip()
      } catch (error) {
        assert.ok(error instanceof JsonSyntaxError)
      }
    }),
  )
})

test('nesting is bounded at 10 000 levels and costs no stack', () => {
  const deep = (levels: number) => judge('['.repeat(levels) + ']'.repeat(levels))
  assert.equal(deep(10_000), 'json')
  assert.equal(deep(10_001), 'bad')
})

test('what the careful path must see is noted', () => {
  const notes = (text: string) => {
    const cursor = new Cursor(Buffer.from(text))
    cursor.skip()
    return cursor.notes
  }
  assert.equal(notes('{"a":["\\n\\u00e9",1.5,-0]}'), 0)
  assert.equal(notes('{"a":"\\u0000"}'), noteEscape)
  assert.equal(notes('{"\\ud800":1}'), noteEscape)
  assert.equal(notes('[1e400]'), noteNumber)
  assert.equal(notes(`[${'9'.repeat(401)}]`), noteNumber)
})
