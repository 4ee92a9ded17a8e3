import { batchBody, httpRequest } from './encode.ts'
import { type Job, type Outcome, runLoad } from './load.ts'
import { launch, letInto, memoryMib, startService, stopService, untilFolded } from './service.ts'
import { whole } from './table.ts'
import type { Shape } from './workload.ts'

/** The database goes away, the journal takes what comes, the service is killed; then both come back. */
export async function benchRecovery(
  samplesWanted: number,
  errorOf: (service: Awaited<ReturnType<typeof startService>>, shape: Shape, outcome: Outcome) => Promise<string>,
): Promise<boolean> {
  const service = await startService()
  const shape: Shape = {
    seed: 7,
    baseNs: BigInt(Math.floor(Date.now() / 60_000)) * 60_000_000_000n - 7_200_000_000_000n,
    stepNs: 100_000_000n,
    samplesPerBatch: 600,
    resetEvery: 0,
  }
  const jobs = Array.from({ length: Math.ceil(samplesWanted / 600) }, (_, i): Job => {
    const [vm, batch] = [i % 2_000, Math.floor(i / 2_000)]
    const body = batchBody(shape, `vm-${vm}`, `customer-${Math.floor(vm / 1_000)}`, vm, batch)
    return { vm, batch, samples: 600, request: httpRequest(body) }
  })
  await letInto(service, false)
  const outcome = await runLoad({ address: service.address, connections: 16, protocol: 'h1', jobs, seconds: 120 })
  const rssAwayMib = memoryMib(service)
  const exited = new Promise(resolve => service.child.once('exit', resolve))
  service.child.kill('SIGKILL')
  await exited
  await letInto(service, true)
  const startedMs = performance.now()
  const again = { ...service, ...(await launch(service.env)) }
  const readyS = (performance.now() - startedMs) / 1_000
  await untilFolded(again)
  const foldedS = (performance.now() - startedMs) / 1_000
  const samples = outcome.acknowledged.length * 600
  const error = await errorOf(again, shape, outcome)
  console.log(
    `recovery: ${whole(samples)} samples journaled while the database was away (RSS ${whole(rssAwayMib)} MiB), kill -9; ` +
      `ready after ${readyS.toFixed(2)} s, all folded after ${foldedS.toFixed(1)} s ` +
      `(${((foldedS / samples) * 1e7).toFixed(1)} s per 10 M), billing error ${error}`,
  )
  await stopService(again)
  return error === '0'
}
