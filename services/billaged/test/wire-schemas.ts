// The answers of the HTTP API as JSON Schema, from the types that its handlers are checked against:
//   node services/billaged/test/wire-schemas.ts     writes http/wire-schemas.json; a test compares it.

import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { API, type Checker, SymbolFlags, type Type, TypeFlags } from 'typescript/unstable/sync'

export type JsonSchema = { [key: string]: unknown }

const folder = fileURLToPath(new URL('..', import.meta.url))
const sources = ['api.ts', 'alerts/api.ts', 'events/api.ts', 'close/verify.ts', 'invoices/receipt.ts']
/** Those of other files than the wire's own that are answers. */
const borrowed = new Set(['Verification', 'Receipt', 'ReceiptBody'])
export const schemasFile = `${folder}http/wire-schemas.json`

/** By the name of the type. */
export function wireSchemas(): Record<string, JsonSchema> {
  // A project of these files alone: the whole one takes the compiler seconds.
  const project = `${folder}wire-schemas.tsconfig.json`
  const config = { extends: '../../tsconfig.json', include: [], files: sources }
  const api = new API({
    cwd: folder,
    fs: {
      fileExists: path => (path === project ? true : undefined),
      readFile: path => (path === project ? JSON.stringify(config) : undefined),
    },
  })
  try {
    const opened = api.updateSnapshot({ openProjects: [project] }).getProject(project)
    if (opened === undefined) throw new Error('BUG: the project was just opened')
    const { checker, program } = opened
    const types = new Map<string, Type>()
    for (const source of sources) {
      const file = program.getSourceFile(folder + source)
      const module = file === undefined ? undefined : checker.getSymbolAtLocation(file)
      if (module === undefined) throw new Error(`${source} exports nothing`)
      const isWire = source.endsWith('api.ts')
      for (const symbol of checker.getExportsOfModule(module))
        if ((symbol.flags & SymbolFlags.Interface) !== 0 && (isWire || borrowed.has(symbol.name)))
          types.set(symbol.name, checker.getDeclaredTypeOfSymbol(symbol))
    }
    const named = new Map([...types].map(([name, type]) => [type.id, name]))
    return Object.fromEntries(
      [...types].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([name, type]) => [name, object(checker, type, named)]),
    )
  } finally {
    api.close()
  }
}

function object(checker: Checker, type: Type, named: ReadonlyMap<number, string>): JsonSchema {
  const properties: Record<string, JsonSchema> = {}
  const required: string[] = []
  for (const symbol of checker.getPropertiesOfType(type)) {
    const given = checker.getTypeOfSymbol(symbol)
    if (given === undefined) throw new Error(`${symbol.name} has no type`)
    const description = symbol.getDocumentationComment(checker)
    const schema = schemaOf(checker, given, named)
    properties[symbol.name] = description === '' ? schema : { description, ...schema }
    const isOptional = (symbol.flags & SymbolFlags.Optional) !== 0 || members(given).some(isUndefined)
    if (!isOptional) required.push(symbol.name)
  }
  const [index] = checker.getIndexInfosOfType(type)
  return {
    type: 'object',
    ...(Object.keys(properties).length === 0 ? {} : { properties }),
    ...(required.length === 0 ? {} : { required }),
    ...(index === undefined ? {} : { additionalProperties: schemaOf(checker, index.valueType, named) }),
  }
}

function schemaOf(checker: Checker, type: Type, named: ReadonlyMap<number, string>): JsonSchema {
  const name = named.get(type.id)
  if (name !== undefined) return { $ref: `#/components/schemas/${name}` }
  const has = (flags: TypeFlags) => (type.flags & flags) !== 0
  if (type.isUnionType()) return union(checker, type, named)
  if (type.isStringLiteralType() || type.isNumberLiteralType()) return { const: type.value }
  if (has(TypeFlags.String)) return { type: 'string' }
  if (has(TypeFlags.Number)) return { type: 'number' }
  if (has(TypeFlags.Boolean) || has(TypeFlags.BooleanLiteral)) return { type: 'boolean' }
  if (has(TypeFlags.Null)) return { type: 'null' }
  if (has(TypeFlags.Unknown)) return {}
  if (checker.isArrayLikeType(type) && type.isTypeReference()) {
    const [item] = checker.getTypeArguments(type)
    return { type: 'array', items: item === undefined ? {} : schemaOf(checker, item, named) }
  }
  if (type.isObjectType()) return object(checker, type, named)
  throw new Error(`${checker.typeToString(type)} has no schema here; teach it, or write the type otherwise`)
}

function union(checker: Checker, type: Type, named: ReadonlyMap<number, string>): JsonSchema {
  const given = members(type).filter(member => !isUndefined(member))
  const values = given.filter(member => member.isStringLiteralType())
  const schemas = given
    .filter(member => !member.isStringLiteralType())
    .map(member => schemaOf(checker, member, named))
    // `boolean` is a union of its two values.
    .filter((schema, i, all) => all.findIndex(other => JSON.stringify(other) === JSON.stringify(schema)) === i)
  if (values.length > 0) schemas.unshift({ type: 'string', enum: values.map(member => member.value) })
  const [only] = schemas
  return schemas.length === 1 && only !== undefined ? only : { anyOf: schemas }
}

function members(type: Type): readonly Type[] {
  return type.isUnionType() ? type.getTypes() : [type]
}

function isUndefined(type: Type): boolean {
  return (type.flags & TypeFlags.Undefined) !== 0
}

export function writtenSchemas(): Record<string, JsonSchema> {
  return JSON.parse(readFileSync(schemasFile, 'utf8'))
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  writeFileSync(schemasFile, `${JSON.stringify(wireSchemas(), null, 2)}\n`)
