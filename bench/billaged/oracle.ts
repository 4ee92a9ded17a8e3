// The truth, by brute force: reads one JSON line with the shape of a run and the batches that were sent, folds every
// reading with BigInt in the plainest way there is, and prints what each customer used. A process of its own that imports
// nothing but the workload's arithmetic.

import { readFileSync } from 'node:fs'
import { type Reading, readingOf, type Shape } from './workload.ts'

interface Input {
  shape: Omit<Shape, 'baseNs' | 'stepNs'> & { baseNs: string; stepNs: string }
  vmsPerCustomer: number
  /** [vm, batch] */
  batches: [number, number][]
}

const input: Input = JSON.parse(readFileSync(0, 'utf8'))
const shape: Shape = { ...input.shape, baseNs: BigInt(input.shape.baseNs), stepNs: BigInt(input.shape.stepNs) }
const names = ['vm_cpu', 'vm_memory', 'vm_disk_read', 'vm_disk_write', 'vm_net_rx', 'vm_net_tx']
const totals = new Map<number, bigint[]>()
const batchesOf = new Map<number, Set<number>>()
for (const [vm, batch] of input.batches) batchesOf.set(vm, (batchesOf.get(vm) ?? new Set()).add(batch))

for (const [vm, batches] of batchesOf) {
  const readings: Reading[] = []
  for (const batch of [...batches].toSorted((a, b) => a - b))
    for (let k = 0; k < shape.samplesPerBatch; k++)
      readings.push(readingOf(shape, vm, batch * shape.samplesPerBatch + k))
  const customer = Math.floor(vm / input.vmsPerCustomer)
  const sums = totals.get(customer) ?? names.map(() => 0n)
  totals.set(customer, sums)
  for (let f = 0; f < names.length; f++) sums[f] = (sums[f] ?? 0n) + (f === 1 ? memory(readings) : counter(readings, f))
}

/** The last minus the first, but for falls: a fall that lasts is a new beginning worth nothing, one that does not is skipped. */
function counter(readings: readonly Reading[], f: number): bigint {
  const values = readings.map(reading => reading.values[f] ?? 0n)
  let sum = 0n
  let base = values[0] ?? 0n
  for (let i = 1; i < values.length; i++) {
    const [value = 0n, next] = [values[i], values[i + 1]]
    if (value >= base) {
      sum += value - base
      base = value
    } else if (next !== undefined && next < base) base = value
  }
  return sum
}

/** The smaller end of each pair over its length; a pair longer than two minutes counts nothing. */
function memory(readings: readonly Reading[]): bigint {
  let sum = 0n
  for (let i = 1; i < readings.length; i++) {
    const [a, b] = [readings[i - 1], readings[i]]
    if (a === undefined || b === undefined || b.atNs - a.atNs > 120_000_000_000n) continue
    const [x, y] = [a.values[1] ?? 0n, b.values[1] ?? 0n]
    sum += (x < y ? x : y) * (b.atNs - a.atNs)
  }
  return sum
}

const answer = [...totals].map(([customer, sums]) => [
  `customer-${customer}`,
  Object.fromEntries(names.map((name, f) => [name, `${sums[f]}`])),
])
process.stdout.write(JSON.stringify(Object.fromEntries(answer)))
