import { rmSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { parseDatabaseUrl, socketUrl } from '#platform/postgres'
import { temporaryFolder } from './kit.ts'

/** A database that can go away: a unix socket in front of the real one, which closes and opens on command. */
export async function startGate(t: TestContext, databaseUrl: string) {
  const { socketDir, hosts, user = 'postgres', database } = parseDatabaseUrl(databaseUrl)
  const [host] = hosts
  if (host === undefined || database === undefined) throw new Error('BUG: the test database has an address')
  const dir = temporaryFolder(t)
  const path = join(dir, '.s.PGSQL.5432')
  const open = new Set<net.Socket>()
  const server = net.createServer(client => {
    const upstream =
      socketDir === undefined
        ? net.connect(host.port, host.host)
        : net.connect(join(socketDir, `.s.PGSQL.${host.port}`))
    for (const socket of [client, upstream]) {
      open.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        open.delete(socket)
        client.destroy()
        upstream.destroy()
      })
    }
    client.pipe(upstream).pipe(client)
  })
  const listen = () => new Promise<void>(resolve => server.listen(path, resolve))
  const close = () =>
    new Promise<void>(resolve => {
      server.close(() => resolve())
      for (const socket of open) socket.destroy()
      rmSync(path, { force: true })
    })
  await listen()
  // Behind the hooks of the services in front of it, which stop more slowly without a database.
  t.after(() => {
    t.after(async () => {
      if (server.listening) await close()
    })
  })
  return { url: socketUrl({ socketDir: dir, port: 5432, user, database }), goAway: close, comeBack: listen }
}
