// Everything the console needs beside the admin API: its pages, the list of services, and the way to them.

import type { FastifyInstance } from 'fastify'
import type { Health } from '#platform/http'
import type { Logger } from '#platform/telemetry'
import type { Clock } from '#platform/time'
import type { Config } from '../../config.ts'
import { answerAdminErrors } from '../admin/admin.ts'
import type { Operators } from '../operator.ts'
import { type ConsoleFiles, registerPages } from './pages.ts'
import { registerProxy } from './proxy.ts'
import { registerServices } from './services.ts'
import { consoleUpstreams } from './upstreams.ts'

export function registerConsole(
  app: FastifyInstance,
  o: {
    config: Config
    files: ConsoleFiles
    operators: Operators
    secret: Buffer
    clock: Clock
    health: Health
    version: string
    log: Logger
  },
): { close(): Promise<void> } {
  const upstreams = consoleUpstreams(o.config)
  registerPages(app, o.files)
  let proxy = { close: async () => {} }
  app.register(async scope => {
    scope.decorateRequest('operator', null)
    answerAdminErrors(scope, o.log)
    scope.register(async services => {
      services.addHook('onRequest', async request => {
        request.operator = await o.operators.authorize(request, 'read')
      })
      registerServices(services, { ...o, upstreams })
    })
    proxy = registerProxy(scope, { ...o, upstreams })
  })
  return { close: () => proxy.close() }
}
