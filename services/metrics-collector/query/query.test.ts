import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { QueryError } from '../errors.ts'
import { aggregate, evaluateSeries, type ResultSeries } from './evaluate.ts'
import { aggregations, parsePromDuration, parseQuery, parseSelector, rangeFunctions } from './parse.ts'

test('the language: what is written is what is understood', () => {
  const expression = parseQuery(
    `sum by (mode, cpu) (rate(node_cpu_seconds_total{cpu!="0", mode=~'us.*|idle'}[1m30s] offset 5m))`,
  )
  assert.equal(expression.kind, 'aggregate')
  assert.ok(expression.kind === 'aggregate' && expression.argument.kind === 'call')
  assert.deepEqual([expression.op, expression.grouping, expression.labels], ['sum', 'by', ['mode', 'cpu']])
  const { fn, argument } = expression.argument
  assert.deepEqual([fn, argument.rangeMs, argument.offsetMs], ['rate', 90_000, 300_000])
  assert.deepEqual(
    argument.matchers.map(({ label, op, value }) => `${label}${op}${value}`),
    ['__name__=node_cpu_seconds_total', 'cpu!=0', 'mode=~us.*|idle'],
  )
  const trailing = parseQuery('max(up) without (job)')
  assert.ok(trailing.kind === 'aggregate' && trailing.grouping === 'without')
  assert.deepEqual(parseQuery('1 + 2'), { kind: 'number', value: 3 })
  assert.deepEqual(parseQuery('1 + 2*3 - 8/4'), { kind: 'number', value: 5 })
  assert.deepEqual(parseQuery('-(2)*1e3'), { kind: 'number', value: -2_000 })
  assert.equal(parsePromDuration('1h30m'), 5_400_000)
  assert.equal(parsePromDuration('250ms'), 250)
})

test('what is not supported is refused by its name, what is malformed by its place', () => {
  const refused: [string, RegExp][] = [
    ['topk(3, up)', /"topk" is not supported/],
    ['histogram_quantile(0.9, x)', /"histogram_quantile"/],
    ['up + 1', /"\+" is not supported/],
    ['up or down', /"or"/],
    ['up == 1', /"=="/],
    ['rate(x[5m:1m])', /"subquery"/],
    ['rate(x[5m] @ 3)', /"@"|expected \)/],
    ['rate(sum(x))', /"rate of anything but a series selector"/],
    ['sum(x[5m])', /needs one value per series/],
    ['rate(x)', /needs a range/],
    ['sum(1)', /needs series/],
    ['{x=""}', /needs a name/],
    ['x{a=b}', /must be quoted/],
    ['x{a~"b"}', /cannot read|expected/],
    ['x{a=~"("}', /not a regular expression/],
    ['x[5]extra', /"extra"/],
    ['', /expected a series/],
    ['sum(', /expected a series/],
    ['('.repeat(40), /nested deeper/],
    ['x'.repeat(5_000), /at most 4096/],
  ]
  for (const [query, pattern] of refused)
    assert.throws(
      () => parseQuery(query),
      (error: unknown) => error instanceof QueryError && error.type === 'bad_data' && pattern.test(error.message),
      query.slice(0, 60),
    )
})

test('a pattern that would take for ever is stopped and named', () => {
  const { matchers } = parseSelector('x{a=~"(a+)+"}')
  const matcher = matchers[1]
  assert.ok(matcher?.pattern)
  assert.throws(() => matcher.pattern?.test(`${'a'.repeat(40)}b`), /takes longer than 50 ms/)
})

test('arbitrary text is a query or a bad_data error', () => {
  const words = fc.constantFrom(
    'sum',
    'by',
    '(',
    ')',
    '[',
    ']',
    '{',
    '}',
    '5m',
    'rate',
    'x',
    '"a"',
    '=~',
    '=',
    ',',
    'offset',
    '-',
    '1',
    '\n',
    '@',
  )
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.array(words, { maxLength: 15 }).map(list => list.join(' ')),
  )
  fc.assert(
    fc.property(text, query => {
      try {
        parseQuery(query)
      } catch (error) {
        assert.ok(error instanceof QueryError && error.type === 'bad_data', String(error))
      }
    }),
    { numRuns: 500 },
  )
})

const track = fc
  .uniqueArray(fc.integer({ min: 0, max: 300 }), { maxLength: 25 })
  .chain(seconds =>
    fc.tuple(
      fc.constant(seconds.sort((a, b) => a - b).map(s => s * 1_000)),
      fc.array(fc.integer({ min: 0, max: 50 }), { minLength: seconds.length, maxLength: seconds.length }),
    ),
  )
const windowForm = fc.record({
  fn: fc.constantFrom('newest' as const, ...rangeFunctions),
  windowMs: fc.integer({ min: 1, max: 120 }).map(s => s * 1_000),
  offsetMs: fc.constantFrom(0, 10_000, -10_000),
})

test('every function gives what its definition gives, at every point of a range', () => {
  const timesMs = Array.from({ length: 30 }, (_, i) => i * 12_000)
  fc.assert(
    fc.property(track, windowForm, ([stamps, values], window) => {
      const series = { name: 'm', labels: {}, timesMs: stamps, values }
      const result = evaluateSeries(series, window, timesMs)
      assert.equal(result.name, ['newest', 'last_over_time'].includes(window.fn) ? 'm' : undefined)
      for (const [i, timeMs] of timesMs.entries()) {
        const end = timeMs - window.offsetMs
        const inside = stamps
          .map((stamp, k) => ({ stamp, value: values[k] ?? 0 }))
          .filter(({ stamp }) => stamp > end - window.windowMs && stamp <= end)
        same(result.values[i], definition(window.fn, inside, end, window.windowMs))
      }
    }),
    { numRuns: 300 },
  )
})

test('extrapolation, worked out by hand from Prometheus’s rule', () => {
  const evaluate = (
    fn: 'rate' | 'increase' | 'delta',
    stampsS: number[],
    values: number[],
    atS: number,
    windowS: number,
  ) =>
    evaluateSeries(
      { name: 'm', labels: {}, timesMs: stampsS.map(s => s * 1_000), values },
      { fn, windowMs: windowS * 1_000, offsetMs: 0 },
      [atS * 1_000],
    ).values[0]
  // A counter rising by 10 every 5 minutes from zero; one that was reset; a gauge extended to both edges.
  same(
    evaluate(
      'rate',
      [0, 300, 600, 900, 1_200, 1_500, 1_800, 2_100, 2_400, 2_700, 3_000],
      [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100],
      3_000,
      3_001,
    ),
    100 / 3_001,
  )
  same(evaluate('increase', [300, 600, 900], [10, 20, 0], 900, 700), 10 * (10 / 10) + 10 * (100 / 600) + 0)
  same(evaluate('delta', [0, 60, 120], [50, 20, 30], 120, 121), -20 * (121 / 120))
})

test('aggregating by and without labels adds up the same series', () => {
  const labelled = fc.record({ a: fc.constantFrom('1', '2'), b: fc.constantFrom('x', 'y') })
  const vector = fc.uniqueArray(fc.tuple(labelled, fc.option(fc.integer(), { nil: undefined })), {
    selector: ([labels]) => JSON.stringify(labels),
    maxLength: 4,
  })
  fc.assert(
    fc.property(vector, fc.constantFrom(...aggregations), (entries, op) => {
      const series: ResultSeries[] = entries.map(([labels, value]) => ({ name: undefined, labels, values: [value] }))
      const run = (query: string) => {
        const expression = parseQuery(query)
        assert.ok(expression.kind === 'aggregate')
        return aggregate(expression, series)
      }
      assert.deepEqual(run(`${op} by (a) (m)`), run(`${op} without (b) (m)`))
      for (const group of run(`${op} by (a) (m)`)) {
        const members = entries.flatMap(([labels, value]) =>
          labels.a === group.labels.a && value !== undefined ? [value] : [],
        )
        const sum = members.reduce((total, value) => total + value, 0)
        const expected = {
          sum,
          count: members.length,
          avg: sum / members.length,
          min: Math.min(...members),
          max: Math.max(...members),
        }[op]
        same(group.values[0], members.length === 0 ? undefined : expected)
      }
    }),
  )
})

/** Written from the documentation, sample by sample, without the fingers and shortcuts of the real one. */
function definition(
  fn: (typeof rangeFunctions)[number] | 'newest',
  inside: readonly { stamp: number; value: number }[],
  endMs: number,
  windowMs: number,
): number | undefined {
  const first = inside[0]
  const last = inside.at(-1)
  if (!first || !last) return undefined
  const values = inside.map(({ value }) => value)
  const sum = values.reduce((total, value) => total + value, 0)
  if (fn === 'newest' || fn === 'last_over_time') return last.value
  if (fn === 'count_over_time') return values.length
  if (fn === 'sum_over_time') return sum
  if (fn === 'avg_over_time') return sum / values.length
  if (fn === 'min_over_time') return Math.min(...values)
  if (fn === 'max_over_time') return Math.max(...values)
  const before = inside.at(-2)
  if (!before) return undefined
  if (fn === 'irate')
    return (last.value < before.value ? last.value : last.value - before.value) / ((last.stamp - before.stamp) / 1_000)
  let change = last.value - first.value
  if (fn !== 'delta')
    for (const [i, { value }] of inside.entries()) {
      const previous = inside[i - 1]
      if (previous && value < previous.value) change += previous.value
    }
  const spanMs = last.stamp - first.stamp
  const averageMs = spanMs / (inside.length - 1)
  const reach = (gapMs: number) => (gapMs < averageMs * 1.1 ? gapMs : averageMs / 2)
  let headMs = reach(first.stamp - (endMs - windowMs))
  if (fn !== 'delta' && change > 0) headMs = Math.min(headMs, (spanMs * first.value) / change)
  const whole = (change * (spanMs + headMs + reach(endMs - last.stamp))) / spanMs
  return fn === 'rate' ? whole / (windowMs / 1_000) : whole
}

function same(actual: number | undefined, expected: number | undefined) {
  if (actual === undefined || expected === undefined) assert.equal(actual, expected)
  else assert.ok(Math.abs(actual - expected) <= Math.abs(expected) * 1e-9 + 1e-12, `${actual} is not ${expected}`)
}
