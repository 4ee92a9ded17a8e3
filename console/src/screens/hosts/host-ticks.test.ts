import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cpuShares, emptyHost, memoryRow, tickReader } from './host-ticks.ts'

const o = { windowS: 900, gapS: 15 }
const cpu = (cpuName: string, mode: string, value: number) => ({
  metric: { __name__: 'node_cpu_seconds_total', cpu: cpuName, mode },
  value,
})

test('two ticks of counters become one point: shares of all cores, sums over devices', () => {
  const reader = tickReader()
  const bytes = (name: string, device: string, value: number) => ({ metric: { __name__: name, device }, value })
  let tables = reader.append(
    emptyHost,
    {
      t: 10_000,
      samples: [
        cpu('0', 'user', 1),
        cpu('0', 'idle', 9),
        cpu('1', 'softirq', 2),
        cpu('1', 'idle', 8),
        cpu('0', 'guest', 1),
        bytes('node_network_receive_bytes_total', 'eth0', 0),
        bytes('node_network_receive_bytes_total', 'eth1', 50),
      ],
    },
    o,
  )
  assert.equal(tables.cpu.times.length, 0)
  tables = reader.append(
    tables,
    {
      t: 15_000,
      samples: [
        cpu('0', 'user', 3.5),
        cpu('0', 'idle', 11.5),
        cpu('1', 'softirq', 3),
        cpu('1', 'idle', 12),
        cpu('0', 'guest', 3),
        bytes('node_network_receive_bytes_total', 'eth0', 1000),
        bytes('node_network_receive_bytes_total', 'eth1', 2050),
      ],
    },
    o,
  )
  assert.deepEqual(tables.cpu, { times: [15], columns: { user: [0.25], system: [0.1], iowait: [0], steal: [0] } })
  assert.deepEqual(tables.network.columns.received, [600])
})

test('a tick without a collector leaves that chart as it is', () => {
  const before = { ...emptyHost, memory: { times: [5], columns: { used: [1] } } }
  const after = tickReader().append(
    before,
    { t: 10_000, samples: [{ metric: { __name__: 'node_load1' }, value: 0.5 }] },
    o,
  )
  assert.equal(after.memory, before.memory)
  assert.deepEqual(after.load, { times: [10], columns: { load1: [0.5] } })
})

test('memory in use is what cannot be had, cache is what can be given back', () => {
  assert.deepEqual(memoryRow(100, 60, 20), { used: 40, cache: 40, total: 100 })
  assert.deepEqual(memoryRow(100, null, 20), {})
  assert.deepEqual(cpuShares({ user: 0, idle: 0 }), {})
})
