import assert from 'node:assert/strict'
import test from 'node:test'
import type { Spend } from '../api.ts'
import { metric, minuteNs, startBilling } from './kit.ts'

const month = Temporal.Now.zonedDateTimeISO('UTC').with({ day: 1 }).startOfDay().subtract({ months: 1 })

test('a customer opens its link and sees spend, machines and invoices, read-only, until the link ends', async t => {
  let aheadMs = 0
  // In the middle of a month, so that what was read minutes ago is of the running period.
  const beganMs = month.add({ months: 1, days: 14, hours: 12 }).epochMilliseconds - performance.now()
  const clock = { now: () => Math.floor(beganMs + performance.now()) + aheadMs, monotonicMs: () => performance.now() }
  const ago = (minutes: number) => BigInt(clock.now() - minutes * 60_000) * 1_000_000n
  const billing = await startBilling(t, { clock })
  const send = (vmId: string, metrics: object[]) =>
    billing.rpc('SendMetricsBatch', { vmId, customerId: 'acme', metrics })
  const startNs = month.toInstant().epochNanoseconds
  const hourNs = 60n * minuteNs
  await send('vm-1', [metric(startNs, 1n), metric(startNs + hourNs, hourNs + 1n)])
  await send('<img src=x>', [metric(ago(3), 1n), metric(ago(2), minuteNs + 1n)])
  await billing.usage('acme')
  await billing.api('PUT', '/v1/customers/acme', { name: 'Acme <script>', budgetNano: '1000000000000' })
  const from = month.toInstant().toString()
  assert.equal(
    (await billing.api('POST', '/v1/subscriptions', { customerId: 'acme', planId: 'example', from })).status,
    201,
  )
  const monthName = month.toPlainDate().toString().slice(0, 7)
  const closed = await billing.api('POST', `/v1/close/${monthName}`, { force: { reason: 'test' } })
  const [invoice = ''] = (closed.body as { finalised: string[] }).finalised

  const made = await billing.api('POST', '/v1/portal/tokens', { customerId: 'acme', ttl: '2h' })
  assert.equal(made.status, 201)
  const { token, expiresAt } = made.body as { token: string; expiresAt: string }
  assert.ok(Math.abs(Date.parse(expiresAt) - clock.now() - 7_200_000) < 60_000)

  // The door takes the token from the form that the link's script sends, and leaves it in a cookie of its own.
  const door = await fetch(`${billing.url}/portal`)
  assert.deepEqual([door.status, door.headers.get('cache-control')], [200, 'no-store'])
  assert.match(door.headers.get('content-security-policy') ?? '', /default-src 'none'.*frame-ancestors 'none'/)
  assert.match(await door.text(), /<form method="post" action="\/portal\/session">/)
  const enter = (text: string) =>
    fetch(`${billing.url}/portal/session`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: new URLSearchParams({ token: text }),
      redirect: 'manual',
    })
  const entered = await enter(token)
  const cookie = entered.headers.get('set-cookie') ?? ''
  assert.equal(entered.status, 303)
  assert.match(cookie, /^purser_portal=om_portal_[\w-]+; Max-Age=7\d\d\d; Path=\/portal; HttpOnly; SameSite=Strict$/)
  const refused = await enter('om_portal_wrong; Path=/')
  assert.match(refused.headers.get('set-cookie') ?? '', /^purser_portal=refused; Max-Age=10; Path=\/portal;/)

  const open = (path: string) => fetch(billing.url + path, { headers: { cookie: cookie.split(';')[0] ?? '' } })
  const page = await (await open('/portal')).text()
  const spend = (await billing.api('GET', '/v1/customers/acme/spend')).body as Spend
  assert.match(page, /<bdi>Acme &lt;script&gt;<\/bdi>/)
  assert.match(page, /&lt;img src=x&gt;/)
  assert.ok(!page.includes('<img') && !page.includes('Acme <script'))
  for (const text of [
    'Spent so far',
    'Forecast',
    'Budget',
    'core-hours',
    '<rect class="measured"',
    'INV-',
    '✓ signature valid',
  ])
    assert.ok(page.includes(text), text)
  assert.ok(BigInt(spend.totalNano) > 0n)

  for (const format of ['.html', '.csv', ''])
    assert.equal((await open(`/portal/invoices/${invoice}${format}`)).status, 200)
  assert.equal((await open(`/portal/invoices/${invoice}/receipt`)).status, 200)
  // What is not closed is not shown.
  const drafts = await billing.api('GET', '/v1/invoices?state=draft')
  assert.equal(drafts.status, 200)
  const listed = (await billing.api('GET', '/v1/portal/invoices', undefined, `Bearer ${token}`)).body
  assert.deepEqual(
    (listed as { invoices: { id: string }[] }).invoices.map(({ id }) => id),
    [invoice],
  )

  // Withdrawn, and expired.
  const second = (await billing.api('POST', '/v1/portal/tokens', { customerId: 'acme' })).body as {
    token: string
    id: string
  }
  const read = async (text: string) =>
    (await billing.api('GET', '/v1/portal/spend', undefined, `Bearer ${text}`)).status
  assert.deepEqual([await read(token), await read(second.token)], [200, 200])
  await billing.api('POST', '/v1/portal/tokens/invalidate', { id: second.id })
  assert.deepEqual([await read(token), await read(second.token)], [200, 401])
  aheadMs = 7_200_001
  assert.equal(await read(token), 401)
  assert.match(await (await open('/portal')).text(), /unknown, has expired or was withdrawn/)
  for (const ttl of ['1s', '745h', 'soon'])
    assert.equal((await billing.api('POST', '/v1/portal/tokens', { customerId: 'acme', ttl })).status, 400)
})
