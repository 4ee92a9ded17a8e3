import assert from 'node:assert/strict'
import { test } from 'node:test'
import { drivenClock } from '../../../test/kit/base.ts'
import { createGuesses } from './guesses.ts'

test('after 50 wrong ones at once and 10 a second nothing is looked at, except for who was known there', () => {
  const clock = drivenClock()
  const guesses = createGuesses({ clock })
  assert.equal(guesses.admit('10.0.0.1', 'shop'), 0)
  for (let i = 0; i < 50; i++) assert.equal(guesses.failed('10.0.0.1'), 0)
  assert.equal(guesses.failed('10.0.0.1'), 1)
  assert.equal(guesses.admit('10.0.0.1', 'guessed right'), 1, 'a hit is no news')
  assert.equal(guesses.admit('10.0.0.1', 'shop'), 0)
  assert.equal(guesses.admit('10.0.0.2', 'shop'), 0, 'another address')
  clock.advance(1_000)
  assert.equal(guesses.admit('10.0.0.1', 'guessed right'), 0)
  for (let i = 0; i < 10; i++) assert.equal(guesses.failed('10.0.0.1'), 0)
  assert.equal(guesses.failed('10.0.0.1'), 1)
})

test('ten thousand addresses are remembered, the one that failed longest ago is forgotten first', () => {
  const guesses = createGuesses({ clock: drivenClock() })
  const isBarred = (address: string) => guesses.admit(address, 'new') > 0
  for (const address of ['first', 'second']) for (let i = 0; i < 51; i++) guesses.failed(address)
  for (let i = 0; i < 9_998; i++) guesses.failed(`10.0.${i >> 8}.${i & 255}`)
  guesses.failed('first')
  assert.ok(isBarred('first') && isBarred('second'))
  guesses.failed('one more')
  assert.ok(isBarred('first'))
  assert.ok(!isBarred('second'))
})
