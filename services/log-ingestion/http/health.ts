// /health in the guide's shape: 200 as long as intake works, with what is not right beside it.

import type { FastifyInstance, FastifyReply } from 'fastify'
import type { Health } from '#platform/http'

export function addHealth(
  app: FastifyInstance,
  o: { health: Health; notice: () => string | undefined; isReady: () => boolean },
): void {
  app.get('/health', async () => {
    const { dependencies } = await o.health.report()
    const failing = Object.entries(dependencies).filter(([, check]) => check.status !== 'ok')
    const notice = o.notice()
    const notices = notice === undefined ? {} : { notices: [notice] }
    if (failing.length === 0) return { status: 'healthy', ...notices }
    const checks = failing.map(([name, { status, detail, since }]) => [name, { status, detail, since }])
    return { status: 'degraded', checks: Object.fromEntries(checks), ...notices }
  })
  const ready = async (_: unknown, reply: FastifyReply) => {
    const isReady = o.isReady()
    return reply.code(isReady ? 200 : 503).send({ status: isReady ? 'ready' : 'not_ready' })
  }
  app.get('/health/ready', ready)
  app.get('/ready', ready)
}
