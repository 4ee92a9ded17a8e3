// Following logs. One reader per build feeds all who follow it; a follower asks for what comes after its cursor and
// waits until there is something. The newest lines are kept, so that followers who keep up cost no query of their own;
// one who fell behind reads the table.

import { type Sql, subscribe } from '#platform/postgres'
import { isTerminal } from '../build-state.ts'
import { type LogPage, loadLines, logChannel, type StoredLine } from '../store/logs.ts'

export interface LogFeed {
  /** Lines after `cursor`; waits for them up to `waitMs`. `isOver`: no line will ever come after these. */
  next(buildId: string, cursor: bigint, waitMs: number, signal: AbortSignal): Promise<FeedPage>
  followers(): number
  close(): Promise<void>
}

export interface FeedPage {
  lines: StoredLine[]
  isOver: boolean
  /** The build is gone. */
  isDeleted: boolean
}

const pageLines = 500
const keptLines = 1_000
const pollEveryMs = 1_000

interface Watched {
  /** The newest lines, gap-free. */
  tail: StoredLine[]
  /** Where the tail begins: nothing before it is read for followers. */
  from: bigint
  page: LogPage
  waiting: Set<() => void>
  reading: Promise<void> | undefined
  isStale: boolean
}

export async function openLogFeed(sql: Sql): Promise<LogFeed> {
  const watched = new Map<string, Watched>()
  let followerCount = 0

  const read = (buildId: string, watch: Watched) => {
    watch.isStale = true
    watch.reading ??= (async () => {
      await null
      try {
        while (watch.isStale && watch.waiting.size > 0) {
          watch.isStale = false
          const page = await loadLines(sql, buildId, watch.tail.at(-1)?.seq ?? watch.from, pageLines)
          const moved = page.lastSeq !== watch.page.lastSeq || page.state !== watch.page.state
          watch.page = page
          watch.tail = [...watch.tail, ...page.lines].slice(-keptLines)
          if (page.lines.length === pageLines) watch.isStale = true
          if (moved || page.lines.length > 0) for (const wake of watch.waiting) wake()
        }
      } catch {
        // The database is away: the poll tries again.
      } finally {
        watch.reading = undefined
      }
    })()
  }
  const subscription = await subscribe(sql, logChannel, buildId => {
    const watch = watched.get(buildId)
    if (watch) read(buildId, watch)
  })
  const polling = setInterval(() => {
    for (const [buildId, watch] of watched) read(buildId, watch)
  }, pollEveryMs)

  const fromTail = (watch: Watched | undefined, cursor: bigint): FeedPage | undefined => {
    const first = watch?.tail[0]
    if (!watch || !first || first.seq > cursor + 1n) return undefined
    const lines = watch.tail.filter(line => line.seq > cursor).slice(0, pageLines)
    return lines.length === 0 ? undefined : toPage({ ...watch.page, lines }, cursor)
  }

  return {
    async next(buildId, cursor, waitMs, signal) {
      const known = fromTail(watched.get(buildId), cursor)
      if (known) return known
      const loaded = await loadLines(sql, buildId, cursor, pageLines)
      const page = toPage(loaded, cursor)
      if (page.lines.length > 0 || page.isOver || page.isDeleted || waitMs === 0) return page

      const watch: Watched = watched.get(buildId) ?? {
        tail: [],
        from: cursor,
        page: loaded,
        waiting: new Set(),
        reading: undefined,
        isStale: false,
      }
      watched.set(buildId, watch)
      followerCount++
      let wake: (() => void) | undefined
      let timer: NodeJS.Timeout | undefined
      try {
        await new Promise<void>(resolve => {
          wake = resolve
          watch.waiting.add(resolve)
          timer = setTimeout(resolve, waitMs)
          signal.addEventListener('abort', wake, { once: true })
          // What was written between our look and our place in the queue.
          read(buildId, watch)
        })
      } finally {
        clearTimeout(timer)
        followerCount--
        if (wake) {
          watch.waiting.delete(wake)
          signal.removeEventListener('abort', wake)
        }
        if (watch.waiting.size === 0 && watched.get(buildId) === watch) watched.delete(buildId)
      }
      signal.throwIfAborted()
      return fromTail(watch, cursor) ?? toPage(await loadLines(sql, buildId, cursor, pageLines), cursor)
    },
    followers: () => followerCount,
    async close() {
      clearInterval(polling)
      await subscription.close()
      for (const watch of watched.values()) for (const wake of watch.waiting) wake()
    },
  }
}

function toPage({ state, lines, lastSeq }: LogPage, cursor: bigint): FeedPage {
  const end = lines.at(-1)?.seq ?? cursor
  return { lines, isDeleted: state === undefined, isOver: state !== undefined && isTerminal(state) && end >= lastSeq }
}
