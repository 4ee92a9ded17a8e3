// A tenant's slug: the name it has on every wire, for ever.

const slugCharsMax = 63

/** A slug from a name: `Acme Robotics GmbH` → `acme-robotics-gmbh`. Never empty; accents fall, other letters become `-`. */
export function slugFrom(name: string): string {
  const plain = name
    .normalize('NFKD')
    .replace(/\p{M}/gu, '')
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, '-')
    .replace(/^[^a-z0-9]+/, '')
    .slice(0, slugCharsMax)
    .replace(/[-._]+$/, '')
  return plain || 'tenant'
}

/** The slug itself, then `-2`, `-3`, … for names that come to the same slug. */
export function numberedSlug(slug: string, n: number): string {
  const suffix = n === 1 ? '' : `-${n}`
  return slug.slice(0, slugCharsMax - suffix.length) + suffix
}

export function isSlug(text: string): boolean {
  return /^[a-z0-9][a-z0-9._-]{0,62}$/.test(text)
}
