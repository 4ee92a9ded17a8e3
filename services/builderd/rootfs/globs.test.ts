import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FieldError } from '../errors.ts'
import { compileGlobs } from './globs.ts'

test('globs: parts, depth, sets, taking back', () => {
  const cases: [patterns: string[], path: string, expected: boolean][] = [
    [['/a/*.log'], 'a/x.log', true],
    [['/a/*.log'], 'a/b/x.log', false],
    [['a/**/x'], 'a/x', true],
    [['a/**/x'], 'a/b/c/x', true],
    [['**'], 'anything/at/all', true],
    [['**/*.pyc'], 'x.pyc', true],
    [['a/?'], 'a/b', true],
    [['a/?'], 'a/bc', false],
    [['a/[b-d]x'], 'a/cx', true],
    [['a/[!b-d]x'], 'a/cx', false],
    [['a/[!b-d]x'], 'a/ex', true],
    [['a/**', '!a/keep'], 'a/keep', false],
    [['!a/keep', 'a/**'], 'a/keep', true],
    [['a'], 'a/b', false],
    [['caf\u00e9'], Buffer.from('caf\u00e9').toString('latin1'), true],
  ]
  for (const [patterns, path, expected] of cases)
    assert.equal(compileGlobs(patterns, 'f')(path), expected, `${patterns} on ${path}`)
})

test('a pattern made to be slow is only a pattern', () => {
  const match = compileGlobs([`${'**/a/'.repeat(60)}b`, `${'*a'.repeat(200)}b`], 'f')
  assert.equal(match(`${'a/'.repeat(1_000)}c`), false)
  assert.equal(match('a'.repeat(255)), false)
})

test('patterns are bounded', () => {
  assert.throws(() => compileGlobs(Array(257).fill('a'), 'exclude_patterns'), FieldError)
  assert.throws(() => compileGlobs(['x'.repeat(1_025)], 'exclude_patterns'), FieldError)
  assert.throws(() => compileGlobs([''], 'exclude_patterns'), FieldError)
})
