import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { leafHash, merkleRoot as theirs } from '../../../services/billaged/invoices/merkle.ts'
import { merkleRoot } from './merkle.ts'

test('the root is the one billaged signs, whatever the number of lines', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.string({ unit: 'grapheme' }), { maxLength: 20 }), async lines => {
      assert.equal(await merkleRoot(lines, crypto.subtle), theirs(lines.map(leafHash)).toString('hex'))
    }),
  )
})

test('one changed digit in one line is another root', async () => {
  const lines = ['{"hour":1,"cpu":"10"}', '{"hour":2,"cpu":"20"}', '{"hour":3,"cpu":"30"}']
  const changed = lines.with(1, '{"hour":2,"cpu":"21"}')
  assert.notEqual(await merkleRoot(lines, crypto.subtle), await merkleRoot(changed, crypto.subtle))
})
