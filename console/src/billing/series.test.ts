import assert from 'node:assert/strict'
import { test } from 'node:test'
import { drawnFormat, drawnQuantity, spansByMeter, vmTable } from './series.ts'

const row = (meter: string, hour: number, quantity: string, unit: string) => ({
  meter,
  quantity,
  unit,
  from: new Date(Date.UTC(2026, 10, 1, hour)).toISOString(),
  to: new Date(Date.UTC(2026, 10, 1, hour + 1)).toISOString(),
})

test('meters share their spans, a span without a row is zero, a meter never used is left out', () => {
  const spans = spansByMeter([
    row('ai_tokens', 1, '5', 'tokens'),
    row('vm_cpu', 0, '7', 'ns'),
    row('vm_cpu', 1, '8', 'ns'),
    row('vm_net_tx', 0, '0', 'bytes'),
  ])
  assert.deepEqual(
    spans.map(({ meter, quantities }) => [meter, quantities]),
    [
      ['ai_tokens', ['0', '5']],
      ['vm_cpu', ['7', '8']],
    ],
  )
  assert.equal(spans[0]?.edgesMs.length, 3)
  assert.deepEqual(spansByMeter([]), [])
})

test('days without a row are there, too', () => {
  const [from, to] = ['2026-11-01T00:00:00.000Z', '2026-11-04T00:00:00.000Z']
  const second = { from: '2026-11-02T00:00:00.000Z', to: '2026-11-03T00:00:00.000Z' }
  const [spans] = spansByMeter([{ meter: 'log_bytes', quantity: '9', unit: 'bytes', ...second }], { from, to })
  assert.deepEqual(spans?.quantities, ['0', '9', '0'])
  assert.equal(spans?.edgesMs.at(-1), Date.parse(to))
})

test('a quantity far above 2⁵³ is drawn at its right height', () => {
  const core = drawnFormat('ns', 'vm_cpu')
  assert.equal(drawnQuantity('444444440436000000', core.unit), 123456.78901)
  assert.equal(core.format(123456.78), '123457 core-h')
  assert.equal(drawnFormat('bytes').format(1024 ** 3), '1.00 GiB')
  assert.equal(drawnFormat('nano').format(1_500_000_000), '$1.50')
  assert.equal(drawnQuantity('2.5', { name: '', per: 1n }), 2.5)
})

test('an hour nobody read is unknown, one half read is the average of the half', () => {
  const hourMs = 3_600_000
  const start = Date.UTC(2026, 10, 1)
  const measured = [hourMs, hourMs / 2, 0]
  const table = vmTable(
    [
      row('vm_cpu', 0, '3600000000000', 'ns'),
      row('vm_cpu', 1, '3600000000000', 'ns'),
      row('vm_cpu', 2, '0', 'ns'),
      row('vm_net_tx', 0, '3600', 'bytes'),
    ],
    fromMs => measured[(fromMs - start) / hourMs] ?? 0,
  )
  assert.deepEqual(table.columns.cores, [1, 2, null])
  assert.deepEqual(table.columns.sent, [1, 0, null])
})
