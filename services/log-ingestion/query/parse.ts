// The query language: words, "phrases", 'exact', /regex/, name:value, comparisons, AND OR NOT - ( ).
//
//   query = and *("OR" and)      and = 1*(["AND"] unary)      unary = ["-" | "NOT"] primary
//   primary = "(" query ")" | text | /regex/ | name op value | name ":(" value *("OR" value) ")" | name ":[" v "TO" v "]"
//   op = ":"  ":>" ":>=" ":<" ":<="  ">" ">=" "<" "<="  ":~"
//
// An error says where, what was expected, and shows the query as it might have been meant.

import { type Level, levels, rankOf } from '../level.ts'
import { type Moment, parseRfc3339 } from '../rfc3339.ts'
import { isJsonNumber } from './decimal.ts'
import { type Comparison, foldMessage, type Query } from './query.ts'
import { compileRegex, quoteRegex, RegexError } from './regex.ts'

export class QueryError extends Error {
  /** Characters from 0. */
  readonly position: number
  readonly expected: string
  /** The query corrected; it parses. */
  readonly example: string
  constructor(fault: Fault, example: string) {
    super(`${fault.message} at position ${fault.position}; expected ${fault.expected}; for example: ${example}`)
    this.position = fault.position
    this.expected = fault.expected
    this.example = example
  }
}

/** Longer queries are programs; they belong into several searches. */
export const queryLengthMax = 4_096
const nestingMax = 64
const termsMax = 256

/** @throws QueryError */
export function parseQuery(text: string): Query {
  try {
    return parse(text)
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    throw new QueryError(error, corrected(text, error))
  }
}

function parse(text: string): Query {
  if (text.length > queryLengthMax)
    throw new Fault(
      `the query has ${text.length} characters`,
      queryLengthMax,
      `at most ${queryLengthMax} of them`,
      undefined,
    )
  return new Parser(text).parse()
}

/** A text with several faults is mended one after the other; what cannot be mended is answered with a query that works. */
function corrected(text: string, fault: Fault): string {
  let mended = text
  let next: Fault = fault
  for (let round = 0; round < 8 && next.mend; round++) {
    const { from, to, by } = next.mend
    mended = mended.slice(0, from) + by + mended.slice(to)
    try {
      parse(mended)
      return mended
    } catch (error) {
      if (!(error instanceof Fault)) throw error
      next = error
    }
  }
  return 'level>=warn service:api "connection reset"'
}

/** Puts `by` in the place of [from, to). */
interface Mend {
  from: number
  to: number
  by: string
}

class Fault extends Error {
  readonly position: number
  readonly expected: string
  readonly mend: Mend | undefined
  constructor(problem: string, position: number, expected: string, mend: Mend | undefined) {
    super(problem)
    this.position = position
    this.expected = expected
    this.mend = mend
  }
}

type Operator = ':' | ':~' | '>' | '>=' | '<' | '<='

const termForms = 'a word, a "phrase", /a regular expression/ or field:value'

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
    if (this.#at < this.#text.length)
      throw this.#fault('found ")" without "("', 'a "(" before it, or quotes around it', this.#quoting(this.#at + 1))
    return query
  }

  #or(): Query {
    if (++this.#nesting > nestingMax)
      throw this.#fault(`more than ${nestingMax} levels of parentheses`, `at most ${nestingMax}`, undefined)
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
    this.#countTerm()
    const c = this.#peek()
    if (c === undefined)
      throw this.#fault(
        'the query ends too early',
        termForms,
        this.#insertion(this.#atWordEnd() ? ' timeout' : 'timeout'),
      )
    if (c === ')') throw this.#fault('found ")"', termForms, this.#quoting(this.#at + 1))
    for (const word of ['AND', 'OR'])
      if (this.#isKeyword(word))
        throw this.#fault(
          `found ${word}`,
          `${termForms} before it, or quotes around it`,
          this.#quoting(this.#at + word.length),
        )
    if (c === '(') {
      this.#at++
      this.#space()
      const query = this.#or()
      this.#expect(')', 'the parenthesis is not closed')
      return query
    }
    if (c === '/') return this.#finish(this.#messageRegex())
    if (c === "'") return this.#finish({ kind: 'message', text: this.#quoted("'"), folded: false })

    const start = this.#at
    const isPhrase = c === '"'
    const name = isPhrase ? this.#quoted('"') : this.#word(true)
    const operatorAt = this.#at
    const operator = this.#operator()
    if (operator !== null) {
      if (name === '' && !isPhrase)
        throw new Fault(`found ${operator} without a field name`, start, 'a field name before it', {
          from: start,
          to: start,
          by: operator === ':' || operator === ':~' ? 'service' : 'status',
        })
      return this.#field(name, operator, { from: operatorAt, to: this.#at })
    }
    return this.#finish({ kind: 'message', text: foldMessage(name), folded: true })
  }

  #countTerm(): void {
    if (++this.#terms > termsMax)
      throw this.#fault(`more than ${termsMax} terms`, `at most ${termsMax}; split the search`, undefined)
  }

  #operator(): Operator | null {
    const match = /^(?::(?:>=|<=|>|<|~)|:|>=|<=|>|<)/.exec(this.#text.slice(this.#at, this.#at + 3))
    if (!match) return null
    this.#at += match[0].length
    const comparison = match[0].replace(/^:(?=[<>])/, '')
    switch (comparison) {
      case '>':
      case '>=':
      case '<':
      case '<=':
      case ':~':
        return comparison
      default:
        return ':'
    }
  }

  #field(name: string, operator: Operator, at: { from: number; to: number }): Query {
    if (operator === ':~') return this.#finish(this.#fieldRegex(name, at))
    const c = this.#text[this.#at]
    if (operator === ':') {
      if (c === '(') return this.#anyOf(name)
      if (c === '[') return this.#range(name)
    }
    const value = this.#value(name, operator)
    return this.#finish(fieldQuery(name, operator === ':' ? '=' : operator, value, at))
  }

  #anyOf(name: string): Query {
    this.#at++
    const terms: Query[] = []
    do {
      this.#space()
      this.#countTerm()
      terms.push(fieldQuery(name, '=', this.#value(name, ':('), undefined))
      this.#space()
    } while (this.#keyword('OR'))
    const c = this.#peek()
    if (c !== undefined && c !== ')')
      throw this.#fault('values in parentheses are joined by OR', 'OR or ")"', this.#insertion('OR '))
    this.#expect(')', 'the list of values is not closed')
    return group('or', terms)
  }

  #range(name: string): Query {
    this.#at++
    this.#space()
    const low = this.#value(name, ':[')
    this.#space()
    if (!this.#keyword('TO'))
      throw this.#fault(
        'the two ends of a range have no TO between them',
        'TO',
        this.#insertion(this.#atWordEnd() ? ' TO ' : 'TO '),
      )
    const high = this.#value(name, ' TO ')
    this.#expect(']', 'the range is not closed')
    return {
      kind: 'and',
      terms: [fieldQuery(name, '>=', low, undefined), fieldQuery(name, '<=', high, undefined)],
    }
  }

  #value(name: string, before: string): Value {
    const from = this.#at
    const c = this.#text[this.#at]
    if (c === '"' || c === "'") return { text: this.#quoted(c), isQuoted: true, from, to: this.#at }
    const text = this.#word(false)
    if (text === '')
      throw this.#fault(`a value is missing after ${name}${before}`, valueForms(name), this.#insertion(sampleOf(name)))
    return { text, isQuoted: false, from, to: this.#at }
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
    return this.#between(quote).replaceAll(/\\([\s\S])/g, (_, c: string) => unescaped(c))
  }

  /** What stands between two of `quote`, escapes as they were written. */
  #between(quote: string): string {
    const start = this.#at++
    const from = this.#at
    for (; this.#at < this.#text.length; this.#at++) {
      const c = this.#text[this.#at]
      if (c === quote) return this.#text.slice(from, this.#at++)
      if (c === '\\' && this.#at + 1 < this.#text.length) this.#at++
    }
    const end = this.#text.length
    // A lone backslash at the end would escape the quote that is put behind it.
    const isEscaping = /(?<!\\)(?:\\\\)*\\$/.test(this.#text.slice(from))
    throw new Fault(`the ${quote === '/' ? 'regular expression' : 'quote'} is not closed`, start, quote, {
      from: isEscaping ? end - 1 : end,
      to: end,
      by: quote,
    })
  }

  #messageRegex(): Query {
    const start = this.#at
    const pattern = this.#between('/').replaceAll('\\/', '/')
    const next = this.#peek()
    const isWhole = next === undefined || isSpace(next) || next === ')'
    if (pattern === '' || !isWhole) {
      const end = this.#at + this.#text.slice(this.#at).search(/[\s()]|$/)
      throw new Fault(
        pattern === '' ? 'the regular expression is empty' : 'the regular expression ends before the word does',
        start,
        '/regex/ and then a space; a path is searched for in quotes',
        { from: start, to: end, by: JSON.stringify(this.#text.slice(start, end).replaceAll('\\', '')) },
      )
    }
    checkRegex(pattern, start, { from: start, to: this.#at, by: `/${quoteRegex(pattern).slice(0, 64)}/` })
    return { kind: 'regex', of: 'message', name: '', pattern }
  }

  /** In quotes too, backslashes are the expression's own: "\d+" needs no second one. */
  #fieldRegex(name: string, operator: { from: number; to: number }): Query {
    const start = this.#at
    const c = this.#peek()
    let pattern: string
    if (c === '"' || c === "'" || c === '/') pattern = this.#between(c).replaceAll(`\\${c}`, c)
    else pattern = this.#word(false)
    if (name === 'id' || name === 'timestamp')
      throw new Fault(`${name} is no text`, operator.from, 'a comparison such as >= or :', { ...operator, by: ':' })
    if (pattern === '')
      throw this.#fault(`a regular expression is missing after ${name}:~`, '"regex"', {
        from: start,
        to: this.#at,
        by: '"^a.*z$"',
      })
    checkRegex(pattern, start, { from: start, to: this.#at, by: `"${quoteRegex(pattern).slice(0, 64)}"` })
    if (name === 'service' || name === 'level') return { kind: 'regex', of: name, name: '', pattern }
    return { kind: 'regex', of: 'metadata', name, pattern }
  }

  #finish(query: Query): Query {
    this.#space()
    return query
  }

  #expect(char: string, problem: string): void {
    this.#space()
    if (this.#text[this.#at] !== char) throw this.#fault(problem, `"${char}"`, this.#insertion(char))
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

  #atWordEnd(): boolean {
    return this.#at > 0 && !isSpace(this.#text[this.#at - 1]) && this.#text[this.#at - 1] !== '('
  }

  #space(): void {
    while (isSpace(this.#text[this.#at])) this.#at++
  }

  #fault(problem: string, expected: string, mend: Mend | undefined): Fault {
    return new Fault(problem, this.#at, expected, mend)
  }

  #insertion(by: string): Mend {
    return { from: this.#at, to: this.#at, by }
  }

  #quoting(to: number): Mend {
    return { from: this.#at, to, by: JSON.stringify(this.#text.slice(this.#at, to)) }
  }
}

interface Value {
  text: string
  isQuoted: boolean
  from: number
  to: number
}

/** `operator` is where it stands, when it can be replaced by another. */
function fieldQuery(
  name: string,
  op: Comparison,
  value: Value,
  operator: { from: number; to: number } | undefined,
): Query {
  const { text, isQuoted } = value
  const isAny = op === '=' && text === '*' && !isQuoted
  const wrong = (problem: string) =>
    new Fault(`${JSON.stringify(text)} ${problem}`, value.from, valueForms(name), {
      from: value.from,
      to: value.to,
      by: name === 'level' ? nearestLevel(text) : sampleOf(name),
    })
  switch (name) {
    case 'service':
      if (op !== '=')
        throw new Fault(
          'service is compared with ":" only',
          operator?.from ?? value.from,
          '":"',
          operator && { ...operator, by: ':' },
        )
      return { kind: 'service', pieces: isQuoted ? [text] : text.split('*') }
    case 'level': {
      if (isAny) return { kind: 'all' }
      const rank = rankOf(text.toUpperCase())
      if (rank === undefined) throw wrong('is not a level')
      return { kind: 'level', op, rank }
    }
    case 'id':
      if (isAny) return { kind: 'all' }
      if (!/^\d{1,19}$/.test(text)) throw wrong('is not an id')
      return { kind: 'id', op, id: BigInt(text) }
    case 'timestamp': {
      if (isAny) return { kind: 'all' }
      const moment: Moment = { seconds: 0, nanos: 0 }
      const bytes = new TextEncoder().encode(text)
      if (!parseRfc3339(bytes, 0, bytes.length, moment)) throw wrong('is not an RFC 3339 time with its offset')
      return { kind: 'timestamp', op, ns: BigInt(moment.seconds) * 1_000_000_000n + BigInt(moment.nanos) }
    }
  }
  if (isAny) return { kind: 'exists', name }
  if (op === '=') return { kind: 'equals', name, value: text }
  if (!isJsonNumber(text)) throw wrong(`is not a number, and ${op} compares numbers`)
  return { kind: 'compare', name, op, value: text }
}

function checkRegex(pattern: string, position: number, mend: Mend): void {
  try {
    compileRegex(pattern)
  } catch (error) {
    if (!(error instanceof RegexError)) throw error
    throw new Fault(error.message, position, 'a regular expression in RE2 syntax of at most 1 KiB', mend)
  }
}

function valueForms(name: string): string {
  switch (name) {
    case 'level':
      return `one of ${levels.join(', ')}`
    case 'id':
      return 'a whole number'
    case 'timestamp':
      return 'a time such as 2026-01-02T00:00:00Z'
    case 'service':
      return 'a name, or a pattern such as api-*'
    default:
      return 'a number to compare with, or after ":" a word or a "phrase"'
  }
}

function sampleOf(name: string): string {
  switch (name) {
    case 'level':
      return 'warn'
    case 'id':
      return '1234'
    case 'timestamp':
      return '2026-01-02T00:00:00Z'
    case 'service':
      return 'api-*'
    default:
      return '500'
  }
}

/** The level that shares most with what was written: `eror` meant ERROR. */
function nearestLevel(text: string): string {
  const word = text.toUpperCase()
  const shared = (level: Level) => {
    let count = 0
    while (count < level.length && level[count] === word[count]) count++
    return count
  }
  const [best = 'WARN'] = levels.toSorted((a, b) => shared(b) - shared(a))
  return shared(best) === 0 ? 'warn' : best.toLowerCase()
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
