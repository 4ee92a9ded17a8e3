// RFC 8785, for the values we hash: objects by the order of their names' UTF-16 units, no spaces. Money and counters are
// strings here, and the only numbers are small whole ones, which JSON.stringify writes as the RFC wants.

export type CanonicalValue =
  | string
  | number
  | boolean
  | null
  | readonly CanonicalValue[]
  | { readonly [name: string]: CanonicalValue }

export function canonicalJson(value: CanonicalValue): string {
  if (typeof value === 'number' && !Number.isSafeInteger(value))
    throw new Error(`BUG: ${value} is no whole number; write amounts as strings`)
  if (value === null || typeof value !== 'object') return JSON.stringify(value)
  if (isList(value)) return `[${value.map(canonicalJson).join()}]`
  const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonicalJson(member)}`).join()}}`
}

function isList(value: object): value is readonly CanonicalValue[] {
  return Array.isArray(value)
}
