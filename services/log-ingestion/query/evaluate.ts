// The one evaluator: SQL and blooms only narrow, what they let through is decided here. So is every tail event.

import { rankOf } from '../level.ts'
import { compareNumbers, isJsonNumber } from './decimal.ts'
import { foldMessage, holds, type Query } from './query.ts'
import { compileRegex } from './regex.ts'

/** What a query may look at. Getters are fine: parts that no query asks for are not computed. */
export interface Candidate {
  /** Undefined before the commit gave it one: an `id:` term then matches nothing. */
  readonly id: bigint | undefined
  readonly timestampNs: bigint
  readonly service: string
  readonly level: string
  readonly message: string
  /** JSON text of an object, or null. */
  readonly metadata: string | null
}

export type Matcher = (entry: Candidate) => boolean

/** A function that decides one entry after another; it keeps nothing of them. */
export function compile(query: Query): Matcher {
  switch (query.kind) {
    case 'all':
      return () => true
    case 'and': {
      const parts = cheapFirst(query.terms).map(compile)
      return entry => parts.every(matches => matches(entry))
    }
    case 'or': {
      const parts = cheapFirst(query.terms).map(compile)
      return entry => parts.some(matches => matches(entry))
    }
    case 'not': {
      const matches = compile(query.term)
      return entry => !matches(entry)
    }
    case 'message': {
      const { text, folded } = query
      return folded ? entry => foldMessage(entry.message).includes(text) : entry => entry.message.includes(text)
    }
    case 'service': {
      const { pieces } = query
      return entry => matchesPieces(entry.service, pieces)
    }
    case 'level': {
      const { op, rank } = query
      return entry => {
        const actual = rankOf(asciiUpper(entry.level))
        return actual !== undefined && holds(actual - rank, op)
      }
    }
    case 'id': {
      const { op, id } = query
      return entry => entry.id !== undefined && holds(order(entry.id, id), op)
    }
    case 'timestamp': {
      const { op, ns } = query
      return entry => holds(order(entry.timestampNs, ns), op)
    }
    case 'exists': {
      const { name } = query
      return entry => lookUp(entry.metadata, name) !== undefined
    }
    case 'equals': {
      const { name, value } = query
      return entry => anyElement(lookUp(entry.metadata, name), field => equalsField(field, value))
    }
    case 'compare': {
      const { name, op, value } = query
      return entry =>
        anyElement(
          lookUp(entry.metadata, name),
          field => field instanceof Digits && holds(compareNumbers(field.text, value), op),
        )
    }
    case 'regex': {
      const { of, name, pattern } = query
      const test = compileRegex(pattern)
      if (of !== 'metadata') return entry => test(entry[of])
      return entry => anyElement(lookUp(entry.metadata, name), field => typeof field === 'string' && test(field))
    }
    default:
      return query satisfies never
  }
}

/** Metadata has to be parsed, messages have to be searched; everything else is at hand. */
function cheapFirst(terms: readonly Query[]): readonly Query[] {
  return terms.toSorted((a, b) => costOf(a) - costOf(b))
}

function costOf(query: Query): number {
  switch (query.kind) {
    case 'exists':
    case 'equals':
    case 'compare':
      return 3
    case 'regex':
      return query.of === 'metadata' ? 4 : 2
    case 'message':
      return 1
    case 'not':
      return costOf(query.term)
    case 'and':
    case 'or':
      return Math.max(...query.terms.map(costOf))
    case 'all':
    case 'service':
    case 'level':
    case 'id':
    case 'timestamp':
      return 0
    default:
      return query satisfies never
  }
}

/** `pieces` are what stands between the wildcards of a pattern. */
export function matchesPieces(name: string, pieces: readonly string[]): boolean {
  const first = pieces[0] ?? ''
  const last = pieces.at(-1) ?? ''
  if (pieces.length === 1) return name === first
  if (!name.startsWith(first)) return false
  let at = first.length
  for (const piece of pieces.slice(1, -1)) {
    const found = name.indexOf(piece, at)
    if (found < 0) return false
    at = found + piece.length
  }
  return name.length - last.length >= at && name.endsWith(last)
}

/** As SQL narrows: letters of other alphabets have no part in level names. */
function asciiUpper(text: string): string {
  return text.replaceAll(/[a-z]+/g, letters => letters.toUpperCase())
}

function order(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** A JSON number as it was written: a double would lose digits. */
class Digits {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

type Field = string | boolean | null | Digits | readonly Field[] | { readonly [key: string]: Field }

/** The literal top-level key first, else the dotted path. Undefined when neither is there. */
function lookUp(metadata: string | null, name: string): Field | undefined {
  if (metadata === null) return undefined
  const root = parseExact(metadata)
  if (Object.hasOwn(root, name)) return root[name]
  if (!name.includes('.')) return undefined
  let value: Field | undefined = root
  for (const key of name.split('.')) {
    if (!isObject(value) || !Object.hasOwn(value, key)) return undefined
    value = value[key]
  }
  return value
}

let lastText: string | undefined
let lastParsed: { readonly [key: string]: Field } = {}

/** Terms of one query ask about the same entry one after the other, so the last answer is worth keeping. */
function parseExact(metadata: string): { readonly [key: string]: Field } {
  if (metadata !== lastText) {
    const parsed: unknown = JSON.parse(metadata, (_, value, context?: { source?: string }) =>
      typeof value === 'number' ? new Digits(context?.source ?? String(value)) : value,
    )
    lastParsed = parsed as { readonly [key: string]: Field }
    lastText = metadata
  }
  return lastParsed
}

function isObject(value: Field | undefined): value is { readonly [key: string]: Field } {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Digits)
}

function anyElement(field: Field | undefined, matches: (field: Field) => boolean): boolean {
  if (field === undefined) return false
  return Array.isArray(field) ? field.some(matches) : matches(field)
}

/** A scalar as text and its JSON type; elements of an array one by one, objects not at all. */
export interface FieldValue {
  text: string
  type: 'string' | 'number' | 'boolean' | 'null'
}

/** What a query term on this name would look at. */
export function valuesOf(metadata: string | null, name: string): FieldValue[] {
  const field = lookUp(metadata, name)
  if (field === undefined) return []
  return (Array.isArray(field) ? field : [field]).flatMap(element => scalarOf(element) ?? [])
}

function scalarOf(field: Field): FieldValue | undefined {
  if (typeof field === 'string') return { text: field, type: 'string' }
  if (field instanceof Digits) return { text: field.text, type: 'number' }
  if (typeof field === 'boolean') return { text: String(field), type: 'boolean' }
  return field === null ? { text: 'null', type: 'null' } : undefined
}

/** The field's type decides how: texts exactly, numbers by value, true, false and null by name. */
function equalsField(field: Field, value: string): boolean {
  if (typeof field === 'string') return field === value
  if (field instanceof Digits) return isJsonNumber(value) && compareNumbers(field.text, value) === 0
  if (typeof field === 'boolean' || field === null) return String(field) === value
  return false
}
