// CRUD /api/v1/redaction, POST /api/v1/redaction/preview

import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { badParameter } from '../errors.ts'
import { cleanMetadata, newTally } from '../json/metadata.ts'
import { RegexError } from '../query/regex.ts'
import { redactionDefinition } from '../rules/definitions.ts'
import { builtInPatterns, compilePattern, isBuiltIn } from '../rules/patterns.ts'
import { authorize } from './caller.ts'
import { addRuleRoutes, parseInput, type RuleContext } from './rule-routes.ts'

const definition = redactionDefinition.superRefine(({ patterns, pattern }, context) => {
  patterns?.forEach((name, i) => {
    if (!isBuiltIn(name))
      context.addIssue({
        code: 'custom',
        path: ['patterns', i],
        message: `${JSON.stringify(name)} is not built in; there are ${builtInPatterns.join(', ')}`,
      })
  })
  if (pattern === undefined) return
  try {
    compilePattern(pattern)
  } catch (error) {
    if (!(error instanceof RegexError)) throw error
    context.addIssue({ code: 'custom', path: ['pattern'], message: error.message })
  }
})

const sample = z.strictObject({
  message: z
    .string()
    .max(64 * 1024)
    .default(''),
  metadata: z.record(z.string(), z.unknown()).optional(),
  /** A rule that is not there yet, besides those that are. */
  rule: z.looseObject({ name: z.string().max(200).default('preview') }).optional(),
})

export function addRedaction(app: FastifyInstance, context: RuleContext): void {
  addRuleRoutes(app, context, {
    path: 'redaction',
    kind: 'redaction_rules',
    noun: 'redaction rule',
    countMax: 100,
    schema: definition,
  })

  // The sample is stored and logged nowhere.
  app.post('/api/v1/redaction/preview', async (request, reply) => {
    const { tenant } = authorize(context.access, request, 'logs:admin')
    const { message, metadata, rule } = parseInput(sample, request.body)
    const { name = 'preview', ...candidate } = rule ?? {}
    const wanted = rule === undefined ? [] : [{ name, ...parseInput(definition, candidate, 'rule') }]
    const redaction = context.rules.redactionWith(tenant, wanted)
    const tally = newTally()
    const text = metadata === undefined ? null : JSON.stringify(metadata)
    if (text !== null && text.length > 1024 * 1024) throw badParameter('metadata', 'must not be larger than 1 MiB')
    const clean = {
      message: redaction?.texts?.replace(message, tally) ?? message,
      metadata: text === null ? 'null' : cleanMetadata(text, redaction ?? context.decoderRedaction, tally),
    }
    return reply
      .type('application/json; charset=utf-8')
      .send(
        `{"message":${JSON.stringify(clean.message)},"metadata":${clean.metadata},"redactions":${JSON.stringify(Object.fromEntries(tally.redactions))}}`,
      )
  })
}
