// A TCP proxy between the service and its database that can be rude: refuse, cut, fall silent, or die inside a COMMIT.

import { connect, createServer, type Server, type Socket } from 'node:net'
import type { TestContext } from 'node:test'

export interface TcpProxy {
  /** The database's address, through here. */
  url: string
  /** Cuts all connections and refuses new ones. */
  down(): void
  /** Keeps connections and lets nothing through. */
  silence(): void
  up(): void
  /** From now on the next `count` COMMITs reach the server, and the answer never comes back. */
  cutAfterCommit(count: number): void
  readonly commitsCut: number
}

/** `databaseUrl` must name a TCP host or a unix socket folder, as the test kit's do. */
export async function tcpProxy(t: TestContext, databaseUrl: string): Promise<TcpProxy> {
  const parsed = new URL(databaseUrl.replace(/^postgres:\/\/\//, 'postgres://localhost/'))
  const folder = parsed.searchParams.get('host')
  const port = Number(parsed.searchParams.get('port') ?? (parsed.port || 5432))
  const target = folder?.startsWith('/')
    ? { path: `${folder}/.s.PGSQL.${port}` }
    : { host: folder ?? parsed.hostname, port }
  const pairs = new Set<{ inner: Socket; outer: Socket }>()
  let isDown = false
  let isSilent = false
  let cuts = 0
  let commitsCut = 0

  const server: Server = createServer(outer => {
    if (isDown) return void outer.destroy()
    const inner = connect(target)
    const pair = { inner, outer }
    pairs.add(pair)
    let isMuted = false
    const end = () => {
      pairs.delete(pair)
      outer.destroy()
      // A server that is not told goes on with what it got.
      if (isMuted) inner.end()
      else inner.destroy()
    }
    outer.on('data', (chunk: Buffer) => {
      if (isSilent) return
      if (cuts > 0 && isCommit(chunk)) {
        cuts--
        commitsCut++
        isMuted = true
        inner.write(chunk)
        // The server has it; whoever sent it will never know.
        inner.once('data', () => outer.destroy())
        return
      }
      inner.write(chunk)
    })
    inner.on('data', chunk => {
      if (!isSilent && !isMuted) outer.write(chunk)
    })
    for (const socket of [inner, outer]) {
      socket.on('error', end)
      socket.on('close', end)
    }
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const listenPort = address !== null && typeof address === 'object' ? address.port : 0
  const cutAll = () => {
    for (const { inner, outer } of [...pairs]) {
      outer.destroy()
      inner.destroy()
    }
  }
  t.after(() => {
    cutAll()
    server.close()
  })
  const user = parsed.searchParams.get('user') ?? parsed.username
  return {
    url: `postgres://${encodeURIComponent(user)}${parsed.password ? `:${parsed.password}` : ''}@127.0.0.1:${listenPort}${parsed.pathname}?sslmode=disable`,
    down() {
      isDown = true
      cutAll()
    },
    silence() {
      isSilent = true
    },
    up() {
      // What was swallowed is gone: those connections are of no use to anybody.
      if (isSilent) cutAll()
      isDown = false
      isSilent = false
    },
    cutAfterCommit(count) {
      cuts = count
    },
    get commitsCut() {
      return commitsCut
    },
  }
}

/** The simple or extended query that ends a transaction. */
function isCommit(chunk: Buffer): boolean {
  return chunk.length < 200 && /commit/i.test(chunk.toString('latin1'))
}
