// The part of PromQL that this service answers: selectors, a function over a range, and aggregations over that.
//
//   expr      = aggregate | call | selector | number
//   aggregate = ("sum"|"avg"|"min"|"max"|"count") [("by"|"without") "(" labels ")"] "(" expr ")"   grouping may follow
//   call      = function "(" selector "[" duration "]" ")"
//   selector  = name ["{" matchers "}"] ["[" duration "]"] ["offset" duration]
//   number    = literal, and + - * / between literals, which is what data-source tests send
//
// Everything else is refused by name, never guessed at.

import { QueryError } from '../errors.ts'
import { compilePattern, type Pattern } from '../pattern.ts'

export interface Matcher {
  label: string
  op: '=' | '!=' | '=~' | '!~'
  value: string
  /** Of the regular operators. */
  pattern?: Pattern
}

export interface Selector {
  kind: 'selector'
  /** The name is a matcher on `__name__`. */
  matchers: readonly Matcher[]
  rangeMs: number | undefined
  offsetMs: number
}

export const rangeFunctions = [
  'rate',
  'irate',
  'increase',
  'delta',
  'avg_over_time',
  'min_over_time',
  'max_over_time',
  'sum_over_time',
  'count_over_time',
  'last_over_time',
] as const
export type RangeFunction = (typeof rangeFunctions)[number]

export const aggregations = ['sum', 'avg', 'min', 'max', 'count'] as const
export type Aggregation = (typeof aggregations)[number]

export interface Call {
  kind: 'call'
  fn: RangeFunction
  argument: Selector & { rangeMs: number }
}

export interface Aggregate {
  kind: 'aggregate'
  op: Aggregation
  grouping: 'by' | 'without'
  labels: readonly string[]
  argument: VectorExpression
}

export interface NumberLiteral {
  kind: 'number'
  value: number
}

export type VectorExpression = Selector | Call | Aggregate
export type Expression = VectorExpression | NumberLiteral

const queryLengthMax = 4_096
const depthMax = 16

/** @throws QueryError bad_data */
export function parseQuery(query: string): Expression {
  if (query.length > queryLengthMax)
    throw bad(`the query has ${query.length} characters, at most ${queryLengthMax} are read`)
  const parser = new Parser(tokenize(query))
  const expression = parser.expression(0)
  parser.end()
  return expression
}

/** One or more `match[]` selectors. @throws QueryError bad_data */
export function parseSelector(text: string): Selector {
  const expression = parseQuery(text)
  if (expression.kind !== 'selector' || expression.rangeMs !== undefined || expression.offsetMs !== 0)
    throw bad(`match[] takes a series selector, got ${JSON.stringify(text)}`)
  return expression
}

function bad(message: string): QueryError {
  return new QueryError('bad_data', message)
}

interface Token {
  type: 'word' | 'number' | 'duration' | 'string' | 'sign' | 'end'
  text: string
}

const tokenForms: readonly [Token['type'] | 'space', RegExp][] = [
  ['space', /(?:\s+|#[^\n]*)/y],
  ['duration', /(?:\d+(?:ms|[smhdwy]))+(?![\w.])/y],
  ['number', /(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])/y],
  ['word', /[a-zA-Z_:][a-zA-Z0-9_:]*/y],
  ['string', /"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`/y],
  ['sign', /=~|!~|!=|==|<=|>=|[-+*/%^(){}[\],=<>@:]/y],
]

function tokenize(query: string): Token[] {
  const tokens: Token[] = []
  let at = 0
  next: while (at < query.length) {
    for (const [type, form] of tokenForms) {
      form.lastIndex = at
      const text = form.exec(query)?.[0]
      if (text === undefined) continue
      at += text.length
      if (type !== 'space') tokens.push({ type, text })
      continue next
    }
    throw bad(`cannot read ${JSON.stringify(query.slice(at, at + 20))} at character ${at + 1}`)
  }
  return [...tokens, { type: 'end', text: 'end of the query' }]
}

class Parser {
  readonly #tokens: readonly Token[]
  #at = 0

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens
  }

  expression(depth: number): Expression {
    if (depth > depthMax) throw bad(`the query is nested deeper than ${depthMax} levels`)
    return this.#operators(['+', '-'], () => this.#operators(['*', '/'], () => this.#operand(depth)))
  }

  /** Operators of one rank, left to right, between numbers only. */
  #operators(signs: readonly string[], operand: () => Expression): Expression {
    let left = operand()
    for (;;) {
      const { type, text } = this.#peek()
      const isOperator = type === 'sign' && /^([-+*/%^@:<>]|[=<>!]=)$/.test(text)
      const isWord = type === 'word' && ['and', 'or', 'unless', 'atan2'].includes(text)
      if (!isOperator && !isWord) return left
      if (left.kind !== 'number' || !'+-*/'.includes(text)) throw unsupported(text)
      if (!signs.includes(text)) return left
      this.#next()
      const right = operand()
      if (right.kind !== 'number') throw unsupported(text)
      left = { kind: 'number', value: calculate(left.value, text, right.value) }
    }
  }

  end(): void {
    if (this.#peek().type !== 'end') throw unsupported(this.#peek().text)
  }

  #peek(): Token {
    return this.#tokens[this.#at] ?? { type: 'end', text: 'end of the query' }
  }

  #next(): Token {
    const token = this.#peek()
    this.#at++
    return token
  }

  #expect(text: string): void {
    const token = this.#next()
    if (token.type === 'string' || token.text !== text) throw bad(`expected ${text}, found ${token.text}`)
  }

  #isNext(text: string): boolean {
    const token = this.#peek()
    return token.type !== 'string' && token.text === text
  }

  #operand(depth: number): Expression {
    const token = this.#peek()
    if (token.type === 'number') return { kind: 'number', value: Number(this.#next().text) }
    if (this.#isNext('-') || this.#isNext('+')) {
      const sign = this.#next().text
      const operand = this.#operand(depth + 1)
      if (operand.kind !== 'number') throw unsupported(`unary ${sign}`)
      return { kind: 'number', value: sign === '-' ? -operand.value : operand.value }
    }
    if (this.#isNext('(')) {
      this.#next()
      const inner = this.expression(depth + 1)
      this.#expect(')')
      return inner
    }
    if (this.#isNext('{')) return this.#selector(undefined)
    if (token.type !== 'word') throw bad(`expected a series or a function, found ${token.text}`)
    this.#next()
    const lower = token.text.toLowerCase()
    if (lower === 'nan' || lower === 'inf')
      return { kind: 'number', value: lower === 'nan' ? Number.NaN : Number.POSITIVE_INFINITY }
    const aggregation = aggregations.find(op => op === token.text)
    if (aggregation && (this.#isNext('(') || this.#isNext('by') || this.#isNext('without')))
      return this.#aggregate(aggregation, depth)
    if (this.#isNext('(')) return this.#call(token.text, depth)
    if (this.#isNext('by') || this.#isNext('without')) throw unsupported(token.text)
    return this.#selector(token.text)
  }

  #aggregate(op: Aggregation, depth: number): Aggregate {
    const before = this.#grouping()
    this.#expect('(')
    const argument = this.expression(depth + 1)
    if (this.#isNext(',')) throw unsupported(`a parameter of ${op}`)
    this.#expect(')')
    const grouping = before ?? this.#grouping() ?? { grouping: 'by' as const, labels: [] }
    if (argument.kind === 'number') throw bad(`${op} needs series, not a number`)
    if (argument.kind === 'selector' && argument.rangeMs !== undefined)
      throw bad(`${op} needs one value per series; put a function such as rate around the range`)
    return { kind: 'aggregate', op, ...grouping, argument }
  }

  #grouping(): { grouping: 'by' | 'without'; labels: string[] } | undefined {
    if (!this.#isNext('by') && !this.#isNext('without')) return undefined
    const grouping = this.#next().text === 'by' ? 'by' : 'without'
    this.#expect('(')
    const labels: string[] = []
    while (!this.#isNext(')')) {
      const label = this.#next()
      if (label.type !== 'word') throw bad(`expected a label name, found ${label.text}`)
      labels.push(label.text)
      if (!this.#isNext(')')) this.#expect(',')
    }
    this.#next()
    return { grouping, labels }
  }

  #call(name: string, depth: number): Call {
    const fn = rangeFunctions.find(known => known === name)
    if (!fn) throw unsupported(name)
    this.#expect('(')
    const argument = this.expression(depth + 1)
    this.#expect(')')
    if (argument.kind !== 'selector') throw unsupported(`${fn} of anything but a series selector`)
    const { rangeMs } = argument
    if (rangeMs === undefined) throw bad(`${fn} needs a range, such as ${fn}(name[5m])`)
    return { kind: 'call', fn, argument: { ...argument, rangeMs } }
  }

  #selector(name: string | undefined): Selector {
    const matchers: Matcher[] = name === undefined ? [] : [{ label: '__name__', op: '=', value: name }]
    if (this.#isNext('{')) {
      this.#next()
      while (!this.#isNext('}')) {
        matchers.push(this.#matcher())
        if (!this.#isNext('}')) this.#expect(',')
      }
      this.#next()
    }
    // Otherwise `{x=""}` would be every series there is, which is never what was meant.
    if (!matchers.some(matcher => !matches(matcher, '')))
      throw bad('a selector needs a name or a label value that is not empty')
    let rangeMs: number | undefined
    let offsetMs = 0
    if (this.#isNext('[')) {
      this.#next()
      rangeMs = this.#duration()
      if (this.#peek().text.startsWith(':')) throw unsupported('subquery')
      this.#expect(']')
    }
    if (this.#isNext('offset')) {
      this.#next()
      const sign = this.#isNext('-') ? -1 : 1
      if (sign < 0) this.#next()
      offsetMs = sign * this.#duration()
    }
    return { kind: 'selector', matchers, rangeMs, offsetMs }
  }

  #matcher(): Matcher {
    const label = this.#next()
    if (label.type !== 'word') throw bad(`expected a label name, found ${label.text}`)
    const { text: op } = this.#next()
    if (op !== '=' && op !== '!=' && op !== '=~' && op !== '!~')
      throw bad(`expected = != =~ or !~ after ${label.text}, found ${op}`)
    const quoted = this.#next()
    if (quoted.type !== 'string') throw bad(`the value of ${label.text} must be quoted, found ${quoted.text}`)
    const value = unquote(quoted.text)
    if (op === '=' || op === '!=') return { label: label.text, op, value }
    try {
      return { label: label.text, op, value, pattern: compilePattern(value) }
    } catch (error) {
      throw bad(`${label.text}${op}${quoted.text}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }

  #duration(): number {
    const token = this.#next()
    if (token.type === 'number' && !token.text.startsWith('0x')) return Number(token.text) * 1_000
    if (token.type !== 'duration') throw bad(`expected a duration such as 5m, found ${token.text}`)
    return parsePromDuration(token.text)
  }
}

export function matches(matcher: Matcher, value: string): boolean {
  switch (matcher.op) {
    case '=':
      return value === matcher.value
    case '!=':
      return value !== matcher.value
    case '=~':
      return testPattern(matcher, value)
    case '!~':
      return !testPattern(matcher, value)
    default:
      return matcher.op satisfies never
  }
}

function testPattern({ pattern }: Matcher, value: string): boolean {
  try {
    return pattern?.test(value) ?? false
  } catch (error) {
    throw bad(error instanceof Error ? error.message : String(error))
  }
}

const durationUnitsMs: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
  y: 31_536_000_000,
}

/** Prometheus's durations: whole numbers with ms s m h d w y. */
export function parsePromDuration(text: string): number {
  if (!/^(?:\d+(?:ms|[smhdwy]))+$/.test(text)) throw bad(`${JSON.stringify(text)} is not a duration such as 30s or 5m`)
  let ms = 0
  for (const [, amount, unit = ''] of text.matchAll(/(\d+)(ms|[smhdwy])/g))
    ms += Number(amount) * (durationUnitsMs[unit] ?? 0)
  if (ms <= 0 || ms > 3_153_600_000_000) throw bad(`the duration ${text} is not between 1ms and 100y`)
  return ms
}

function unquote(text: string): string {
  const inner = text.slice(1, -1)
  if (text.startsWith('`')) return inner
  return inner.replace(/\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)/g, (_, code: string) => {
    if (code.length > 1) return String.fromCharCode(Number.parseInt(code.slice(1), 16))
    return { n: '\n', t: '\t', r: '\r' }[code] ?? code
  })
}

function calculate(left: number, operator: string, right: number): number {
  if (operator === '+') return left + right
  if (operator === '-') return left - right
  return operator === '*' ? left * right : left / right
}

function unsupported(word: string): QueryError {
  return bad(
    `"${word}" is not supported here; this service answers selectors, ${rangeFunctions.join(', ')}, and ${aggregations.join(', ')} with by or without`,
  )
}
