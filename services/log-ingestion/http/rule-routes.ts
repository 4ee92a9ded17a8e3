// The routes that all kinds of rules share: list, read, create, replace, change, delete; each change with its audit row in
// one transaction, and in force here before it is answered.

import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { z } from 'zod'
import type { Tx } from '#platform/postgres'
import type { Actor, Tenancy } from '#platform/tenancy/tenancy'
import { badParameter, nameTaken, notFound, storeUnavailable, tooManyRules } from '../errors.ts'
import type { Redaction } from '../json/metadata.ts'
import { ruleName } from '../rules/definitions.ts'
import type { RuleBook } from '../rules/rule-book.ts'
import {
  deleteRule,
  findRule,
  insertRule,
  listRules,
  NameTaken,
  type RuleKind,
  type StoredRule,
  TooMany,
  updateRule,
} from '../store/rules/rules.ts'
import { type Asker, authorize } from './caller.ts'
import { type QueryContext, withSql } from './context.ts'

export interface RuleContext extends QueryContext {
  rules: RuleBook
  tenancy: () => Tenancy | undefined
  /** What decoders take away for everybody. */
  decoderRedaction: Redaction
  /** There is something to erase or to send. */
  wakeWorker: () => void
}

export interface RuleRoutes<D extends object> {
  /** Last part of the path, and the member of the list's answer. */
  path: string
  kind: RuleKind
  /** For people: "alert rule". */
  noun: string
  countMax: number
  schema: z.ZodType<D>
  /** Rules that have no name of their own get one from what they say; then it cannot be sent. */
  nameOf?: (definition: D) => string
  /** What a caller is shown of a definition; the audit gets what someone without logs:admin is shown. */
  show?: (definition: D, asker: Asker | null) => object
  /** Further members of a rule in answers. */
  more?: (rules: readonly StoredRule[], asker: Asker) => Promise<Map<bigint, object>>
  /** Further members of the list's answer. */
  besides?: () => object
  /** Members of the answer to a creation only. */
  whenCreated?: (rule: StoredRule) => object
}

export function addRuleRoutes<D extends object>(app: FastifyInstance, context: RuleContext, o: RuleRoutes<D>): void {
  const base = `/api/v1/${o.path}`

  const present = async (rules: readonly StoredRule[], asker: Asker): Promise<object[]> => {
    const more = await o.more?.(rules, asker)
    return rules.map(rule => {
      const parsed = o.schema.safeParse(rule.definition)
      return {
        id: String(rule.id),
        name: rule.name,
        ...(parsed.success ? shown(parsed.data, asker) : { problem: 'written by another version of the program' }),
        created_by: rule.createdBy,
        created_at: rule.createdAt.toISOString(),
        updated_at: rule.updatedAt.toISOString(),
        ...more?.get(rule.id),
      }
    })
  }
  const shown = (definition: D, asker: Asker | null) => o.show?.(definition, asker) ?? definition
  const presentOne = async (rule: StoredRule, asker: Asker) => (await present([rule], asker))[0]

  app.get(base, async request => {
    const asker = authorize(context.access, request, 'logs:read')
    const rules = await withSql(context, sql => listRules(sql, o.kind, asker.tenant))
    return { [o.path]: await present(rules, asker), ...o.besides?.() }
  })

  app.get(`${base}/:id`, async request => {
    const asker = authorize(context.access, request, 'logs:read')
    return await presentOne(await mustFind(asker, request), asker)
  })

  const mustFind = async ({ tenant }: Asker, request: FastifyRequest): Promise<StoredRule> => {
    const id = idOf(request)
    const rule = id === undefined ? undefined : await withSql(context, sql => findRule(sql, o.kind, tenant, id))
    if (!rule) throw unknownRule(request)
    return rule
  }

  const unknownRule = (request: FastifyRequest) =>
    notFound(`There is no ${o.noun} ${(request.params as { id: string }).id.slice(0, 40)}.`)

  const read = (body: unknown): { name: string; definition: D } => {
    const members = objectOf(body)
    const { name, ...rest } = members
    const definition = parseInput(o.schema, o.nameOf ? members : rest)
    return { name: o.nameOf ? o.nameOf(definition) : parseInput(ruleName, name, 'name'), definition }
  }

  app.post(base, async (request, reply) => {
    const asker = authorize(context.access, request, 'logs:admin')
    const { name, definition } = read(request.body)
    const rule = await change(asker, request, 'create', async (tx, by) => {
      const { tenant } = asker
      const made = await insertRule(tx, o.kind, { tenant, name, definition, by, countMax: o.countMax })
      return { object: made, after: { name, ...shown(definition, null) } }
    })
    if (!rule) throw new Error('BUG: a rule was made and is not there')
    reply.code(201).header('Location', `${base}/${rule.id}`)
    return { ...(await presentOne(rule, asker)), ...o.whenCreated?.(rule) }
  })

  const update = async (request: FastifyRequest, isMerge: boolean) => {
    const asker = authorize(context.access, request, 'logs:admin')
    const before = await mustFind(asker, request)
    const old = o.schema.safeParse(before.definition)
    const { name, definition } = read(
      isMerge
        ? merged({ ...(o.nameOf ? {} : { name: before.name }), ...objectOf(before.definition) }, request.body)
        : request.body,
    )
    const rule = await change(asker, request, 'update', async tx => {
      const changed = await updateRule(tx, o.kind, { tenant: asker.tenant, id: before.id, name, definition })
      return {
        object: changed,
        before: { name: before.name, ...(old.success ? shown(old.data, null) : {}) },
        after: { name, ...shown(definition, null) },
      }
    })
    if (!rule) throw unknownRule(request)
    return await presentOne(rule, asker)
  }
  app.put(`${base}/:id`, request => update(request, false))
  app.patch(`${base}/:id`, request => update(request, true))

  app.delete(`${base}/:id`, async (request, reply) => {
    const asker = authorize(context.access, request, 'logs:admin')
    const id = idOf(request)
    if (id === undefined) throw unknownRule(request)
    const rule = await change(asker, request, 'delete', async tx => {
      const gone = await deleteRule(tx, o.kind, asker.tenant, id)
      const old = o.schema.safeParse(gone?.definition)
      return { object: gone, before: { name: gone?.name, ...(old.success ? shown(old.data, null) : {}) } }
    })
    if (!rule) throw unknownRule(request)
    reply.code(204)
  })

  const change = async (
    asker: Asker,
    request: FastifyRequest,
    verb: 'create' | 'update' | 'delete',
    work: (tx: Tx, by: string) => Promise<{ object: StoredRule | undefined; before?: object; after?: object }>,
  ): Promise<StoredRule | undefined> => {
    const tenancy = mustHaveTenancy(context)
    const rule = await withSql(context, sql =>
      sql.begin(async tx => {
        const { object, before, after } = await work(tx, asker.caller.keyName)
        if (object)
          await tenancy.audit(
            {
              actor: actorOf(asker, request),
              action: `logs.${o.noun.replaceAll(' ', '-')}.${verb}`,
              object: `${o.noun} ${object.id} of ${asker.tenant}`,
              ...(before ? { before } : {}),
              ...(after ? { after } : {}),
            },
            tx,
          )
        return object
      }),
    ).catch(error => {
      if (error instanceof NameTaken) throw nameTaken(o.noun)
      if (error instanceof TooMany) throw tooManyRules(o.noun, o.countMax)
      throw error
    })
    await context.rules.refresh()
    context.wakeWorker()
    return rule
  }
}

export function mustHaveTenancy(context: RuleContext): Tenancy {
  const tenancy = context.tenancy()
  if (!tenancy) throw storeUnavailable('the directory of tenants was not reached yet')
  return tenancy
}

export function actorOf({ caller }: Asker, request: FastifyRequest): Actor {
  const kind = caller.key.startsWith('token:') ? 'token' : 'key'
  return { kind, name: caller.keyName, address: request.ip }
}

export function idOf(request: FastifyRequest): bigint | undefined {
  const { id } = request.params as { id: string }
  return /^\d{1,18}$/.test(id) ? BigInt(id) : undefined
}

export function objectOf(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw badParameter('body', 'must be a JSON object')
  return { ...value }
}

/** Members of the patch replace those of the rule; null takes one away. */
function merged(rule: Record<string, unknown>, patch: unknown): Record<string, unknown> {
  return Object.fromEntries(Object.entries({ ...rule, ...objectOf(patch) }).filter(([, value]) => value !== null))
}

/** @throws Problem naming the field */
export function parseInput<T>(schema: z.ZodType<T>, input: unknown, name?: string): T {
  const parsed = schema.safeParse(input)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  const path = [...(name === undefined ? [] : [name]), ...(issue?.path.map(String) ?? [])].join('.')
  throw badParameter(path === '' ? 'body' : path, issue ? sentenceOf(issue, input) : 'is not valid')
}

/** What is the matter and what to do, where the library's own words are about types. */
function sentenceOf(issue: z.core.$ZodIssue, input: unknown): string {
  switch (issue.code) {
    case 'invalid_type':
      return `${isAbsent(input, issue.path) ? 'is needed: it' : ''} must be ${nouns[issue.expected] ?? issue.expected}`.trim()
    case 'unrecognized_keys':
      return `${issue.keys.map(key => JSON.stringify(key.slice(0, 40))).join(', ')} is not known here; leave it out`
    case 'invalid_value':
      return `${isAbsent(input, issue.path) ? 'is needed: it' : ''} must be one of ${issue.values.join(', ')}`.trim()
    default:
      return issue.message
  }
}

const nouns: Readonly<Record<string, string>> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  object: 'an object',
  array: 'a list',
}

function isAbsent(input: unknown, path: readonly PropertyKey[]): boolean {
  let value = input
  for (const name of path) value = typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined
  return value === undefined
}
