// CRUD /api/v1/retention

import type { FastifyInstance } from 'fastify'
import { formatSpan, retentionDefinition } from '../rules/definitions.ts'
import { keepOf } from '../store/visibility.ts'
import { addRuleRoutes, type RuleContext } from './rule-routes.ts'

export function addRetention(app: FastifyInstance, context: RuleContext): void {
  addRuleRoutes(app, context, {
    path: 'retention',
    kind: 'retention_rules',
    noun: 'retention rule',
    countMax: 200,
    schema: retentionDefinition,
    // One rule per service and level: two could not both be the most specific.
    nameOf: ({ service, level }) =>
      [
        service === undefined ? '' : `service ${service}`,
        level === undefined ? '' : `level ${level === 'WARNING' ? 'WARN' : level}`,
      ]
        .filter(part => part !== '')
        .join(', ') || 'tenant',
    // What holds where no rule speaks: nobody should have to read the settings for it.
    besides() {
      const keepMs = keepOf(
        context.rules.retention.filter(({ tenant }) => tenant === null),
        null,
        null,
      )
      return { default_keep: keepMs === null ? 'forever' : formatSpan(keepMs) }
    },
  })
}
