import { addHistory, usedAnHour } from './history.ts'
import { key, memoryMib, startService, stopService } from './service.ts'
import { whole } from './table.ts'

/** A month of many VMs of one customer, rated: what a close measures before it writes. */
export async function benchClose(vms: number): Promise<boolean> {
  const service = await startService()
  await service.sql`insert into billaged.customer (id) values ('acme')`
  const toHour = Math.floor(Date.UTC(new Date().getUTCFullYear(), new Date().getUTCMonth()) / 3_600_000)
  const fromHour = toHour - 720
  const endNs = `${BigInt(toHour) * 3_600_000_000_000n - 1n}`
  await service.sql`
    insert into billaged.series (customer_id, vm_id, first_ns, last_ns)
    select 'acme', 'vm-' || n, ${endNs}::int8, ${endNs}::int8 from generate_series(1, ${vms}::int4) n`
  await addHistory(service.sql, fromHour, toHour)
  const body = JSON.stringify({
    customerId: 'acme',
    planId: 'example',
    from: new Date(fromHour * 3_600_000).toISOString(),
    to: new Date(toHour * 3_600_000).toISOString(),
  })
  const seconds: number[] = []
  let isRight = true
  for (let i = 0; i < 3; i++) {
    const startedMs = performance.now()
    const answer = await fetch(`${service.url}/v1/preview`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body,
    })
    const { lines } = (await answer.json()) as { lines?: { meter: string; quantity: string }[] }
    seconds.push((performance.now() - startedMs) / 1_000)
    for (const meter of ['vm_cpu', 'vm_memory'] as const) {
      const billed = (lines ?? [])
        .filter(line => line.meter === meter)
        .reduce((sum, line) => sum + BigInt(line.quantity), 0n)
      const truth = usedAnHour[meter] * 720n * BigInt(vms)
      if (billed === truth) continue
      isRight = false
      console.error(`  acme ${meter}: billed ${billed}, true ${truth}`)
    }
  }
  console.log(
    `close: preview of ${whole(vms)} VMs × 30 days: ${seconds.map(s => s.toFixed(2)).join(', ')} s, ` +
      `RSS ${whole(memoryMib(service))} MiB, billing error ${isRight ? '0' : 'FAILED'}`,
  )
  await stopService(service)
  return isRight
}
