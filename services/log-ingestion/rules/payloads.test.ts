import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Announced } from './alert-state.ts'
import { type Notice, payloadOf } from './payloads.ts'

function notice(format: 'purser' | 'slack' | 'alertmanager', previous: Announced, state: Announced): Notice {
  return {
    id: 'd-1',
    tenant: 'acme',
    rule: {
      id: '7',
      name: 'a<b & c',
      definition: {
        q: 'level>=error',
        kind: 'count',
        threshold: 3,
        window: '5m',
        every: '1m',
        for: '2m',
        enabled: true,
        webhook: { url: 'https://hooks.example/secret-path', format },
      },
    },
    state,
    previous,
    atMs: Date.UTC(2026, 0, 2, 3, 4),
    firingSinceMs: state === 'firing' ? Date.UTC(2026, 0, 2, 3, 2) : null,
    value: '5',
    isTest: false,
  }
}

test('no format tells where it is sent to', () => {
  for (const format of ['purser', 'slack', 'alertmanager'] as const)
    assert.equal(payloadOf(notice(format, 'ok', 'firing')).includes('secret-path'), false)
})

test('purser: rule, state, window and value', () => {
  assert.deepEqual(JSON.parse(payloadOf(notice('purser', 'ok', 'firing'))), {
    id: 'd-1',
    type: 'log.alert',
    test: false,
    tenant: 'acme',
    rule: {
      id: '7',
      name: 'a<b & c',
      q: 'level>=error',
      kind: 'count',
      threshold: 3,
      window: '5m',
      every: '1m',
      for: '2m',
    },
    state: 'firing',
    previous: 'ok',
    at: '2026-01-02T03:04:00.000Z',
    window: { from: '2026-01-02T02:59:00.000Z', to: '2026-01-02T03:04:00.000Z' },
    value: '5',
  })
})

test('slack: one text, with what is markup there escaped', () => {
  const { text } = JSON.parse(payloadOf(notice('slack', 'ok', 'firing'))) as { text: string }
  assert.equal(text, 'a&lt;b &amp; c (acme): FIRING, 5 entries in 5m, at 2026-01-02T03:04:00.000Z\nlevel&gt;=error')
})

test('alertmanager: one alert has one identity from its beginning to its end; a stall is another, ended by the next verdict', () => {
  const alerts = (previous: Announced, state: Announced) =>
    (
      JSON.parse(payloadOf(notice('alertmanager', previous, state))) as {
        labels: { alertname: string }
        startsAt: string
        endsAt: string
      }[]
    ).map(({ labels, startsAt, endsAt }) => [
      labels.alertname,
      startsAt,
      Date.parse(endsAt) <= Date.UTC(2026, 0, 2, 3, 4),
    ])
  const at = '2026-01-02T03:04:00.000Z'
  assert.deepEqual(alerts('ok', 'firing'), [['a<b & c', '2026-01-02T03:02:00.000Z', false]])
  assert.deepEqual(alerts('firing', 'ok'), [['a<b & c', at, true]])
  assert.deepEqual(alerts('firing', 'stalled'), [['a<b & c stalled', at, false]])
  assert.deepEqual(alerts('stalled', 'firing'), [
    ['a<b & c stalled', at, true],
    ['a<b & c', '2026-01-02T03:02:00.000Z', false],
  ])
})
