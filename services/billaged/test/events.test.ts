import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { mintToken } from '#platform/tenancy/token'
import { systemClock } from '#platform/time'
import { openOutbox } from '#platform/usage/outbox'
import { testBase } from '../../../test/kit/base.ts'
import { testDatabase } from '../../../test/kit/database.ts'
import type { UsageRow } from '../api.ts'
import { digestEvent, parseEvent } from '../events/cloud-event.ts'
import { type Billing, type Reply, startBilling, testSecret } from './kit.ts'

const nowNs = BigInt(Date.now()) * 1_000_000n
let serial = 0

const event = (more: object = {}) => ({
  specversion: '1.0',
  id: `e${serial++}`,
  source: '/test',
  type: 'purser.logs.ingested.v1',
  subject: 'acme',
  time: new Date(Date.now() - 60_000).toISOString(),
  data: { rows: '1', bytes: '10' },
  ...more,
})

async function post(
  billing: Billing,
  type: string,
  body: string,
  headers: Record<string, string> = {},
): Promise<Reply> {
  const response = await fetch(`${billing.url}/api/v1/events`, {
    method: 'POST',
    headers: { authorization: `Bearer ${billing.key}`, ...(type === '' ? {} : { 'content-type': type }), ...headers },
    body,
  })
  const text = await response.text()
  return { status: response.status, headers: response.headers, body: text === '' ? null : JSON.parse(text) }
}

const detail = (reply: Reply) => (reply.body as { detail: string }).detail

async function meters(billing: Billing, customer: string): Promise<Record<string, string>> {
  const { rows } = await billing.usage(customer)
  return Object.fromEntries(rows.map((row: UsageRow) => [row.meter, row.quantity]))
}

test('usage events', async t => {
  const billing = await startBilling(t)

  await t.test('all four forms of CloudEvents over HTTP are taken, exact to the last digit', async () => {
    const big = '123456789012345678901234567'
    const forms: [string, string, Record<string, string>][] = [
      ['application/cloudevents+json', JSON.stringify(event({ subject: 'forms' })), {}],
      ['application/cloudevents-batch+json; charset=utf-8', JSON.stringify([event({ subject: 'forms' })]), {}],
      ['application/json', JSON.stringify(event({ subject: 'forms' })), {}],
      ['application/json', JSON.stringify([event({ subject: 'forms' }), event({ subject: 'forms' })]), {}],
      // A bare number of 27 digits, in binary mode.
      [
        'application/json',
        `{"rows":1,"bytes":${big}}`,
        {
          'ce-specversion': '1.0',
          'ce-id': 'binary%201',
          'ce-source': '/test',
          'ce-type': 'purser.logs.ingested.v1',
          'ce-subject': 'forms',
        },
      ],
    ]
    for (const [type, body, headers] of forms)
      assert.equal((await post(billing, type, body, headers)).status, 204, type)
    const { log_bytes, log_entries } = await meters(billing, 'forms')
    assert.equal(log_bytes, `${BigInt(big) + 50n}`)
    assert.equal(log_entries, '6')
  })

  await t.test('a batch is all or nothing, and the refusal names index and field', async () => {
    const good = event({ subject: 'all-or-nothing' })
    const cases: [unknown, string][] = [
      [{ ...good, id: '' }, '[1].id is not a text of at least one character'],
      [{ ...good, source: undefined }, '[1].source is required'],
      [{ ...good, type: 7 }, '[1].type is not a text of at least one character'],
      [{ ...good, specversion: '0.3' }, '[1].specversion is 0.3; this takes 1.0'],
      [{ ...good, time: 'yesterday' }, '[1].time is "yesterday"; a time looks like 2026-01-02T03:04:05Z'],
      [
        { ...good, data: { a: 'x\u0000' } },
        '[1].data.a holds a NUL character or half a surrogate pair, which cannot be stored',
      ],
      ['text', '[1] is not an object; a CloudEvent has specversion, id, source and type'],
    ]
    for (const [bad, message] of cases) {
      const reply = await post(
        billing,
        'application/cloudevents-batch+json',
        JSON.stringify([event({ subject: 'all-or-nothing' }), bad]),
      )
      assert.equal(reply.status, 400, message)
      assert.equal(detail(reply), message)
    }
    const deep = `${'['.repeat(100)}${']'.repeat(100)}`
    const nested = JSON.stringify(event()).replace('"data":{', `"data":{"x":${deep},`)
    assert.match(detail(await post(billing, 'application/json', nested)), /nests deeper than 32/)
    assert.match(detail(await post(billing, 'application/json', '{"a"')), /not valid JSON/)
    assert.equal((await post(billing, 'text/plain', 'x')).status, 415)
    assert.equal((await billing.api('GET', '/v1/customers/all-or-nothing')).status, 404)
  })

  await t.test(
    'content sent again is ignored, also when the time is ours; other content bills the lowest',
    async () => {
      const subject = 'identity'
      const first = event({ subject, data: { rows: 3, bytes: 7 } })
      for (let i = 0; i < 3; i++) await post(billing, 'application/json', JSON.stringify(first))
      const timeless = event({ subject, time: undefined, data: { bytes: 2, rows: 0 } })
      await post(billing, 'application/json', JSON.stringify(timeless))
      await post(billing, 'application/json', JSON.stringify({ ...timeless, data: { rows: 0, bytes: 2 } }))
      assert.deepEqual(await meters(billing, subject), { log_bytes: '9', log_entries: '3' })
      // The same identity with a lower and a higher value: each meter bills its own lowest variant.
      await post(billing, 'application/json', JSON.stringify({ ...first, data: { rows: 2, bytes: 100 } }))
      assert.deepEqual(await meters(billing, subject), { log_bytes: '9', log_entries: '2' })
      // The lowest variant may be another customer's: then nobody pays twice.
      await post(
        billing,
        'application/json',
        JSON.stringify({ ...first, subject: 'other', data: { rows: 1, bytes: 1 } }),
      )
      assert.deepEqual(await meters(billing, subject), { log_bytes: '2', log_entries: '0' })
      assert.deepEqual(await meters(billing, 'other'), { log_bytes: '1', log_entries: '1' })
    },
  )

  await t.test('what cannot be metered is stored with its reason, what is too old is set aside', async () => {
    const reply = await post(
      billing,
      'application/json',
      JSON.stringify([
        event({ type: 'nobody.meters.this' }),
        event({ data: { rows: 'many', bytes: 1 } }),
        event({ data: { rows: 1, bytes: '0.1234567891' } }),
        event({ subject: 'late', time: '2001-01-01T00:00:00Z' }),
      ]),
    )
    assert.equal(reply.status, 204)
    assert.equal(reply.headers.get('billaged-accepted'), '3')
    assert.equal(reply.headers.get('billaged-set-aside'), '1; reason=too_old')
    assert.equal((await billing.api('GET', '/v1/customers/late')).status, 404)
  })

  await t.test('a tenant’s key sends for its tenant only; the outbox’s token sends for all', async () => {
    const token = (o: { tenant?: string; role: 'viewer' | 'operator'; subject: string }) =>
      `Bearer ${mintToken(Buffer.from(testSecret), { audience: 'billaged', clock: systemClock, ...o })}`
    const send = (authorization: string | null, subject: string) =>
      billing.api('POST', '/api/v1/events', [event({ subject })], authorization)
    assert.equal((await send(null, 'acme')).status, 401)
    assert.equal((await send('Bearer nonsense', 'acme')).status, 401)
    assert.equal((await send(token({ role: 'viewer', subject: 'console' }), 'acme')).status, 403)
    assert.equal((await send(token({ role: 'viewer', subject: 'usage' }), 'acme')).status, 204)
    const bound = token({ role: 'operator', subject: 'usage', tenant: 'acme' })
    assert.equal((await send(bound, 'acme')).status, 204)
    const refused = await send(bound, 'globex')
    assert.equal(refused.status, 403)
    assert.match(detail(refused), /^\[0\]\.subject: this key may send events of acme only/)
  })

  await t.test('what a service reports through its outbox is metered once', async inner => {
    const { sql } = await testDatabase(inner)
    const { log, registry, clock } = testBase(inner)
    const secret = Buffer.from(testSecret)
    const outbox = await openOutbox({
      sql,
      schema: 'builderd',
      service: 'builderd',
      clusterId: 'test',
      billagedUrl: billing.url,
      secret,
      log,
      clock,
      registry,
    })
    inner.after(() => outbox.close())
    const report = {
      type: 'builderd.build_time',
      subject: 'outbox',
      time: new Date(),
      data: { running_ms: '61000', tier: 'free', result: 'ok' },
    }
    await sql.begin(tx =>
      outbox.report(tx, [
        { id: 'build-1', ...report },
        { id: 'build-2', ...report },
      ]),
    )
    await sql.begin(tx => outbox.report(tx, [{ id: 'build-1', ...report }]))
    await outbox.flush()
    assert.deepEqual(await meters(billing, 'outbox'), { build_count: '2', build_ms: '122000' })
  })

  await t.test('sums and groups equal a plain loop over the events', async () => {
    const value = fc.oneof(
      fc.bigInt({ min: 0n, max: 10n ** 20n }).map(String),
      fc.nat(1_000_000).map(n => `${n / 1000}`),
    )
    const call = fc.record({
      provider: fc.constantFrom('openai', 'google'),
      cost: value,
      input: fc.nat(1000),
      output: fc.nat(1000),
    })
    const hourMs = 3_600_000
    const twoDaysAgo = new Date((Math.floor(Date.now() / hourMs) - 48) * hourMs).toISOString()
    await fc.assert(
      fc.asyncProperty(fc.array(call, { minLength: 1, maxLength: 12 }), async list => {
        const subject = `loop-${serial++}`
        const batch = list.map(({ provider, cost, input, output }) =>
          event({
            subject,
            type: 'purser.ai.call.v1',
            data: { provider, model: 'm', inputTokens: `${input}`, outputTokens: output, costNanoUsd: cost },
          }),
        )
        assert.equal((await post(billing, 'application/json', JSON.stringify(batch))).status, 204)
        const scaled = (text: string) => {
          const [whole = '', fraction = ''] = text.split('.')
          return BigInt(whole + fraction.padEnd(9, '0'))
        }
        const total = list.reduce((sum, { cost }) => sum + scaled(cost), 0n)
        const answer = await meters(billing, subject)
        assert.equal(scaled(answer.ai_cost ?? ''), total)
        assert.equal(answer.ai_tokens, `${list.reduce((sum, c) => sum + c.input + c.output, 0)}`)
        assert.equal(answer.ai_requests, `${list.length}`)
        // Sent a minute ago: in a month's first minute of the period before.
        const { unrated } = await billing.preview({ customerId: subject, from: twoDaysAgo })
        for (const provider of ['openai', 'google']) {
          const expected = list.filter(c => c.provider === provider).reduce((sum, c) => sum + scaled(c.cost), 0n)
          const found = unrated.find(item => item.meter === 'ai_cost' && item.group.provider === provider)
          assert.equal(scaled(found?.quantity ?? '0'), expected)
        }
      }),
      { numRuns: 10 },
    )
  })
})

test('a digest names the content: key order and spelling of the time do not matter, anything else does', () => {
  const digest = (value: object) => digestEvent(parseEvent(value, '', nowNs)).toString('hex')
  const base = event({ time: '2026-01-01T00:00:00Z', data: { a: 1, b: [1, { c: 2, d: 3 }] } })
  const same = { ...base, time: '2026-01-01T01:00:00.000+01:00', data: { b: [1, { d: 3, c: 2 }], a: 1 } }
  assert.equal(digest(same), digest(base))
  for (const other of [{ subject: 'x' }, { type: 'x' }, { time: '2026-01-01T00:00:01Z' }, { data: { a: 1 } }])
    assert.notEqual(digest({ ...base, ...other }), digest(base))
})

test('whatever comes as an event is answered with an event or InvalidEvent', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.anything(),
        fc.record({
          specversion: fc.constant('1.0'),
          id: fc.string(),
          source: fc.string(),
          type: fc.string(),
          time: fc.string(),
          data: fc.anything(),
        }),
      ),
      value => {
        try {
          parseEvent(value, '', nowNs)
        } catch (error) {
          assert.equal(error instanceof Error ? error.name : '', 'InvalidEvent')
        }
      },
    ),
  )
})
