// PostgreSQL arrays as text.
//
// The driver learns array types by a query on each new connection. Its first real query is sent before the answer is
// used, so `sql.array` fails there once, at random to a caller; and its parser reads NULL as the text "NULL". The element types that
// we use have had fixed numbers for decades, so they are simply listed.

import type postgres from 'postgres'

/** [element, array] type numbers of pg_type. */
const arrayTypes = [
  [16, 1000], // bool
  [17, 1001], // bytea
  [20, 1016], // int8
  [21, 1005], // int2
  [23, 1007], // int4
  [25, 1009], // text
  [114, 199], // json
  [700, 1021], // float4
  [701, 1022], // float8
  [1043, 1015], // varchar
  [1082, 1182], // date
  [1184, 1185], // timestamptz
  [1700, 1231], // numeric
  [2950, 2951], // uuid
  [3802, 3807], // jsonb
] as const

type Options = Pick<postgres.ParsedOptions, 'parsers' | 'serializers'>

/** Teaches a pool its array types. */
export function addArrayTypes(options: Options): void {
  const shared: unknown = Reflect.get(options, 'shared')
  const map: unknown = typeof shared === 'object' && shared !== null ? Reflect.get(shared, 'typeArrayMap') : undefined
  if (typeof map !== 'object' || map === null) {
    throw new Error('BUG: the postgres driver changed; arrays.ts relies on options.shared.typeArrayMap')
  }
  for (const [element, array] of arrayTypes) {
    Reflect.set(map, element, array)
    const parse = options.parsers[element] ?? ((text: string) => text)
    options.parsers[array] = (text: string) => parseArray(text, parse)
    const serialize = options.serializers[element] ?? String
    options.serializers[array] = (value: unknown) =>
      Array.isArray(value) ? formatArray(value, serialize) : String(value)
  }
}

/** '{"a","b",NULL}' for an array column. */
export function arrayLiteral(values: readonly (string | bigint | number | boolean | null)[]): string {
  return formatArray(values, String)
}

function formatArray(values: readonly unknown[], serialize: (value: unknown) => unknown): string {
  const items = values.map(value => {
    if (value === null || value === undefined) return 'NULL'
    if (Array.isArray(value)) return formatArray(value, serialize)
    return `"${String(serialize(value)).replace(/["\\]/g, '\\$&')}"`
  })
  return `{${items.join(',')}}`
}

/** @throws {Error} when `text` is no array; the server never sends such */
export function parseArray(text: string, parse: (item: string) => unknown): unknown[] {
  // Arrays with other bounds than 1 are written [0:2]={…}.
  const start = text.indexOf('{')
  let at = start + 1

  function items(): unknown[] {
    const list: unknown[] = []
    for (;;) {
      const character = text[at]
      if (character === undefined) throw new Error(`BUG: array text ends early: ${text.slice(0, 40)}`)
      if (character === '}') {
        at++
        return list
      }
      if (character === ',') at++
      else if (character === '{') {
        at++
        list.push(items())
      } else if (character === '"') list.push(parse(quoted()))
      else list.push(bare())
    }
  }

  function quoted(): string {
    let value = ''
    for (at++; text[at] !== '"'; at++) {
      if (text[at] === '\\') at++
      if (at >= text.length) throw new Error(`BUG: array text ends early: ${text.slice(0, 40)}`)
      value += text[at]
    }
    at++
    return value
  }

  function bare(): unknown {
    const from = at
    while (at < text.length && text[at] !== ',' && text[at] !== '}') at++
    const value = text.slice(from, at)
    return value === 'NULL' ? null : parse(value)
  }

  return items()
}
