// What a search asks for, as a tree. parse.ts makes it from text, evaluate.ts decides with it, store/ narrows by it.

export type Query =
  | { kind: 'all' }
  | { kind: 'and'; terms: readonly Query[] }
  | { kind: 'or'; terms: readonly Query[] }
  | { kind: 'not'; term: Query }
  /** Substring of the message; `folded` means without case, and then `text` is folded already. */
  | { kind: 'message'; text: string; folded: boolean }
  /** Pieces between wildcards: one piece is the whole name, ['a', 'b'] is `a*b`. */
  | { kind: 'service'; pieces: readonly string[] }
  | { kind: 'level'; op: Comparison; rank: number }
  | { kind: 'id'; op: Comparison; id: bigint }
  /** Nanoseconds since 1970; entries of the `rows` sink are at multiples of 1000. */
  | { kind: 'timestamp'; op: Comparison; ns: bigint }
  | { kind: 'exists'; name: string }
  | { kind: 'equals'; name: string; value: string }
  /** `value` is a JSON number; only fields that are numbers can match. */
  | { kind: 'compare'; name: string; op: Comparison; value: string }
  /** RE2, anywhere in the text; `name` is that of a metadata field and empty for the others. Only texts can match. */
  | { kind: 'regex'; of: 'message' | 'service' | 'level' | 'metadata'; name: string; pattern: string }

export type Comparison = '=' | '>' | '>=' | '<' | '<='

/** Case folding of messages and query words. Kelvin sign and dotted capital I are left alone: they are the only
 *  characters outside ASCII whose lower case is inside, and without them a search for ASCII letters can be narrowed in
 *  SQL by folding ASCII alone. */
export function foldMessage(text: string): string {
  return foldsIntoAscii.test(text)
    ? text.replaceAll(/[^\u0130\u212a]+/g, part => part.toLowerCase())
    : text.toLowerCase()
}
const foldsIntoAscii = /[\u0130\u212a]/

export function holds(order: number, op: Comparison): boolean {
  switch (op) {
    case '=':
      return order === 0
    case '>':
      return order > 0
    case '>=':
      return order >= 0
    case '<':
      return order < 0
    case '<=':
      return order <= 0
    default:
      return op satisfies never
  }
}
