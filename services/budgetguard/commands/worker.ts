// budgetguard worker: what a separate worker would do is done inside every budgetguard process of this release. This
// process exists so that a deployment with a worker starts, and says so on its health port.

import { createHealth, serveOnly } from '#platform/http'
import type { Base } from '#platform/lifecycle'
import type { Config } from '../config.ts'

export async function worker(config: Config, base: Base): Promise<number> {
  const health = createHealth({ clock: base.clock })
  health.add('worker', () => ({ status: 'ok', detail: 'folding and reaping run inside the API processes' }))
  const server = await serveOnly(base.registry, health, {
    host: config.host,
    port: config.workerPort,
    variable: 'BUDGETGUARD_WORKER_PORT',
    service: 'budgetguard-worker',
    version: base.version,
  })
  base.log.warn({ url: server.url }, 'the worker runs inside each budgetguard process; this one only answers health')
  await new Promise<void>(resolve => {
    process.once('SIGTERM', () => resolve())
    process.once('SIGINT', () => resolve())
  })
  await server.close()
  return 0
}
