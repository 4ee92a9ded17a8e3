// CRUD /api/v1/searches

import type { FastifyInstance } from 'fastify'
import { searchDefinition } from '../rules/definitions.ts'
import { addRuleRoutes, type RuleContext } from './rule-routes.ts'

export function addSearches(app: FastifyInstance, context: RuleContext): void {
  addRuleRoutes(app, context, {
    path: 'searches',
    kind: 'searches',
    noun: 'saved search',
    countMax: 1_000,
    schema: searchDefinition,
  })
}
