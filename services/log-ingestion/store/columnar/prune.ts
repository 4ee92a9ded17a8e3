// What a query says about whole blocks and columns, before any row is looked at. Every answer only narrows: "may match" is
// always right.

import { levelAt, levels } from '../../level.ts'
import { type Candidate, compile } from '../../query/evaluate.ts'
import { holds, type Query } from '../../query/query.ts'
import type { BlockHeader } from './blocks.ts'
import type { Block } from './decode.ts'

/** False only when no row of the block can match, by what its header says. */
export function headerMayMatch(header: BlockHeader, query: Query, dayNs: bigint): boolean {
  switch (query.kind) {
    case 'and':
      return query.terms.every(term => headerMayMatch(header, term, dayNs))
    case 'or':
      return query.terms.some(term => headerMayMatch(header, term, dayNs))
    case 'level': {
      const matches = compile(query)
      return levels.some((level, n) => (header.levelMask & (1 << n)) !== 0 && matches(withLevel(level)))
    }
    case 'service': {
      const matches = compile(query)
      return header.services.some(service => matches(withService(service)))
    }
    case 'id':
      return overlaps(header.minId, header.maxId, query.op, query.id)
    case 'timestamp':
      return overlaps(dayNs + header.minNs, dayNs + header.maxNs, query.op, query.ns)
    default:
      return true
  }
}

function overlaps(min: bigint, max: bigint, op: '=' | '>' | '>=' | '<' | '<=', value: bigint): boolean {
  if (op === '=') return min <= value && value <= max
  const end = op === '>' || op === '>=' ? max : min
  return holds(end < value ? -1 : end > value ? 1 : 0, op)
}

export interface Needs {
  messages: boolean
  metadata: boolean
}

/** Columns besides the head that deciding takes. Metadata may repeat parts of messages. */
export function needsOf(query: Query): Needs {
  const kinds = kindsOf(query)
  const metadata = [...kinds].some(kind => !headKinds.has(kind) && kind !== 'message')
  return { metadata, messages: metadata || kinds.has('message') }
}

const headKinds: ReadonlySet<string> = new Set(['all', 'level', 'service', 'id', 'timestamp'])

/** Leaves of the query. Kinds this file does not know count as ones that need everything. */
function kindsOf(query: Query, found: Set<string> = new Set()): Set<string> {
  if (query.kind === 'and' || query.kind === 'or') for (const term of query.terms) kindsOf(term, found)
  else if (query.kind === 'not') kindsOf(query.term, found)
  else found.add(query.kind)
  return found
}

/** Looks at columns instead of rows where it can. */
export interface Prefilter {
  /** Rows that may match; undefined: all. */
  rows: Uint8Array | undefined
  /** Rows let through are matches. */
  isExact: boolean
}

export type PrefilterPlan = (block: Block) => Prefilter

/** Terms that all must hold and look at one small column are decided once per value of the column. */
export function planPrefilter(query: Query): PrefilterPlan {
  const terms = query.kind === 'and' ? query.terms : [query]
  const byLevel = terms.filter(term => isOnly(term, 'level')).map(compile)
  const byService = terms.filter(term => isOnly(term, 'service')).map(compile)
  const texts = terms.flatMap(term => (term.kind === 'message' && isPlainAscii(term.text) ? [term] : []))
  const isExact =
    terms.every(term => term.kind === 'all' || isOnly(term, 'level') || isOnly(term, 'service') || isFolded(term)) &&
    terms.length > 0
  const levelPasses = Uint8Array.from(levels, level => Number(byLevel.every(matches => matches(withLevel(level)))))
  return block => {
    let rows: Uint8Array | undefined
    let isDecided = isExact
    for (const term of texts) {
      const found = block.messages.rowsWith(term.text.toLowerCase())
      if (!found) {
        isDecided = false
        continue
      }
      rows = rows ? both(rows, found) : found
    }
    if (byLevel.length > 0) {
      rows ??= new Uint8Array(block.rows).fill(1)
      const { levels: column } = block
      for (let row = 0; row < rows.length; row++) if (levelPasses[column[row] as number] === 0) rows[row] = 0
    }
    if (byService.length > 0) {
      rows ??= new Uint8Array(block.rows).fill(1)
      const passes = Uint8Array.from(block.services, name =>
        Number(byService.every(matches => matches(withService(name)))),
      )
      const { serviceNumbers } = block
      for (let row = 0; row < rows.length; row++) if (passes[serviceNumbers[row] as number] === 0) rows[row] = 0
    }
    return { rows, isExact: isDecided }
  }
}

function both(a: Uint8Array, b: Uint8Array): Uint8Array {
  for (let i = 0; i < a.length; i++) a[i] = (a[i] as number) & (b[i] as number)
  return a
}

function isOnly(term: Query, kind: 'level' | 'service'): boolean {
  const kinds = kindsOf(term)
  return kinds.size === 1 && kinds.has(kind)
}

function isFolded(term: Query): boolean {
  return term.kind === 'message' && term.folded && isPlainAscii(term.text)
}

function isPlainAscii(text: string): boolean {
  return text !== '' && /^[ -~]*$/.test(text)
}

const blank: Candidate = { id: 0n, timestampNs: 0n, service: '', level: levelAt(0), message: '', metadata: null }

function withLevel(level: string): Candidate {
  return { ...blank, level }
}

function withService(service: string): Candidate {
  return { ...blank, service }
}
