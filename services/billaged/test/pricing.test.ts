import assert from 'node:assert/strict'
import test from 'node:test'
import type { Comparison, Priced, Spend } from '../api.ts'
import { type Billing, metric, minuteNs, minutesAgo, quantityOf, startBilling } from './kit.ts'

// A month that is over, so that its numbers stand still: hour marks of the first day of last month.
const monthStart = Temporal.Instant.fromEpochMilliseconds(Date.now())
  .toZonedDateTimeISO('UTC')
  .with({ day: 1 })
  .startOfDay()
const start = monthStart.subtract({ months: 1 }).toInstant()
const startNs = start.epochNanoseconds
const hour = (n: number) => start.add({ hours: n }).toString()
const from = start.toString()
const to = monthStart.toInstant().toString()

const gib = 1n << 30n

async function sendSteadyVm(billing: Billing, customerId: string) {
  // Ten hours, a reading a minute: 1 core busy, 1 GiB used, 1 MiB written a minute.
  const metrics = Array.from({ length: 601 }, (_, i) => {
    const at = BigInt(i) * minuteNs
    return metric(startNs + at, at + 1n, { memoryUsageBytes: `${gib}`, diskWriteBytes: `${(at / minuteNs) << 20n}` })
  })
  assert.equal((await billing.rpc('SendMetricsBatch', { vmId: 'vm-1', customerId, metrics })).status, 200)
  return billing.usage(customerId, `&from=${from}&to=${to}`)
}

test('prices', async t => {
  const billing = await startBilling(t)
  const created = async (path: string, body: object) => {
    const reply = await billing.api('POST', path, body)
    assert.equal(reply.status, 201, JSON.stringify(reply.body))
  }

  await t.test('ten hours of one core and one GiB cost what the example plan says, to the nano', async () => {
    const usage = await sendSteadyVm(billing, 'acme')
    assert.equal(quantityOf(usage, 'vm_cpu'), 36_000_000_000_000n)
    assert.equal(quantityOf(usage, 'vm_memory'), gib * 36_000_000_000_000n)
    assert.equal(usage.ledger.measuredNs, '36000000000000')
    const priced = await billing.preview({ customerId: 'acme', from, to, planId: 'example' })
    const amounts = Object.fromEntries(priced.lines.map(line => [line.priceId, line.amountNano]))
    // 10 × 0.10, 10 × 0.05, 600 MiB × 0.10 per GiB = 0.05859375
    assert.deepEqual(amounts, { cpu: '1000000000', memory: '500000000', 'disk-write': '58593750' })
    assert.equal(priced.totalNano, '1558593750')
    assert.deepEqual(priced.unrated, [])
    const cpu = priced.lines[0]
    assert.deepEqual([cpu?.dividend, cpu?.divisor, cpu?.remainder], ['3600000000000000000000', '3600000000000', '0'])
  })

  await t.test('a customer without a plan is measured and unrated, never priced', async () => {
    const priced = await billing.preview({ customerId: 'acme', from, to })
    assert.deepEqual([priced.planId, priced.totalNano, priced.lines], [null, '0', []])
    assert.deepEqual(
      priced.unrated.map(item => item.meter),
      ['vm_cpu', 'vm_memory', 'vm_disk_write'],
    )
    const spend = (await billing.api('GET', '/v1/customers/acme/spend')).body as Priced
    assert.deepEqual([spend.planId, spend.totalNano], [null, '0'])
  })

  await t.test(
    'a change of plan in the middle of a pair splits it exactly, and flat fees are shared by the hour',
    async () => {
      await sendSteadyVm(billing, 'globex')
      for (const [id, cpu] of [
        ['slow', '100000000'],
        ['fast', '300000000'],
      ] as const) {
        await created('/v1/plans', { id, name: id })
        await created(`/v1/plans/${id}/versions`, {
          effectiveFrom: '2020-01-01T00:00:00Z',
          unbilled: ['vm_memory', 'vm_disk_write'],
          prices: [
            { id: 'base', model: 'flat', amountNano: '1000000007' },
            { id: 'cpu', model: 'per_unit', meter: 'vm_cpu', per: '3600000000000', amountNano: cpu },
          ],
        })
      }
      await created('/v1/subscriptions', { customerId: 'globex', planId: 'slow', from, to: hour(4) })
      await created('/v1/subscriptions', { customerId: 'globex', planId: 'fast', from: hour(4), to: null })
      const priced = await billing.preview({ customerId: 'globex', from, to })
      const cpu = priced.lines.filter(line => line.priceId === 'cpu')
      assert.deepEqual(
        cpu.map(line => line.amountNano),
        ['400000000', '1800000000'],
      )
      const flat = priced.lines.filter(line => line.kind === 'flat').map(line => BigInt(line.amountNano))
      assert.equal(flat.length, 2)
      assert.equal(
        flat.reduce((sum, n) => sum + n, 0n),
        1_000_000_007n,
      )
      const overlap = await billing.api('POST', '/v1/subscriptions', {
        customerId: 'globex',
        planId: 'slow',
        from: hour(100),
      })
      assert.equal(overlap.status, 409)
      const earlier = await billing.api('POST', '/v1/plans/slow/versions', {
        effectiveFrom: '2019-01-01T00:00:00Z',
        prices: [],
      })
      assert.equal(earlier.status, 409)
    },
  )

  await t.test('gap policies: nothing, the counters’ proven rise, or short gaps as if measured', async () => {
    const minutes = [...Array.from({ length: 20 }, (_, i) => i), ...Array.from({ length: 20 }, (_, i) => i + 27)]
    const metrics = minutes.map(m =>
      metric(startNs + BigInt(m) * minuteNs, BigInt(m) * 1000n + 1n, { memoryUsageBytes: '7' }),
    )
    await billing.rpc('SendMetricsBatch', { vmId: 'vm-1', customerId: 'gappy', metrics })
    const expected = {
      zero: [38_000n, 38n, 8n, 0n],
      floor: [46_000n, 38n, 8n, 0n],
      interpolate: [46_000n, 46n, 0n, 8n],
    }
    await billing.usage('gappy')
    let month = 0
    for (const [gapPolicy, [cpu, memory, unmeasured, estimated]] of Object.entries(expected)) {
      const id = `gap-${gapPolicy}`
      await created('/v1/plans', { id, name: id })
      await created(`/v1/plans/${id}/versions`, { effectiveFrom: '2020-01-01T00:00:00Z', gapPolicy, prices: [] })
      await created('/v1/subscriptions', { customerId: 'gappy', planId: id, from: hour(0), to: hour(1) }).catch(
        () => month++,
      )
      const priced = await billing.preview({ customerId: 'gappy', from, to: hour(1), planId: id })
      const used = Object.fromEntries(priced.unrated.map(item => [item.meter, BigInt(item.quantity)]))
      assert.equal(used.vm_cpu, cpu, gapPolicy)
      assert.equal(used.vm_memory, (memory ?? 0n) * minuteNs * 7n, gapPolicy)
      if (gapPolicy === 'zero') {
        const { ledger } = await billing.usage('gappy', `&from=${from}&to=${hour(1)}`)
        assert.deepEqual(
          [ledger.unmeasuredNs, ledger.estimatedNs],
          [`${(unmeasured ?? 0n) * minuteNs}`, `${(estimated ?? 0n) * minuteNs}`],
        )
      }
    }
    assert.equal(month, 2)
  })

  await t.test('hours and days sum to the whole, whatever the edges', async () => {
    const whole = await billing.usage('acme', `&from=${from}&to=${to}`)
    for (const by of ['hour', 'day', 'vm']) {
      const span = by === 'hour' ? `&from=${from}&to=${hour(30)}` : `&from=${from}&to=${to}`
      const rows = await billing.usage('acme', `${span}&by=${by}`)
      for (const meter of ['vm_cpu', 'vm_memory', 'vm_disk_write'])
        assert.equal(quantityOf(rows, meter), quantityOf(whole, meter), `${by} ${meter}`)
    }
    const odd = ['00:17:03.001Z', '03:59:59.999Z', '07:00:00Z'].map(time => `${from.slice(0, 10)}T${time}`)
    const edges = [from, ...odd, to]
    let sum = 0n
    for (const [i, end] of edges.slice(1).entries())
      sum += quantityOf(await billing.usage('acme', `&from=${edges[i]}&to=${end}`), 'vm_disk_write')
    assert.equal(sum, quantityOf(whole, 'vm_disk_write'))
  })

  await t.test('spend says what the period will come to, and the budget beside it', async () => {
    await created('/v1/plans', { id: 'base', name: 'Base' })
    const prices = [{ id: 'base', model: 'flat', amountNano: '1000' }]
    await created('/v1/plans/base/versions', { effectiveFrom: '2020-01-01T00:00:00Z', prices, unbilled: ['vm_cpu'] })
    await billing.rpc('SendMetricsBatch', { vmId: 'v', customerId: 'umbrella', metrics: [metric(minutesAgo(1), 1n)] })
    await billing.usage('umbrella')
    await created('/v1/subscriptions', { customerId: 'umbrella', planId: 'base', from: '2020-01-01T00:00:00Z' })
    assert.equal((await billing.api('PUT', '/v1/customers/umbrella', { budgetNano: '5000' })).status, 200)
    const spend = (await billing.api('GET', '/v1/customers/umbrella/spend')).body as Spend
    assert.deepEqual([spend.totalNano, spend.forecastNano, spend.budgetNano], ['1000', '1000', '5000'])
  })

  await t.test(
    'what if: each customer under another plan, stored or only sketched, with who pays less and who more',
    async () => {
      const compare = async (body: object) => {
        const reply = await billing.api('POST', '/v1/preview/compare', {
          from,
          to,
          customers: ['acme', 'globex'],
          ...body,
        })
        assert.equal(reply.status, 200, JSON.stringify(reply.body))
        return reply.body as Comparison
      }
      const alone = await billing.preview({ customerId: 'globex', from, to })
      const other = await billing.preview({ customerId: 'globex', from, to, planId: 'example' })
      const compared = await compare({ planId: 'example' })
      const globex = compared.rows.find(row => row.customerId === 'globex')
      assert.deepEqual([globex?.nowNano, globex?.thenNano], [alone.totalNano, other.totalNano])
      assert.equal(globex?.differenceNano, `${BigInt(other.totalNano) - BigInt(alone.totalNano)}`)
      const version = {
        effectiveFrom: '2020-01-01T00:00:00Z',
        prices: [{ id: 'base', model: 'flat', amountNano: '1' }],
      }
      const sketched = await compare({ version })
      assert.deepEqual(
        sketched.rows.map(row => row.thenNano),
        ['1', '1'],
      )
      assert.ok(sketched.payLess.includes('globex') && sketched.payMore.includes('acme'))
      assert.equal((await billing.api('POST', '/v1/preview/compare', { from, to })).status, 400)
      // The same, asked of the preview itself; of all of them without a name.
      const body = { from, to, customers: ['acme', 'globex'], planId: 'example' }
      assert.deepEqual((await billing.api('POST', '/v1/preview', body)).body, compared)
      const all = (await billing.api('POST', '/v1/preview', { from, to, planId: 'example' })).body as Comparison
      assert.ok(compared.rows.every(row => all.rows.some(one => one.customerId === row.customerId)))
      const csv = await fetch(`${billing.url}/v1/preview`, {
        method: 'POST',
        headers: { authorization: `Bearer ${billing.key}`, 'content-type': 'application/json' },
        body: JSON.stringify({ from, to, customers: ['acme'], version, format: 'csv' }),
      })
      assert.match(await csv.text(), /^customer,from,to,plan,currency,now,then,difference,unrated\r\nacme,/)
    },
  )

  await t.test('bad questions name their field', async () => {
    const ask = async (path: string) => {
      const { status, body } = await billing.api('GET', path)
      return [status, (body as { detail: string }).detail]
    }
    assert.deepEqual(await ask('/v1/customers/acme/usage?from=yesterday'), [
      400,
      'from: is not a time such as 2026-10-01T00:00:00Z.',
    ])
    assert.match(String((await ask('/v1/customers/acme/usage?by=week'))[1]), /^by: /)
    assert.match(String((await ask(`/v1/customers/acme/usage?by=hour&from=2020-01-01T00:00:00Z`))[1]), /at most 1000/)
    assert.match(String((await ask('/v1/customers/acme/usage?wait=soon'))[1]), /^wait: /)
    assert.deepEqual(
      (await billing.api('POST', '/v1/preview', { customerId: 'acme', from: '2026-10-01T00:30:00Z' })).status,
      400,
    )
  })
})
