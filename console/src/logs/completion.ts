// What could be written at the caret: a field's name, or a value of the field whose name stands before it.

import { quoteName, quoteValue, words } from './query.ts'

export type Wanted =
  | { kind: 'field'; prefix: string; from: number; to: number }
  | { kind: 'value'; name: string; prefix: string; from: number; to: number }

/** The word that ends at the caret, if something can be offered for it; null inside quotes and at the end of a blank. */
export function wantedAt(query: string, caret: number): Wanted | null {
  const before = query.slice(0, caret)
  const word = words(before).at(-1)
  if (word === undefined || !before.endsWith(word)) return null
  const bare = word.replace(/^[-(]+/, '')
  const from = caret - bare.length
  // Text after the caret belongs to another word, unless it goes on without a blank.
  const to = caret + (/^[^\s()]*/.exec(query.slice(caret))?.[0].length ?? 0)
  if (/["']/.test(bare) || bare === '') return null
  const field = /^([A-Za-z_][A-Za-z0-9_.@-]*):([^<>~[(]*)$/.exec(bare)
  if (field?.[1] !== undefined && field[2] !== undefined)
    return { kind: 'value', name: field[1], prefix: field[2], from: from + field[1].length + 1, to }
  return /^[A-Za-z_][A-Za-z0-9_.@-]*$/.test(bare) ? { kind: 'field', prefix: bare, from, to } : null
}

/** The query with the choice in place, and where the caret goes: behind the colon of a field, behind a value's blank. */
export function complete(query: string, wanted: Wanted, choice: string): { query: string; caret: number } {
  const text = wanted.kind === 'field' ? `${quoteName(choice)}:` : `${quoteValue(choice)} `
  const rest = query.slice(wanted.to)
  const head = query.slice(0, wanted.from) + text
  return { query: head + (wanted.kind === 'value' ? rest.trimStart() : rest), caret: head.length }
}
