// A query as SQL, as far as SQL and the evaluator surely agree. What comes back is a superset of the matches; when
// `isExact` it is the matches.

import type { PendingQuery, Row } from 'postgres'
import type { Queryable } from '#platform/postgres'
import { levels, rankOf } from '../../level.ts'
import { isJsonNumber } from '../../query/decimal.ts'
import { type Comparison, holds, type Query } from '../../query/query.ts'
import { formatMicros } from '../../rfc3339.ts'
import { idMax } from '../store.ts'

type Fragment = PendingQuery<Row[]>

export interface Narrowing {
  condition: Fragment
  isExact: boolean
}

/** Columns are those of `l`. Null: SQL cannot help. */
export function narrow(sql: Queryable, query: Query): Narrowing | null {
  const exact = (condition: Fragment): Narrowing => ({ condition, isExact: true })
  switch (query.kind) {
    case 'all':
      return exact(sql`true`)
    case 'and': {
      const parts = query.terms.map(term => narrow(sql, term))
      const known = parts.filter(part => part !== null)
      if (known.length === 0) return null
      return {
        condition: join(sql, known, 'and'),
        isExact: known.length === parts.length && known.every(part => part.isExact),
      }
    }
    case 'or': {
      const parts = query.terms.map(term => narrow(sql, term))
      const known = parts.filter(part => part !== null)
      // One alternative that SQL cannot judge may match anything.
      if (known.length < parts.length) return null
      return { condition: join(sql, known, 'or'), isExact: known.every(part => part.isExact) }
    }
    case 'not': {
      const inner = narrow(sql, query.term)
      // The opposite of a superset is no superset.
      return inner?.isExact ? exact(sql`(${inner.condition}) is not true`) : null
    }
    case 'message': {
      const { text, folded } = query
      if (!isStorable(text)) return exact(sql`false`)
      if (!folded) return exact(sql`strpos(l.message, ${text}) > 0`)
      // ILIKE under collation C folds ASCII only, and so does the evaluator for what becomes ASCII.
      const pattern = `%${likeLiteral(text).replaceAll(/[^\0-\x7f]+/g, '%')}%`
      return { condition: sql`l.message collate "C" ilike ${pattern}`, isExact: isAscii(text) }
    }
    case 'service': {
      const { pieces } = query
      if (!pieces.every(isStorable)) return exact(sql`false`)
      if (pieces.length === 1) return exact(sql`l.service = ${pieces[0] ?? ''}`)
      return exact(sql`l.service collate "C" like ${pieces.map(likeLiteral).join('%')}`)
    }
    case 'level': {
      const names = levels.filter(level => holds((rankOf(level) ?? 0) - query.rank, query.op))
      return exact(sql`upper(l.level collate "C") = any(${names}::text[])`)
    }
    case 'id':
      if (query.id <= idMax) return exact(sql`l.id ${comparison(sql, query.op)} ${query.id}::int8`)
      // Ids of the table end where int8 ends; larger ones in a query are compared as what they are.
      return exact(sql`l.id::numeric ${comparison(sql, query.op)} ${String(query.id)}::numeric`)
    case 'timestamp': {
      // The table's times are whole microseconds: a bound between two of them is rounded to the side that changes nothing.
      const { op, ns } = query
      const floor = ns / 1_000n - (ns % 1_000n < 0n ? 1n : 0n)
      const isWhole = floor * 1_000n === ns
      if (op === '=' && !isWhole) return exact(sql`false`)
      const us = !isWhole && (op === '>=' || op === '<') ? floor + 1n : floor
      return exact(sql`l.timestamp ${comparison(sql, op)} ${timestampText(us)}::timestamptz`)
    }
    case 'equals': {
      const { value } = query
      const isPlainText =
        /^[A-Za-z0-9_-]+$/.test(value) && !isJsonNumber(value) && !['true', 'false', 'null'].includes(value)
      // Only a string can equal it, and its text form is then in the text of the whole. `_` is LIKE's, hence strpos.
      return isPlainText ? { condition: sql`strpos(l.metadata::text, ${`"${value}"`}) > 0`, isExact: false } : null
    }
    case 'exists':
    case 'compare':
    case 'regex':
      return null
    default:
      return query satisfies never
  }
}

function join(sql: Queryable, parts: readonly Narrowing[], word: 'and' | 'or'): Fragment {
  return parts
    .map(part => part.condition)
    .reduce((all, one) => (word === 'and' ? sql`(${all}) and (${one})` : sql`(${all}) or (${one})`))
}

function comparison(sql: Queryable, op: Comparison): Fragment {
  switch (op) {
    case '=':
      return sql`=`
    case '>':
      return sql`>`
    case '>=':
      return sql`>=`
    case '<':
      return sql`<`
    case '<=':
      return sql`<=`
    default:
      return op satisfies never
  }
}

/** PostgreSQL writes years before 1 in another way; nothing is that old. */
const year1Us = -62_135_596_800_000_000n
const year9999Us = 253_402_300_799_999_999n

export function timestampText(us: bigint): string {
  return us < year1Us ? '-infinity' : us > year9999Us ? 'infinity' : formatMicros(us)
}

function likeLiteral(text: string): string {
  return text.replaceAll(/[\\%_]/g, '\\$&')
}

function isAscii(text: string): boolean {
  return /^[\0-\x7f]*$/.test(text)
}

/** No stored text holds U+0000 or half a surrogate pair, so nothing can match one. */
function isStorable(text: string): boolean {
  return !text.includes('\0') && text.isWellFormed()
}
