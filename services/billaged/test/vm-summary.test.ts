import assert from 'node:assert/strict'
import test from 'node:test'
import { pollUntil } from '../../../test/kit/poll.ts'
import { metric, startBilling } from './kit.ts'

test('at level debug each interval tells what each VM used in it, with the score of the service before this one', async t => {
  const lines: string[] = []
  const billing = await startBilling(t, { lines, env: { BILLAGED_AGGREGATION_INTERVAL: '300ms' } })
  const told = () => lines.filter(line => line.includes('"vm usage"')).map(line => JSON.parse(line))
  // A core, half a GiB and a MiB a second, read every 100 ms.
  const startedNs = BigInt(Date.now()) * 1_000_000n
  const scored = await pollUntil(
    async () => {
      const atNs = BigInt(Date.now()) * 1_000_000n
      const ns = atNs - startedNs
      const values = { memoryUsageBytes: `${2 ** 29}`, diskWriteBytes: `${ns / 1_000n}` }
      await billing.rpc('SendMetricsBatch', {
        vmId: 'vm-1',
        customerId: 'acme',
        metrics: [metric(atNs, 1n + ns, values)],
      })
      return told().find(({ cpuSeconds }) => cpuSeconds > 0)
    },
    { what: 'a VM with use in an interval', everyMs: 100 },
  )
  assert.deepEqual([scored.level, scored.vmId, scored.customerId], ['DEBUG', 'vm-1', 'acme'])
  assert.equal(scored.peakMemoryBytes, `${2 ** 29}`)
  const score = scored.cpuSeconds + 0.25 + (Number(scored.diskBytes) / 2 ** 20) * 0.3
  assert.ok(Math.abs(scored.resource_score - score) < 0.001, `${scored.resource_score} ${score}`)
  await pollUntil(() => lines.some(line => line.includes('"usage summary"')), { what: 'the summary of all' })
})
