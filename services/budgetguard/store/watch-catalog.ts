// The catalog in memory, current within a second of any change by any process: told by NOTIFY, and a poll every 5 s
// behind it in case that was lost.

import { type Sql, subscribe } from '#platform/postgres'
import type { Logger } from '#platform/telemetry'
import { type Catalog, findConfigVersion, loadCatalog } from './catalog.ts'

export interface CatalogWatch {
  readonly current: Catalog
  /** After a change of our own: resolves when the new state is in memory. */
  reload(): Promise<void>
  onChange(fn: () => void): void
  close(): Promise<void>
}

const pollEveryMs = 5_000
const channel = 'budgetguard_config'

export async function watchCatalog(sql: Sql, log: Logger): Promise<CatalogWatch> {
  let current = await loadCatalog(sql)
  const listeners = new Set<() => void>()
  let isClosed = false
  let reloading: Promise<void> | undefined
  let isWanted = false

  const reload = (): Promise<void> => {
    isWanted = true
    reloading ??= (async () => {
      while (isWanted && !isClosed) {
        isWanted = false
        const next = await loadCatalog(sql)
        if (next.version < current.version) continue
        current = next
        for (const fn of listeners) fn()
      }
    })().finally(() => {
      reloading = undefined
    })
    return reloading
  }
  const reloadLater = () => {
    reload().catch((error: unknown) => {
      if (!isClosed) log.warn({ err: error }, 'budgets and prices could not be read again; the last ones stay')
    })
  }
  const polling = setInterval(() => {
    findConfigVersion(sql)
      .then(version => (version === current.version ? undefined : reload()))
      .catch((error: unknown) => {
        if (!isClosed) log.debug({ err: error }, 'catalog poll failed')
      })
  }, pollEveryMs)
  polling.unref()
  const subscription = await subscribe(sql, channel, reloadLater, reloadLater)

  return {
    get current() {
      return current
    },
    reload,
    onChange: fn => void listeners.add(fn),
    async close() {
      isClosed = true
      clearInterval(polling)
      await subscription.close()
      await reloading?.catch(() => undefined)
    },
  }
}
