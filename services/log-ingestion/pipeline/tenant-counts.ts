// What intake did for each tenant since the start, for people who may see one tenant only: the metrics are of all together.

export type TenantCount = 'rows' | 'bytes' | 'limited' | 'rejected'

export interface TenantCounts {
  add(tenant: string, what: TenantCount, count: number, ...labels: string[]): void
  /** Empty for a tenant of whom nothing was heard. */
  of(tenant: string, what: TenantCount): { labels: readonly string[]; count: number }[]
}

/** A sender with `tenants:any` may name tenants as he likes. Those beyond are not counted. */
const tenantsMax = 1_000
/** Names of keys are labels too. */
const countsMax = 100

export function createTenantCounts(): TenantCounts {
  const tenants = new Map<string, Map<string, { what: TenantCount; labels: readonly string[]; count: number }>>()

  const countsOf = (tenant: string) => {
    const known = tenants.get(tenant)
    if (known || tenants.size >= tenantsMax) return known
    const counts = new Map<string, { what: TenantCount; labels: readonly string[]; count: number }>()
    tenants.set(tenant, counts)
    return counts
  }

  return {
    add(tenant, what, count, ...labels) {
      const counts = countsOf(tenant)
      if (!counts) return
      const id = `${what}\0${labels.join('\0')}`
      const item = counts.get(id)
      if (item) item.count += count
      else if (counts.size < countsMax) counts.set(id, { what, labels, count })
    },
    of: (tenant, what) =>
      [...(tenants.get(tenant)?.values() ?? [])]
        .filter(item => item.what === what)
        .map(({ labels, count }) => ({ labels, count })),
  }
}
