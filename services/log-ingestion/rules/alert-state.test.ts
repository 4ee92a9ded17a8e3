import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { freshStanding, type Standing, stall, step, verdictOf } from './alert-state.ts'
import type { AlertDefinition } from './definitions.ts'

const everyMs = 10_000

/** Verdicts in turn; null is a stall. */
const history = fc.array(fc.option(fc.boolean(), { freq: 6, nil: null }), { maxLength: 40 })
const waits = fc.integer({ min: 0, max: 5 }).map(n => n * everyMs)

function run(verdicts: readonly (boolean | null)[], forMs: number) {
  let standing: Standing = freshStanding(0)
  let atMs = 0
  const trail: { standing: Standing; notice: string | null }[] = []
  for (const verdict of verdicts) {
    if (verdict !== null) atMs += everyMs
    const next = verdict === null ? stall(standing, atMs) : step(standing, atMs, { isTrue: verdict, value: '1' }, forMs)
    standing = next.standing
    trail.push({ standing, notice: next.notice })
  }
  return trail
}

test('a rule fires exactly while its condition has held without a break for as long as `for` asks', () => {
  fc.assert(
    fc.property(history, waits, (verdicts, forMs) => {
      const trail = run(verdicts, forMs)
      let heldSteps = 0
      verdicts.forEach((verdict, i) => {
        const state = trail[i]?.standing.state
        // A stall says nothing about the condition.
        if (verdict === null) {
          assert.equal(state, 'stalled')
          return
        }
        heldSteps = verdict ? heldSteps + 1 : 0
        const wanted = heldSteps === 0 ? 'ok' : (heldSteps - 1) * everyMs >= forMs ? 'firing' : 'pending'
        assert.equal(state, wanted, JSON.stringify(verdicts))
      })
    }),
    { numRuns: 1_000 },
  )
})

test('notifications tell each change once and nothing else, and the last one is the truth', () => {
  fc.assert(
    fc.property(history, waits, (verdicts, forMs) => {
      let told = 'ok'
      for (const { standing, notice } of run(verdicts, forMs)) {
        const truth = standing.state === 'pending' ? 'ok' : standing.state
        assert.equal(notice, truth === told ? null : truth)
        told = truth
        assert.equal(standing.announced, told)
      }
    }),
  )
})

const rule = (o: Partial<AlertDefinition>): AlertDefinition => ({
  q: '',
  kind: 'count',
  window: '1m',
  every: '10s',
  for: '0s',
  enabled: true,
  ...o,
})

test('rates are compared exactly, from nothing included', () => {
  const rate = (op: '>' | '>=' | '<' | '<=', threshold: number, current: number, previous: number) =>
    verdictOf(rule({ kind: 'rate', op, threshold }), current, previous)
  assert.deepEqual(rate('>=', 50, 3, 2), { isTrue: true, value: '50.0' })
  assert.deepEqual(rate('>', 50, 3, 2), { isTrue: false, value: '50.0' })
  assert.deepEqual(rate('<=', -50, 1, 2), { isTrue: true, value: '-50.0' })
  assert.deepEqual(rate('>=', 1_000_000, 1, 0), { isTrue: true, value: 'new' })
  assert.deepEqual(rate('<=', -50, 1, 0), { isTrue: false, value: 'new' })
  assert.deepEqual(rate('>=', 10, 0, 0), { isTrue: false, value: '0' })
  assert.equal(verdictOf(rule({ kind: 'absence' }), 0, 9).isTrue, true)
  assert.equal(verdictOf(rule({ kind: 'absence' }), 1, 0).isTrue, false)
  assert.equal(verdictOf(rule({ threshold: 3 }), 3, 0).isTrue, true)
})
