// Every port is tried before anything starts, so that a collision costs a sentence and not half a start.

import { createServer } from 'node:net'
import { explainListenError } from '#platform/http'
import type { PlannedService } from './plan.ts'

/** One sentence per port that is taken. */
export async function findTakenPorts(services: readonly PlannedService[]): Promise<string[]> {
  const ports = services.flatMap(service => service.ports.map(port => ({ ...port, service: service.name })))
  const problems = await Promise.all(
    ports.map(async ({ port, variable, service }) => {
      const error = await tryBind(port)
      if (!error) return undefined
      const explained = await explainListenError(error, {
        host: '127.0.0.1',
        port,
        variable: `${variable} or PURSER_PORT_OFFSET`,
      })
      return `${service}: ${explained instanceof Error ? explained.message : String(explained)}`
    }),
  )
  return problems.filter(problem => problem !== undefined)
}

function tryBind(port: number): Promise<Error | undefined> {
  return new Promise(resolve => {
    const server = createServer()
    server.once('error', resolve)
    server.listen(port, () => server.close(() => resolve(undefined)))
  })
}
