/** `$.a.b` or `$['a'].b` as the names on the way; null for anything more. */
export function parseJsonPath(text: string): string[] | null {
  if (!/^\$(\.[A-Za-z_][A-Za-z0-9_-]*|\['[^'\]]{1,100}'\])+$/.test(text) || text.length > 1000) return null
  return [...text.matchAll(/\.([A-Za-z_][A-Za-z0-9_-]*)|\['([^'\]]+)'\]/g)].map(match => match[1] ?? match[2] ?? '')
}

export function formatJsonPath(path: readonly string[]): string {
  return `$${path.map(name => (/^[A-Za-z_][A-Za-z0-9_-]*$/.test(name) ? `.${name}` : `['${name}']`)).join('')}`
}
