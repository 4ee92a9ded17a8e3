import { batchBody, httpRequest } from './encode.ts'
import { addHistory } from './history.ts'
import { type Job, type Outcome, runLoad } from './load.ts'
import { key, memoryMib, type Service, startService, stopService, untilFolded } from './service.ts'
import { at, whole } from './table.ts'
import type { Shape } from './workload.ts'

/** The running month of customers whose VMs are all alive, read while as much comes in as will go in. */
export async function benchReads(o: {
  seconds: number
  historyHours: number
  vms: number
  vmsPerCustomer: number
  errorOf: (service: Service, shape: Shape, outcome: Outcome, history: { hours: number }) => Promise<string>
}): Promise<boolean> {
  const { vms } = o
  const service = await startService()
  const shape: Shape = {
    seed: 11,
    baseNs: BigInt(Math.floor(Date.now() / 60_000)) * 60_000_000_000n - 7_200_000_000_000n,
    stepNs: 100_000_000n,
    samplesPerBatch: 600,
    resetEvery: 0,
  }
  const jobOf = (i: number): Job => {
    const [vm, batch] = [i % vms, Math.floor(i / vms)]
    const customer = `customer-${Math.floor(vm / o.vmsPerCustomer)}`
    return { vm, batch, samples: 600, request: httpRequest(batchBody(shape, `vm-${vm}`, customer, vm, batch)) }
  }
  const load = { address: service.address, connections: 16, protocol: 'h1' as const }
  const first = await runLoad({ ...load, jobs: Array.from({ length: vms }, (_, i) => jobOf(i)), seconds: 120 })
  await untilFolded(service)
  const baseHour = Number(shape.baseNs / 3_600_000_000_000n)
  await addHistory(service.sql, baseHour - o.historyHours, baseHour)
  const from = new Date((baseHour - o.historyHours) * 3_600_000).toISOString()
  const customers = vms / o.vmsPerCustomer
  const ask = async (customer: number) => {
    const startedMs = performance.now()
    const answer = await fetch(`${service.url}/v1/customers/customer-${customer}/usage?from=${from}`, {
      headers: { authorization: `Bearer ${key}` },
    })
    await answer.arrayBuffer()
    return performance.now() - startedMs
  }
  const cold: number[] = []
  for (let i = 0; i < customers; i++) cold.push(await ask(i))
  const jobs = Array.from({ length: 2_700 * o.seconds }, (_, i) => jobOf(vms + i))
  let isOver = false
  const one: number[] = []
  const all: number[] = []
  const readers = (async () => {
    for (let i = 0; !isOver; i++) {
      one.push(await ask((i * 7) % customers))
      // A person looks, and looks again.
      await new Promise(resolve => setTimeout(resolve, 50))
      if (i % 20 !== 19) continue
      const startedMs = performance.now()
      await Promise.all(Array.from({ length: Math.min(100, customers) }, (_, k) => ask(k)))
      all.push(performance.now() - startedMs)
    }
  })()
  const outcome = await runLoad({ ...load, jobs, seconds: o.seconds })
  isOver = true
  await readers
  const rssMib = memoryMib(service)
  await untilFolded(service)
  const sum: Outcome = { ...outcome, acknowledged: [...first.acknowledged, ...outcome.acknowledged] }
  const error = await o.errorOf(service, shape, sum, { hours: o.historyHours })
  await stopService(service)
  const [a, b, c] = [cold, one, all].map(list => list.toSorted((x, y) => x - y)) as [number[], number[], number[]]
  console.log(
    `query: ${whole((outcome.acknowledged.length * 600) / outcome.elapsedS)} samples/s beside it, RSS ${whole(rssMib)} MiB; ` +
      `month of one customer of ${whole(o.vmsPerCustomer)} live VMs (${whole(o.historyHours)} h before): ` +
      `first p50 ${at(a, 0.5)} p95 ${at(a, 0.95)}, then p50 ${at(b, 0.5)} p95 ${at(b, 0.95)} ms over ${b.length}; ` +
      `${Math.min(100, customers)} customers at once p50 ${at(c, 0.5)} p95 ${at(c, 0.95)} ms over ${c.length}; billing error ${error}`,
  )
  return error === '0'
}
