import assert from 'node:assert/strict'
import { connect } from 'node:net'
import test, { type TestContext } from 'node:test'
import { pollUntil } from '../../../test/kit/poll.ts'
import type { CostGap, CostSnapshot, SpendAlert } from '../alerts/api.ts'
import type { Spend } from '../api.ts'
import { type Billing, metric, midPeriod, minutesAgo, startBilling } from './kit.ts'

interface Event {
  id: string
  event: string
  data: unknown
}

/** Reads a stream of events until the test ends. */
async function follow(t: TestContext, billing: Billing, query: string, lastEventId?: string) {
  const aborting = new AbortController()
  t.after(() => aborting.abort())
  const response = await fetch(`${billing.url}/v1/stream/costs?${query}`, {
    headers: {
      authorization: `Bearer ${billing.key}`,
      ...(lastEventId === undefined ? {} : { 'last-event-id': lastEventId }),
    },
    signal: aborting.signal,
  })
  assert.equal(response.status, 200)
  assert.match(response.headers.get('content-type') ?? '', /^text\/event-stream/)
  const events: Event[] = []
  const state = { isEnded: false }
  const read = async () => {
    let text = ''
    for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
      text += chunk
      for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
        const fields = Object.fromEntries(
          text
            .slice(0, end)
            .split('\n')
            .map(line => line.split(/: (.*)/s)),
        )
        if (fields.event !== undefined)
          events.push({ id: fields.id, event: fields.event, data: JSON.parse(fields.data) })
        text = text.slice(end + 2)
      }
    }
  }
  read()
    .catch(() => {})
    .finally(() => {
      state.isEnded = true
    })
  const of = <T>(name: string) => events.filter(({ event }) => event === name).map(({ data }) => data as T)
  return { events, of, state, stop: () => aborting.abort() }
}

async function made(reply: ReturnType<Billing['api']>) {
  const { status, body } = await reply
  assert.ok(status < 300, JSON.stringify(body))
}

test('the cost stream tells the running period as spend has it, alerts and gaps as they come, and ends with the server', async t => {
  const billing = await startBilling(t, { env: { BILLAGED_AGGREGATION_INTERVAL: '200ms' } })
  await midPeriod(billing, 'acme')
  // A reading of nothing but zeros is none.
  const send = (vmId: string, minute: number, cpu: bigint) =>
    billing.rpc('SendMetricsBatch', { vmId, customerId: 'acme', metrics: [metric(minutesAgo(minute), cpu + 1n)] })
  await send('vm-1', 9, 0n)
  await send('vm-1', 8, 30n)
  await send('vm-2', 9, 0n)
  await send('vm-2', 8, 15n)
  await billing.usage('acme')
  await made(billing.api('POST', '/v1/plans', { id: 'p', name: 'p' }))
  const prices = [{ id: 'cpu', model: 'per_unit', meter: 'vm_cpu', per: '1', amountNano: '1000' }]
  await made(billing.api('POST', '/v1/plans/p/versions', { effectiveFrom: '2020-01-01T00:00:00Z', prices }))
  await made(
    billing.api('POST', '/v1/subscriptions', { customerId: 'acme', planId: 'p', from: '2020-01-01T00:00:00Z' }),
  )
  await made(billing.api('POST', '/v1/budgets', { customerId: 'acme', budgetNano: '100000', alertPercents: [50, 100] }))

  const first = await follow(t, billing, 'customer=acme')
  const cost = await pollUntil(() => first.of<CostSnapshot>('cost')[0], { what: 'the first cost' })
  const spend = (await billing.api('GET', '/v1/customers/acme/spend')).body as Spend
  assert.deepEqual([cost.totalNano, cost.budgetNano, cost.period.from], [spend.totalNano, '100000', spend.from])
  assert.deepEqual(
    cost.vms.map(vm => [vm.vmId, vm.amountNano, vm.quantities.vm_cpu]),
    [
      ['vm-1', '30000', '30'],
      ['vm-2', '15000', '15'],
    ],
  )

  await send('vm-1', 7, 60n)
  await pollUntil(() => first.of<CostSnapshot>('cost').at(-1)?.totalNano === '75000', {
    what: 'the cost that grew',
  })
  const alert = await pollUntil(() => first.of<SpendAlert>('alert')[0], {
    what: 'the first threshold',
  })
  assert.deepEqual([alert.thresholdPercent, alert.spentNano], [50, '75000'])
  // Five minutes without a reading, after readings a minute apart.
  await send('vm-2', 2, 16n)
  await send('vm-2', 1, 17n)
  const gap = await pollUntil(() => first.of<CostGap>('gap')[0], { what: 'the gap' })
  assert.deepEqual([gap.vmId, BigInt(gap.unmeasuredNs) > 0n], ['vm-2', true])

  // A reader that was away gets what it missed; one that was not gets nothing twice.
  const id = first.events.find(({ event }) => event === 'alert')?.id ?? ''
  first.stop()
  await send('vm-1', 5, 100n)
  await pollUntil(
    async () => {
      const { alerts } = (await billing.api('GET', '/v1/alerts?customer=acme')).body as { alerts: SpendAlert[] }
      return alerts.length === 2
    },
    { what: 'the second threshold' },
  )
  const second = await follow(t, billing, 'customer=acme', id)
  const missed = await pollUntil(() => second.of<SpendAlert>('alert')[0], {
    what: 'the missed alert',
  })
  assert.equal(missed.thresholdPercent, 100)
  await pollUntil(() => second.of<CostSnapshot>('cost').length > 0, { what: 'the cost again' })

  assert.equal((await billing.api('GET', '/v1/stream/costs')).status, 400)
  assert.equal((await billing.api('GET', '/v1/stream/costs?customer=nobody')).status, 404)
  const more = []
  for (let i = 0; i < 19; i++) more.push(await follow(t, billing, 'customer=acme'))
  const refused = await billing.api('GET', '/v1/stream/costs?customer=acme')
  assert.deepEqual([refused.status, (refused.body as { reason: string }).reason], [429, 'TOO_MANY_STREAMS'])
  for (const one of more) one.stop()

  // One that never reads costs bounded memory and keeps nobody waiting.
  const { hostname, port } = new URL(billing.url)
  const mute = connect(Number(port), hostname)
  t.after(() => mute.destroy())
  mute.pause()
  mute.write(`GET /v1/stream/costs?customer=acme HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${billing.key}\r\n\r\n`)
  await send('vm-1', 4, 101n)
  await pollUntil(() => second.of<CostSnapshot>('cost').at(-1)?.lines[0]?.quantity === '117', {
    what: 'the last cost',
  })
  await billing.close()
  await pollUntil(() => second.state.isEnded, { what: 'the end of the stream' })
})
