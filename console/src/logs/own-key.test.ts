import assert from 'node:assert/strict'
import { test } from 'node:test'
import { variableOf } from './own-key.ts'

test('a key’s name becomes a variable that every shell takes', () => {
  for (const [name, variable] of [
    ['shop', 'SHOP'],
    ['web shop (eu)', 'WEB_SHOP_EU'],
    ['write-key', 'WRITE_KEY'],
    ['2nd', 'KEY_2ND'],
    ['ключ', 'KEY'],
    ['$(rm)', 'RM'],
  ] as const)
    assert.equal(variableOf(name), variable)
})
