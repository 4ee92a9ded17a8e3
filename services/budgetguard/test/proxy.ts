// A database that can be taken away: a relay in front of the real server's socket.

import { connect, createServer, type Socket } from 'node:net'
import type { TestContext } from 'node:test'
import { parseDatabaseUrl } from '#platform/postgres'
import { tempDir } from './kit.ts'

export interface Relay {
  /** The same database, through the relay. */
  url: string
  /** Cuts every connection and refuses new ones. */
  stop(): Promise<void>
  start(): Promise<void>
}

export async function relayDatabase(t: TestContext, url: string): Promise<Relay> {
  const address = parseDatabaseUrl(url)
  const [host] = address.hosts
  if (!host) throw new Error('BUG: an address without a host')
  const target = () =>
    address.socketDir === undefined
      ? connect(host.port, host.host)
      : connect(`${address.socketDir}/.s.PGSQL.${host.port}`)
  const sockets = new Set<Socket>()
  const listenPath = `${tempDir(t)}/.s.PGSQL.5432`
  const open = () => {
    const server = createServer(socket => {
      const upstream = target()
      for (const end of [socket, upstream]) {
        sockets.add(end)
        end.on('error', () => {})
        end.once('close', () => {
          sockets.delete(end)
          socket.destroy()
          upstream.destroy()
        })
      }
      socket.pipe(upstream).pipe(socket)
    })
    return new Promise<typeof server>(resolve => server.listen(listenPath, () => resolve(server)))
  }
  let server: Awaited<ReturnType<typeof open>> | undefined = await open()
  const stop = async () => {
    const closing = server
    server = undefined
    if (!closing) return
    const closed = new Promise<void>(resolve => closing.close(() => resolve()))
    for (const socket of sockets) socket.destroy()
    await closed
  }
  t.after(stop)
  const folder = listenPath.slice(0, listenPath.lastIndexOf('/'))
  return {
    url: `postgres:///${encodeURIComponent(address.database)}?host=${encodeURIComponent(folder)}&port=5432&user=${encodeURIComponent(address.user)}`,
    stop,
    async start() {
      server ??= await open()
    },
  }
}
