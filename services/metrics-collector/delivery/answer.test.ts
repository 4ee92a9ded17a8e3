import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type Answer, backoffMs, judge, retryAfterMs, shownUrl } from './answer.ts'
import { intersect, skewInterval } from './clock-check.ts'

const nowMs = Date.UTC(2026, 2, 1)
const o = { url: 'https://user:pass@m.example/api/v1/import?x=1', nowMs, retryAfterMsMax: 900_000 }
const answer = (status: number, more: Partial<Answer> = {}): Answer => ({
  status,
  contentType: '',
  retryAfter: undefined,
  location: undefined,
  body: '',
  ...more,
})

test('each answer means what the table says', () => {
  const kinds: [Answer, string][] = [
    [answer(204), 'delivered'],
    [answer(200, { body: 'ok' }), 'delivered'],
    [answer(200, { contentType: 'text/HTML; charset=utf-8' }), 'retry'],
    [answer(200, { body: '  <!doctype html>' }), 'retry'],
    [answer(400), 'refused'],
    [answer(409), 'refused'],
    [answer(422), 'refused'],
    [answer(413), 'too-large'],
    [answer(401), 'unauthorized'],
    [answer(403), 'unauthorized'],
    [answer(404), 'hold'],
    [answer(405), 'hold'],
    [answer(418), 'hold'],
    [answer(301, { location: 'https://elsewhere.example' }), 'hold'],
    [answer(307), 'hold'],
    [answer(429), 'throttled'],
    [answer(503), 'throttled'],
    [answer(500), 'retry'],
    [answer(502), 'retry'],
  ]
  for (const [given, kind] of kinds) assert.equal(judge(given, o).kind, kind, String(given.status))
})

test('every status is judged, and no reason shows credentials', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 200, max: 599 }),
      fc.string(),
      fc.option(fc.string(), { nil: undefined }),
      (status, body, retryAfter) => {
        const verdict = judge(answer(status, { body, retryAfter }), o)
        if ('reason' in verdict) assert.doesNotMatch(verdict.reason, /pass|x=1/)
        if (verdict.kind === 'throttled') assert.ok(verdict.afterMs >= 0 && verdict.afterMs <= o.retryAfterMsMax)
      },
    ),
  )
  assert.equal(shownUrl(o.url), 'https://m.example/api/v1/import')
})

test('Retry-After as seconds or date, clamped; malformed, negative and past count as absent', () => {
  const cases: [string | undefined, number][] = [
    ['120', 120_000],
    ['0', 0],
    [new Date(nowMs + 30_000).toUTCString(), 30_000],
    [new Date(nowMs - 30_000).toUTCString(), 0],
    ['999999', 900_000],
    ['-5', 0],
    ['soon', 0],
    ['1.5', 0],
    ['', 0],
    [undefined, 0],
  ]
  for (const [header, ms] of cases) assert.equal(retryAfterMs(header, nowMs, 900_000), ms, String(header))
})

test('backoff grows to its bound and stays within its jitter', () => {
  const settings = fc.record({
    initialMs: fc.integer({ min: 1, max: 10_000 }),
    maxMs: fc.integer({ min: 1, max: 600_000 }),
    multiplier: fc.double({ min: 1, max: 10, noNaN: true }),
    jitterPercent: fc.integer({ min: 0, max: 100 }),
  })
  fc.assert(
    fc.property(
      settings,
      fc.nat(5_000),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      (b, n, random) => {
        const ms = backoffMs(n, b, random)
        const straight = Math.min(b.initialMs * b.multiplier ** Math.min(n, 1_000), b.maxMs)
        assert.ok(
          ms >= straight * (1 - b.jitterPercent / 100) - 1e-6 && ms <= straight * (1 + b.jitterPercent / 100) + 1e-6,
        )
        if (b.jitterPercent === 0) assert.equal(ms, straight)
      },
    ),
  )
})

test('the true skew is inside what the answers allow, and several answers only narrow it', () => {
  const asked = fc.array(fc.record({ atMs: fc.nat(20_000), delayMs: fc.nat(800), shareMs: fc.nat(800) }), {
    minLength: 1,
    maxLength: 6,
  })
  fc.assert(
    fc.property(fc.integer({ min: -1e7, max: 1e7 }), asked, (skewMs, answers) => {
      let known: { lo: number; hi: number } | undefined
      for (const { atMs, delayMs, shareMs } of answers) {
        const serverMs = nowMs + atMs + Math.min(shareMs, delayMs)
        const interval = skewInterval(
          nowMs + atMs + skewMs,
          nowMs + atMs + delayMs + skewMs,
          Math.floor(serverMs / 1_000) * 1_000,
        )
        const next: { lo: number; hi: number } | undefined = known ? intersect(known, interval) : interval
        assert.ok(next && next.lo <= skewMs && skewMs <= next.hi)
        if (known) assert.ok(next.hi - next.lo <= known.hi - known.lo)
        known = next
      }
    }),
  )
})
