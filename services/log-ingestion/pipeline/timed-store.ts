// How long the database takes for what is asked of the store: alerts, exports and deletions included, which the metrics of
// people's queries do not see.

import type { Store } from '../store/store.ts'

export function timedStore(store: Store, observe: (query: string, seconds: number) => void): Store {
  const timed = async <T>(query: string, work: () => Promise<T>): Promise<T> => {
    const startedMs = performance.now()
    try {
      return await work()
    } finally {
      observe(query, (performance.now() - startedMs) / 1_000)
    }
  }
  return {
    ...store,
    search: (plan, now) => timed('search', () => store.search(plan, now)),
    find: (tenant, id) => timed('find', () => store.find(tenant, id)),
    count: (plan, now) => timed('count', () => store.count(plan, now)),
    stats: () => timed('stats', () => store.stats()),
    async *scan(plan, signal) {
      const pieces = store.scan(plan, signal)[Symbol.asyncIterator]()
      try {
        for (;;) {
          const piece = await timed('scan', () => pieces.next())
          if (piece.done) return
          yield piece.value
        }
      } finally {
        // Whoever stops reading ends the work below as well.
        await pieces.return?.()
      }
    },
  }
}
