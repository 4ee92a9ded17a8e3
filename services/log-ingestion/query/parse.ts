// The query language: words, "phrases", 'exact', name:value, comparisons, AND OR NOT - ( ).
//
//   query = and *("OR" and)      and = 1*(["AND"] unary)      unary = ["-" | "NOT"] primary
//   primary = "(" query ")" | text | name op value | name ":(" value *("OR" value) ")" | name ":[" v "TO" v "]"
//
// An error says where, what was expected, and shows a query that would have worked.

import { levels, rankOf } from '../level.ts'
import { type Moment, parseRfc3339 } from '../rfc3339.ts'
import { isJsonNumber } from './decimal.ts'
import { type Comparison, foldMessage, type Query } from './query.ts'

export class QueryError extends Error {
  /** Characters from 0. */
  readonly position: number
  readonly example: string
  constructor(position: number, problem: string, example: string) {
    super(`${problem} at position ${position}; for example: ${example}`)
    this.position = position
    this.example = example
  }
}

/** Longer queries are programs; they belong into several searches. */
export const queryLengthMax = 4_096
const nestingMax = 64
const termsMax = 256

/** @throws QueryError */
export function parseQuery(text: string): Query {
  if (text.length > queryLengthMax)
    throw new QueryError(
      queryLengthMax,
      `the query has ${text.length} characters, at most ${queryLengthMax} are taken`,
      'level>=warn service:api',
    )
  return new Parser(text).parse()
}

type Operator = ':' | '>' | '>=' | '<' | '<='

class Parser {
  readonly #text: string
  #at = 0
  #nesting = 0
  #terms = 0

  constructor(text: string) {
    this.#text = text
  }

  parse(): Query {
    this.#space()
    if (this.#at === this.#text.length) return { kind: 'all' }
    const query = this.#or()
    if (this.#at < this.#text.length) throw this.#error('found ")" without "("', 'quote it to search for it: ")"')
    return query
  }

  #or(): Query {
    if (++this.#nesting > nestingMax) throw this.#error(`more than ${nestingMax} levels of parentheses`, 'a (b OR c)')
    const terms = [this.#and()]
    while (this.#keyword('OR')) terms.push(this.#and())
    this.#nesting--
    return group('or', terms)
  }

  #and(): Query {
    const terms = [this.#unary()]
    for (;;) {
      const hasAnd = this.#keyword('AND')
      if (!hasAnd && (this.#at === this.#text.length || this.#peek() === ')' || this.#isKeyword('OR'))) break
      terms.push(this.#unary())
    }
    return group('and', terms)
  }

  #unary(): Query {
    let isNegated = false
    for (;;) {
      if (this.#keyword('NOT')) isNegated = !isNegated
      else if (this.#peek() === '-' && this.#text[this.#at + 1] !== undefined && !isSpace(this.#text[this.#at + 1])) {
        this.#at++
        isNegated = !isNegated
      } else break
    }
    const term = this.#primary()
    return isNegated ? { kind: 'not', term } : term
  }

  #primary(): Query {
    if (++this.#terms > termsMax) throw this.#error(`more than ${termsMax} terms`, 'split the search')
    const c = this.#peek()
    if (c === undefined) throw this.#error('the query ends where a word or field should be', 'level:error timeout')
    if (c === ')') throw this.#error('found ")" where a word or field should be', '(a OR b) c')
    if (this.#isKeyword('AND') || this.#isKeyword('OR'))
      throw this.#error(
        `found ${this.#text.slice(this.#at, this.#at + 3).trim()} where a word or field should be`,
        'a OR b, or "OR" in quotes to search for the word',
      )
    if (c === '(') {
      this.#at++
      this.#space()
      const query = this.#or()
      this.#expect(')', 'the parenthesis is not closed', '(a OR b) c')
      return query
    }
    if (c === '/')
      throw this.#error('regular expressions are not there yet', 'quote a path to search for it: "/api/v1"')
    if (c === "'") return this.#finish({ kind: 'message', text: this.#quoted("'"), folded: false })

    const start = this.#at
    const isPhrase = c === '"'
    const name = isPhrase ? this.#quoted('"') : this.#word(true)
    const operator = this.#operator()
    if (operator !== null) {
      if (name === '')
        throw new QueryError(start, `found ${operator} without a field name before it`, `level${operator}warn`)
      return this.#field(name, operator, start)
    }
    if (!isPhrase && name === '')
      throw this.#error(`found ${JSON.stringify(c)} where a word or field should be`, 'quote it to search for it')
    return this.#finish({ kind: 'message', text: foldMessage(name), folded: true })
  }

  #operator(): Operator | null {
    const match = /^(?::(?:>=|<=|>|<)|:|>=|<=|>|<)/.exec(this.#text.slice(this.#at, this.#at + 3))
    if (!match) return null
    this.#at += match[0].length
    const comparison = match[0].replace(/^:(?=.)/, '')
    return comparison === '>' || comparison === '>=' || comparison === '<' || comparison === '<=' ? comparison : ':'
  }

  #field(name: string, operator: Operator, start: number): Query {
    const c = this.#text[this.#at]
    if (operator === ':') {
      if (c === '~') throw this.#error('regular expressions are not there yet', `${name}:value`)
      if (c === '(') return this.#anyOf(name)
      if (c === '[') return this.#range(name)
    }
    const at = this.#at
    const value = this.#value(`${name}${operator}`)
    this.#space()
    return fieldQuery(name, operator === ':' ? '=' : operator, value, operator === ':' ? at : start)
  }

  #anyOf(name: string): Query {
    this.#at++
    const terms: Query[] = []
    do {
      this.#space()
      const at = this.#at
      if (++this.#terms > termsMax) throw this.#error(`more than ${termsMax} terms`, 'split the search')
      terms.push(fieldQuery(name, '=', this.#value(`${name}:(`), at))
      this.#space()
    } while (this.#keyword('OR'))
    this.#expect(')', 'values in parentheses are joined by OR', `${name}:(a OR b)`)
    return group('or', terms)
  }

  #range(name: string): Query {
    this.#at++
    this.#space()
    const from = this.#at
    const low = this.#value(`${name}:[`)
    this.#space()
    if (!this.#keyword('TO')) throw this.#error('found no TO between the two ends of a range', `${name}:[1 TO 5]`)
    const to = this.#at
    const high = this.#value(`${name}:[`)
    this.#space()
    this.#expect(']', 'the range is not closed', `${name}:[1 TO 5]`)
    return { kind: 'and', terms: [fieldQuery(name, '>=', low, from), fieldQuery(name, '<=', high, to)] }
  }

  #value(before: string): Value {
    const c = this.#text[this.#at]
    if (c === '"' || c === "'") return { text: this.#quoted(c), isQuoted: true }
    const text = this.#word(false)
    if (text === '') throw this.#error(`a value is missing after ${before}`, `${before.replace(/[([]$/, '')}value`)
    return { text, isQuoted: false }
  }

  /** A bare word; one that may turn out to be a field name stops at an operator. */
  #word(stopsAtOperator: boolean): string {
    const start = this.#at
    while (this.#at < this.#text.length) {
      const c = this.#text[this.#at]
      if (isSpace(c) || c === '(' || c === ')' || c === '"') break
      if (stopsAtOperator && (c === ':' || c === '<' || c === '>')) break
      if (!stopsAtOperator && c === ']') break
      this.#at++
    }
    return this.#text.slice(start, this.#at)
  }

  #quoted(quote: string): string {
    const start = this.#at++
    let text = ''
    for (;;) {
      const c = this.#text[this.#at]
      if (c === undefined)
        throw new QueryError(
          start,
          `the quote is not closed`,
          quote === '"' ? '"connection reset"' : "'Connection reset'",
        )
      this.#at++
      if (c === quote) return text
      if (c === '\\' && this.#at < this.#text.length) text += unescaped(this.#text[this.#at++] as string)
      else text += c
    }
  }

  #finish(query: Query): Query {
    this.#space()
    return query
  }

  #expect(char: string, problem: string, example: string): void {
    this.#space()
    if (this.#text[this.#at] !== char) throw this.#error(problem, example)
    this.#at++
    this.#space()
  }

  #isKeyword(word: string): boolean {
    if (!this.#text.startsWith(word, this.#at)) return false
    const next = this.#text[this.#at + word.length]
    return next === undefined || isSpace(next) || next === '(' || next === ')'
  }

  #keyword(word: string): boolean {
    if (!this.#isKeyword(word)) return false
    this.#at += word.length
    this.#space()
    return true
  }

  #peek(): string | undefined {
    return this.#text[this.#at]
  }

  #space(): void {
    while (isSpace(this.#text[this.#at])) this.#at++
  }

  #error(problem: string, example: string): QueryError {
    return new QueryError(this.#at, problem, example)
  }
}

interface Value {
  text: string
  isQuoted: boolean
}

function fieldQuery(name: string, op: Comparison, value: Value, position: number): Query {
  const { text, isQuoted } = value
  const isAny = op === '=' && text === '*' && !isQuoted
  switch (name) {
    case 'service':
      if (op !== '=') throw new QueryError(position, 'service is compared with ":" only', 'service:api-*')
      return { kind: 'service', pieces: isQuoted ? [text] : text.split('*') }
    case 'level': {
      if (isAny) return { kind: 'all' }
      const rank = rankOf(text.toUpperCase())
      if (rank === undefined)
        throw new QueryError(
          position,
          `${JSON.stringify(text)} is not a level; levels are ${levels.join(', ')}`,
          'level>=warn',
        )
      return { kind: 'level', op, rank }
    }
    case 'id':
      if (isAny) return { kind: 'all' }
      if (!/^\d{1,19}$/.test(text))
        throw new QueryError(position, `${JSON.stringify(text)} is not an id, which is a whole number`, 'id:1234')
      return { kind: 'id', op, id: BigInt(text) }
    case 'timestamp': {
      if (isAny) return { kind: 'all' }
      const moment: Moment = { seconds: 0, nanos: 0 }
      const bytes = new TextEncoder().encode(text)
      if (!parseRfc3339(bytes, 0, bytes.length, moment))
        throw new QueryError(
          position,
          `${JSON.stringify(text)} is not an RFC 3339 time with its offset`,
          'timestamp>=2026-01-02T00:00:00Z',
        )
      return {
        kind: 'timestamp',
        op,
        ns: BigInt(moment.seconds) * 1_000_000_000n + BigInt(moment.nanos),
      }
    }
  }
  if (isAny) return { kind: 'exists', name }
  if (op === '=') return { kind: 'equals', name, value: text }
  if (!isJsonNumber(text))
    throw new QueryError(position, `${JSON.stringify(text)} is not a number; ${op} compares numbers`, `${name}${op}500`)
  return { kind: 'compare', name, op, value: text }
}

function group(kind: 'and' | 'or', terms: readonly Query[]): Query {
  const [first] = terms
  return terms.length === 1 && first ? first : { kind, terms }
}

function isSpace(c: string | undefined): boolean {
  return c === ' ' || c === '\t' || c === '\n' || c === '\r'
}

function unescaped(c: string): string {
  return c === 'n' ? '\n' : c === 't' ? '\t' : c === 'r' ? '\r' : c
}
