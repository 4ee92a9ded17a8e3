import assert from 'node:assert/strict'
import { test } from 'node:test'
import { acceptedFormat, exposition } from './exposition.ts'
import { counter, gauge, type Reading } from './sample.ts'
import { histogramReadings, newHistogram, observe } from './stats.ts'

const samples: Reading[] = [
  counter('b_total', 2, { path: 'a"b\\c\nd' }),
  gauge('a', 0.5),
  counter('node_vmstat_pgfault', 7),
  ...histogramReadings('h_seconds', histogramOf([0.0005, 0.05, 50])),
]

test('text exposition: families in order, one head each, histograms whole, counters without suffix untyped', () => {
  assert.equal(
    exposition(samples, name => `about ${name}`, 'text'),
    `# HELP a about a
# TYPE a gauge
a 0.5
# HELP b_total about b_total
# TYPE b_total counter
b_total{path="a\\"b\\\\c\\nd"} 2
# HELP h_seconds about h_seconds
# TYPE h_seconds histogram
h_seconds_bucket{le="0.001"} 1
h_seconds_bucket{le="0.01"} 1
h_seconds_bucket{le="0.1"} 2
h_seconds_bucket{le="1"} 2
h_seconds_bucket{le="10"} 2
h_seconds_bucket{le="+Inf"} 3
h_seconds_sum 50.0505
h_seconds_count 3
# HELP node_vmstat_pgfault about node_vmstat_pgfault
# TYPE node_vmstat_pgfault untyped
node_vmstat_pgfault 7
`,
  )
})

test('OpenMetrics names counter families without suffix, knows unknown, and ends', () => {
  const text = exposition(samples, () => 'x', 'openmetrics')
  assert.match(text, /# TYPE b counter\nb_total/)
  assert.match(text, /# TYPE node_vmstat_pgfault unknown\n/)
  assert.ok(text.endsWith('# EOF\n'))
})

test('the format is chosen by what the client accepts', () => {
  assert.equal(
    acceptedFormat('application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5'),
    'openmetrics',
  )
  assert.equal(acceptedFormat('text/plain; version=0.0.4'), 'text')
  for (const accept of ['*/*', 'text/plain', 'application/json', undefined])
    assert.equal(acceptedFormat(accept), undefined)
})

function histogramOf(values: readonly number[]) {
  const histogram = newHistogram()
  for (const value of values) observe(histogram, value)
  return histogram
}
