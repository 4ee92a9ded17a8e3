// LISTEN that outlives the connection it was made on.

import type { Sql } from './sql.ts'

/**
 * Calls `onNotify` for every NOTIFY on `channel`. Notifications sent while the connection was down are lost by nature,
 * so `onListening` is called each time LISTEN is in force (the first time included): read there what may have changed.
 * Resolves at once when the database is away; the driver keeps trying.
 */
export async function subscribe(
  sql: Sql,
  channel: string,
  onNotify: (payload: string) => void,
  onListening: () => void = () => {},
): Promise<{ close(): Promise<void> }> {
  let isClosed = false
  const request = sql.listen(
    channel,
    payload => {
      if (!isClosed) onNotify(payload)
    },
    () => {
      if (!isClosed) onListening()
    },
  )
  // After a failed first LISTEN the driver listens again by itself when its connection comes back.
  const meta = await request.catch(() => undefined)
  return {
    async close() {
      isClosed = true
      await meta?.unlisten().catch(() => undefined)
    },
  }
}
