// The console only ever adds whole terms to a query; the service parses it. What is added here must therefore quote
// whatever the language would otherwise read as syntax.

/** `service:shop`, `"http.status":500`, `-user:"a b"`; values keep their type: strings are quoted when they must be. */
export function term(name: string, value: string | number | boolean | null, negate = false): string {
  return `${negate ? '-' : ''}${quoteName(name)}:${typeof value === 'string' ? quoteValue(value) : String(value)}`
}

/** Adds a term, takes out its opposite if that is there, and leaves a query that already has it alone. */
export function withTerm(query: string, name: string, value: string | number | boolean | null, negate = false): string {
  const [wanted, opposite] = [term(name, value, negate), term(name, value, !negate)]
  const kept = removeTerm(query, opposite)
  if (removeTerm(kept, wanted) !== kept.trim()) return kept.trim()
  // An alternative on the top level would otherwise swallow the new term on one side only.
  const before = hasTopLevelOr(kept) ? `(${kept.trim()})` : kept.trim()
  return before ? `${before} ${wanted}` : wanted
}

/** The query without one term, matched as a whole word outside quotes and groups. */
export function removeTerm(query: string, unwanted: string): string {
  return words(query)
    .filter(word => word !== unwanted)
    .join(' ')
}

/** Splits at blanks outside quotes and parentheses. An open quote reaches to the end: the service will say so. */
export function words(query: string): string[] {
  const found: string[] = []
  let word = ''
  let quote = ''
  let depth = 0
  for (let i = 0; i < query.length; i++) {
    const char = query.charAt(i)
    if (quote) {
      word += char
      if (char === '\\') word += query.charAt(++i)
      else if (char === quote) quote = ''
      continue
    }
    if (char === '"' || char === "'") quote = char
    if (char === '(') depth++
    if (char === ')') depth = Math.max(0, depth - 1)
    if (/\s/.test(char) && depth === 0) {
      if (word) found.push(word)
      word = ''
    } else word += char
  }
  if (word) found.push(word)
  return found
}

function hasTopLevelOr(query: string): boolean {
  return words(query).includes('OR')
}

export function quoteName(name: string): string {
  return /^[A-Za-z_][A-Za-z0-9_.@-]*$/.test(name) && !/^(AND|OR|NOT|TO)$/.test(name) ? name : phrase(name)
}

export function quoteValue(value: string): string {
  return /^[A-Za-z_][A-Za-z0-9_./@-]*$/.test(value) && !/^(AND|OR|NOT|TO|true|false|null)$/.test(value)
    ? value
    : phrase(value)
}

/** Found in messages as it stands, without case. */
export function phrase(text: string): string {
  return `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`
}
