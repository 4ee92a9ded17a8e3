import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { billingRoute, billingTabs, formatRoute, logsTabs, parseRoute, type Route, spendTabs } from './route.ts'

const open = (address: string) => {
  const url = new URL(address, 'http://localhost')
  return parseRoute(url.pathname, url.search)
}

const text = fc.string({ unit: 'grapheme', maxLength: 30 })
const segment = text.filter(part => !['', '.', '..'].includes(part) && part.isWellFormed())
const route: fc.Arbitrary<Route> = fc.oneof(
  fc.constant<Route>({ screen: 'overview' }),
  fc.record({ screen: fc.constant('hosts' as const), host: fc.option(fc.nat(99)), range: text }),
  fc.record({
    screen: fc.constant('logs' as const),
    tab: fc.constantFrom(...logsTabs),
    query: text,
    range: text,
    from: text,
    to: text,
    isLive: fc.boolean(),
  }),
  fc.record({
    screen: fc.constant('spend' as const),
    tenant: fc.option(fc.nat(1e9 - 1)),
    tab: fc.constantFrom(...spendTabs),
  }),
  fc.constantFrom(...billingTabs).map(tab => billingRoute(tab)),
  fc
    .record({ tab: fc.constantFrom(...billingTabs.slice(1)), id: segment, vm: segment, period: text, line: text })
    .map(({ tab, ...rest }) => billingRoute(tab, rest)),
  fc.record({ screen: fc.constant('builds' as const), build: segment, tenant: text }),
  fc.constant<Route>({ screen: 'settings' }),
)

test('every address the console writes opens the screen it came from', () => {
  fc.assert(
    fc.property(
      route.filter(one => Object.values(one).every(value => typeof value !== 'string' || value.isWellFormed())),
      one => assert.deepEqual(open(formatRoute(one)), { ...one }),
    ),
  )
})

test('a log search can be pasted as a link', () => {
  assert.deepEqual(open('/dashboard/logs?q=level%3E%3Dwarn+service%3Ashop&range=1h&live=1'), {
    screen: 'logs',
    tab: 'search',
    query: 'level>=warn service:shop',
    range: '1h',
    from: '',
    to: '',
    isLive: true,
  })
})

test('addresses of older consoles land on the screen that replaced them', () => {
  for (const path of ['usage-insights', 'usage-tracking', 'sessions', 'admin/tenants', 'admin/tags', 'models'])
    assert.equal(open(`/dashboard/${path}`).screen, 'spend')
  assert.deepEqual(
    open('/dashboard/usage?customer=acme&period=2026-10'),
    billingRoute('customers', { id: 'acme', period: '2026-10' }),
  )
  assert.equal(open('/dashboard/settings').screen, 'settings')
  assert.equal(open('/dashboard').screen, 'overview')
})

test('an address nobody wrote is unknown and does not throw', () => {
  assert.deepEqual(open('/dashboard/nope'), { screen: 'unknown', path: '/dashboard/nope' })
  assert.equal(open('/dashboard/logs/a/b').screen, 'unknown')
  assert.equal(open('/dashboard/billing/customers/acme/vm-1/more').screen, 'unknown')
  assert.equal(parseRoute('/dashboard/builds/%E0%A4%A', '').screen, 'builds')
})
