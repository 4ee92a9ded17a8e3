// CRUD /api/v1/limits

import type { FastifyInstance } from 'fastify'
import { limitDefinition } from '../rules/definitions.ts'
import { addRuleRoutes, type RuleContext } from './rule-routes.ts'

export function addLimits(app: FastifyInstance, context: RuleContext): void {
  addRuleRoutes(app, context, {
    path: 'limits',
    kind: 'limits',
    noun: 'limit',
    countMax: 1_000,
    schema: limitDefinition,
    nameOf: ({ key }) => (key === undefined ? 'tenant' : `key ${key}`),
  })
}
