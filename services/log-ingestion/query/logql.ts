// The part of LogQL that Grafana's log views are made of, as our own queries: selectors, line filters, `| json`, label
// filters, count_over_time and rate, sum by. Any other word is refused by its name.
//
//   log = "{" [matcher *("," matcher)] "}" *( line | "|" "json" | "|" "drop" names | "|" filter *(("and"|"or"|",") filter) )
//   metric = ["sum" [by]] "(" metric ")" [by] | ("count_over_time"|"rate") "(" log "[" duration "]" ")"

import { rankOf } from '../level.ts'
import { isJsonNumber } from './decimal.ts'
import type { Query } from './query.ts'
import { compileRegex, quoteRegex, RegexError } from './regex.ts'

export class LogqlError extends Error {}

export interface LogSelection {
  kind: 'log'
  query: Query
  /** All of the metadata becomes labels. */
  isJson: boolean
}

export interface MetricSelection {
  kind: 'metric'
  log: LogSelection
  /** As written: `5m`. */
  range: string
  isRate: boolean
  /** Undefined: a series per stream. Empty: one series. */
  by: string[] | undefined
}

/** What Grafana asks to see whether somebody is there. */
export interface VectorSelection {
  kind: 'vector'
  value: number
}

export type Selection = LogSelection | MetricSelection | VectorSelection

const lengthMax = 8_192
const termsMax = 256

/** `labels` are metadata keys by their names as labels. @throws LogqlError */
export function parseLogql(text: string, labels: ReadonlyMap<string, string>): Selection {
  if (text.length > lengthMax)
    throw new LogqlError(`the query has ${text.length} characters, at most ${lengthMax} are taken`)
  const vector = /^\s*vector\((\d+)\)\s*(?:\+\s*vector\((\d+)\)\s*)?$/.exec(text)
  if (vector) return { kind: 'vector', value: Number(vector[1]) + Number(vector[2] ?? 0) }
  const parser = new LogqlParser(text, labels)
  return parser.parse()
}

class LogqlParser {
  readonly #text: string
  readonly #labels: ReadonlyMap<string, string>
  #at = 0
  #terms = 0

  constructor(text: string, labels: ReadonlyMap<string, string>) {
    this.#text = text
    this.#labels = labels
  }

  parse(): Selection {
    const selection = this.#peek('{') ? this.#log() : this.#metric()
    if (this.#rest() !== '') throw this.#unsupported()
    return selection
  }

  #metric(): MetricSelection {
    const word = this.#word()
    switch (word) {
      case 'sum': {
        const before = this.#by()
        this.#expect('(')
        const inner = this.#metric()
        this.#expect(')')
        const by = before ?? this.#by() ?? []
        if (inner.by !== undefined) throw new LogqlError('sum of sum is not supported here')
        return { ...inner, by }
      }
      case 'count_over_time':
      case 'rate': {
        this.#expect('(')
        const log = this.#log()
        this.#expect('[')
        const range = /^[^\]]{1,20}/.exec(this.#rest())?.[0].trim() ?? ''
        this.#at = this.#text.indexOf(']', this.#at)
        if (this.#at < 0) throw new LogqlError('the range is not closed; write [5m]')
        this.#expect(']')
        this.#expect(')')
        return { kind: 'metric', log, range, isRate: word === 'rate', by: undefined }
      }
      default:
        throw new LogqlError(
          word === ''
            ? this.#unsupported().message
            : `${word} is not supported here; sum, rate and count_over_time are`,
        )
    }
  }

  #by(): string[] | undefined {
    if (!/^by\b/.test(this.#rest())) return undefined
    this.#word()
    this.#expect('(')
    const names: string[] = []
    while (!this.#peek(')')) {
      names.push(this.#name())
      if (!this.#peek(')')) this.#expect(',')
    }
    this.#expect(')')
    return names
  }

  #log(): LogSelection {
    this.#expect('{')
    const terms: Query[] = []
    while (!this.#peek('}')) {
      terms.push(this.#filter())
      if (!this.#peek('}')) this.#expect(',')
    }
    this.#expect('}')
    let isJson = false
    for (;;) {
      const line = /^(\|=|\|~|!=|!~)/.exec(this.#rest())?.[0]
      if (line !== undefined) {
        this.#at += line.length
        terms.push(this.#line(line))
      } else if (this.#peek('|')) {
        this.#expect('|')
        const stage = /^(json|drop)\b(?!\s*(?:[=!<>]))/.exec(this.#rest())?.[1]
        if (stage === 'json') {
          this.#word()
          isJson = true
        } else if (stage === 'drop') {
          this.#word()
          do this.#name()
          while (this.#take(','))
        } else terms.push(this.#filters())
      } else break
    }
    return { kind: 'log', query: all(terms), isJson }
  }

  #line(op: string): Query {
    const texts = [this.#string()]
    while (/^or\b/.test(this.#rest())) {
      this.#word()
      texts.push(this.#string())
    }
    const query = any(
      texts.map((text): Query => {
        this.#count()
        if (op === '|~' || op === '!~') return { kind: 'regex', of: 'message', name: '', pattern: checked(text) }
        return text === '' ? { kind: 'all' } : { kind: 'message', text, folded: false }
      }),
    )
    return op.startsWith('!') ? { kind: 'not', term: query } : query
  }

  #filters(): Query {
    const alternatives: Query[][] = [[this.#filter()]]
    for (;;) {
      if (/^or\b/.test(this.#rest())) {
        this.#word()
        alternatives.push([this.#filter()])
      } else if (/^and\b/.test(this.#rest())) {
        this.#word()
        alternatives.at(-1)?.push(this.#filter())
      } else if (this.#take(',')) alternatives.at(-1)?.push(this.#filter())
      else break
    }
    return any(alternatives.map(all))
  }

  #filter(): Query {
    const name = this.#name()
    const op = /^(=~|!~|!=|==|>=|<=|=|>|<)/.exec(this.#rest())?.[0]
    if (op === undefined)
      throw new LogqlError(
        `| ${name} is not supported here; | json, | drop and label filters such as | status >= 500 are`,
      )
    this.#at += op.length
    this.#count()
    const rest = this.#rest()
    if (/^["`]/.test(rest)) return this.#compare(name, op, this.#string())
    const value = /^[^\s,|)}\]]+/.exec(rest)?.[0] ?? ''
    if (!isJsonNumber(value)) throw new LogqlError(`${JSON.stringify(value)} is neither a number nor a text in quotes`)
    this.#skip(value)
    return this.#compare(name, op, value)
  }

  #compare(name: string, op: string, value: string): Query {
    switch (op) {
      case '=':
      case '==':
        return this.#label(name, value)
      case '!=':
        return { kind: 'not', term: this.#label(name, value) }
      case '=~':
        return this.#labelRegex(name, value)
      case '!~':
        return { kind: 'not', term: this.#labelRegex(name, value) }
      case '>':
      case '>=':
      case '<':
      case '<=':
        if (!isJsonNumber(value)) throw new LogqlError(`${op} compares numbers; ${JSON.stringify(value)} is none`)
        return any(this.#keysOf(name).map((key): Query => ({ kind: 'compare', name: key, op, value })))
      default:
        throw new LogqlError(`${op} is not supported here`)
    }
  }

  #label(name: string, value: string): Query {
    const own = ownLabel(name)
    if (own === 'service') return { kind: 'service', pieces: [value] }
    if (own === 'level') {
      const rank = rankOf(value.toUpperCase())
      if (rank !== undefined) return { kind: 'level', op: '=', rank }
      return { kind: 'regex', of: 'level', name: '', pattern: `(?i)^${quoteRegex(value)}$` }
    }
    const keys = this.#keysOf(name)
    // Without the label and with an empty one are the same to Loki.
    if (value === '') return all(keys.map((key): Query => ({ kind: 'not', term: { kind: 'exists', name: key } })))
    return any(keys.map((key): Query => ({ kind: 'equals', name: key, value })))
  }

  /** The whole value, as in Loki's selectors. */
  #labelRegex(name: string, pattern: string): Query {
    const whole = checked(`^(?:${pattern})$`)
    const own = ownLabel(name)
    if (own !== undefined)
      return { kind: 'regex', of: own, name: '', pattern: own === 'level' ? `(?i)${whole}` : whole }
    const keys = this.#keysOf(name)
    const found = any(keys.map((key): Query => ({ kind: 'regex', of: 'metadata', name: key, pattern: whole })))
    if (!compileRegex(whole)('')) return found
    const missing = all(keys.map((key): Query => ({ kind: 'not', term: { kind: 'exists', name: key } })))
    return { kind: 'or', terms: [found, missing] }
  }

  /** Labels have no dots; a metadata key may. */
  #keysOf(name: string): string[] {
    const configured = this.#labels.get(name)
    if (configured !== undefined) return [configured]
    return name.includes('_') ? [name, name.replaceAll('_', '.')] : [name]
  }

  #count(): void {
    if (++this.#terms > termsMax) throw new LogqlError(`more than ${termsMax} terms`)
  }

  #string(): string {
    const rest = this.#rest()
    const raw = /^`([^`]*)`/.exec(rest)
    if (raw) {
      this.#skip(raw[0])
      return raw[1] ?? ''
    }
    const quoted = /^"(?:[^"\\]|\\.)*"/.exec(rest)
    if (!quoted) throw new LogqlError(`expected a text in quotes at ${JSON.stringify(rest.slice(0, 20))}`)
    this.#skip(quoted[0])
    return quoted[0]
      .slice(1, -1)
      .replaceAll(/\\(.)/g, (_, c: string) => (c === 'n' ? '\n' : c === 't' ? '\t' : c === 'r' ? '\r' : c))
  }

  #name(): string {
    const name = /^[A-Za-z_][\w.]*/.exec(this.#rest())?.[0]
    if (name === undefined) throw this.#unsupported()
    this.#skip(name)
    return name
  }

  #word(): string {
    const word = /^[A-Za-z_]\w*/.exec(this.#rest())?.[0] ?? ''
    this.#skip(word)
    return word
  }

  #rest(): string {
    while (/\s/.test(this.#text[this.#at] ?? '')) this.#at++
    return this.#text.slice(this.#at)
  }

  #skip(text: string): void {
    this.#rest()
    this.#at += text.length
  }

  #peek(char: string): boolean {
    return this.#rest().startsWith(char)
  }

  #take(char: string): boolean {
    if (!this.#peek(char)) return false
    this.#at += char.length
    return true
  }

  #expect(char: string): void {
    if (!this.#take(char)) throw new LogqlError(`expected ${char} at ${JSON.stringify(this.#rest().slice(0, 20))}`)
  }

  #unsupported(): LogqlError {
    const word = /^(?:[A-Za-z_]\w*|\S)/.exec(this.#rest())?.[0] ?? 'the end of the query'
    return new LogqlError(`${word} is not supported here`)
  }
}

/** `service` and `level` under the names that Loki's own agents and Grafana give them. */
export function ownLabel(name: string): 'service' | 'level' | undefined {
  if (name === 'service' || name === 'service_name') return 'service'
  return name === 'level' || name === 'detected_level' ? 'level' : undefined
}

function checked(pattern: string): string {
  try {
    compileRegex(pattern)
    return pattern
  } catch (error) {
    if (error instanceof RegexError) throw new LogqlError(error.message)
    throw error
  }
}

function all(terms: readonly Query[]): Query {
  const [first] = terms
  if (first === undefined) return { kind: 'all' }
  return terms.length === 1 ? first : { kind: 'and', terms }
}

function any(terms: readonly Query[]): Query {
  const [first] = terms
  if (first === undefined) return { kind: 'all' }
  return terms.length === 1 ? first : { kind: 'or', terms }
}
