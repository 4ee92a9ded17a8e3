import assert from 'node:assert/strict'
import test from 'node:test'
import { createLives } from './lives.ts'

const second = 1_000_000_000n

function livesOf(o: { starts?: bigint[]; stops?: bigint[]; readings?: bigint[]; nowS: bigint; listedUntilS?: bigint }) {
  const ns = (times: bigint[] = []) => times.map(s => s * second)
  const lives = createLives(
    { starts: ns(o.starts), stops: ns(o.stops), gaps: [] },
    { nowNs: o.nowS * second, leaseNs: 120n * second },
  )
  for (const at of ns(o.readings)) lives.read(at)
  return lives
    .finish(o.listedUntilS === undefined ? null : o.listedUntilS * second)
    .map(life => `${life.startNs / second}–${life.stopNs === null ? '' : life.stopNs / second} ${life.endBy}`)
}

test('a life begins at a start mark or first reading and ends at its stop mark, or at its last evidence', () => {
  assert.deepEqual(livesOf({ nowS: 1000n }), [])
  assert.deepEqual(livesOf({ readings: [10n, 20n, 30n], nowS: 100n }), ['10– open'])
  assert.deepEqual(livesOf({ readings: [10n, 20n, 30n], nowS: 1000n }), ['10–30 lease'])
  assert.deepEqual(livesOf({ readings: [10n, 20n], listedUntilS: 950n, nowS: 1000n }), ['10– open'])
  assert.deepEqual(livesOf({ starts: [5n], readings: [10n, 20n], stops: [25n], nowS: 1000n }), ['5–25 stop'])
  assert.deepEqual(livesOf({ starts: [5n, 100n], readings: [10n, 110n], stops: [25n], nowS: 200n }), [
    '5–25 stop',
    '100– open',
  ])
  assert.deepEqual(livesOf({ starts: [5n, 100n], readings: [10n, 110n], nowS: 1000n }), ['5–10 lease', '100–110 lease'])
  assert.deepEqual(livesOf({ starts: [5n, 6n], readings: [10n], nowS: 20n }), ['6– open'])
})
