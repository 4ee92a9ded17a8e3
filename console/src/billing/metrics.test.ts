import assert from 'node:assert/strict'
import { test } from 'node:test'
import { byLabel, parseMetrics, rateOf, total } from './metrics.ts'

const text = `# HELP billaged_close_blockers Reasons
# TYPE billaged_close_blockers gauge
billaged_close_blockers{reason="unrated_usage"} 2
billaged_close_blockers{reason="open_quarantine"} 0
billaged_metrics_processed_total 148865
billaged_x{a="say \\"hi\\"",b="1,2"} 3 1700000000000
billaged_h_bucket{le="0.1"} 7
odd line
`

test('the text format is read with labels, escapes and without buckets', () => {
  const samples = parseMetrics(text)
  assert.equal(total(samples, 'billaged_metrics_processed_total'), 148_865)
  assert.equal(total(samples, 'billaged_nothing'), null)
  assert.deepEqual(byLabel(samples, 'billaged_close_blockers', 'reason'), [{ key: 'unrated_usage', value: 2 }])
  assert.deepEqual(samples.get('billaged_x'), [{ labels: { a: 'say "hi"', b: '1,2' }, value: 3 }])
  assert.equal(samples.has('billaged_h_bucket'), false)
})

test('a rate needs two looks at the same life of the process', () => {
  const at = (atMs: number, value: number) => ({ atMs, samples: parseMetrics(`c ${value}`) })
  assert.equal(rateOf(undefined, at(0, 5), 'c'), null)
  assert.equal(rateOf(at(0, 5), at(2_000, 25), 'c'), 10)
  assert.equal(rateOf(at(0, 25), at(2_000, 5), 'c'), null)
})
