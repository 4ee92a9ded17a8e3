// A database that says nothing any more: a machine that vanished, a firewall that forgot its connections. The kernel gives up
// on those after a quarter of an hour; whoever has a time limit of their own need not wait so long.
//
// Bytes that arrived are looked at, not listened for: a connection that turns to TLS loses its listeners.

import type { Socket } from 'node:net'

export interface Silence {
  /** Told of every connection of one pool, or several. */
  watch(socket: Socket): void
  /** Call it about once a second while an answer is awaited. True when nothing was heard on any connection for `ms`. */
  hasLasted(ms: number): boolean
  /** Cuts all connections: what waits on them fails, and the pool opens new ones. How many there were. */
  cut(): number
}

/** Between two looks; after a longer pause nothing is known about the time in between. */
const pauseMsMax = 5_000

/** `now` is monotonic ms. */
export function createSilence(now: () => number): Silence {
  const connections = new Set<Socket>()
  let heardBytes = -1
  let sinceMs = 0
  let lookedMs = Number.NEGATIVE_INFINITY
  const forgetClosed = () => {
    for (const socket of connections) if (socket.destroyed) connections.delete(socket)
  }
  return {
    watch(socket) {
      forgetClosed()
      connections.add(socket)
    },
    hasLasted(ms) {
      const bytes = connections.values().reduce((sum, socket) => sum + socket.bytesRead, 0)
      const nowMs = now()
      if (bytes !== heardBytes || nowMs - lookedMs > pauseMsMax) sinceMs = nowMs
      heardBytes = bytes
      lookedMs = nowMs
      return nowMs - sinceMs >= ms
    },
    cut() {
      forgetClosed()
      for (const socket of connections)
        socket.destroy(Object.assign(new Error('the database says nothing any more'), { code: 'ETIMEDOUT' }))
      return connections.size
    },
  }
}
