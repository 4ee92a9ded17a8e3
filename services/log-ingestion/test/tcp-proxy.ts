// A TCP proxy between the service and its database that can be rude: refuse, cut, fall silent, or do something to a COMMIT.

import { connect, createServer, type Server, type Socket } from 'node:net'
import type { Cleanup } from '../../../test/kit/cleanup.ts'

/** What becomes of a COMMIT. Whoever sent it never hears of it. */
export type CommitFate =
  /** The server gets it at once. */
  | 'delivered'
  /** The server never gets it, and rolls back. */
  | 'lost'
  /** The server gets it a moment after the sender was cut off, and perhaps came back. */
  | 'late'

export interface TcpProxy {
  /** The database's address, through here. */
  url: string
  /** Cuts all connections and refuses new ones. */
  down(): void
  /** Keeps connections and lets nothing through. */
  silence(): void
  up(): void
  /** Lets through again, on the connections there are, what they say from now on; what was swallowed stays lost. */
  listenAgain(): void
  /** For the next COMMITs, one after the other. `onCommit` is called as each arrives, before anything happens to it. */
  atCommit(fates: readonly CommitFate[], onCommit?: () => void): void
  /** The same for `count` COMMITs that are delivered. */
  cutAfterCommit(count: number): void
  readonly commitsCut: number
}

const lateMs = 400

/** `databaseUrl` must name a TCP host or a unix socket folder, as the test kit's do. */
export async function tcpProxy(t: Cleanup, databaseUrl: string): Promise<TcpProxy> {
  const parsed = new URL(databaseUrl.replace(/^postgres:\/\/\//, 'postgres://localhost/'))
  const folder = parsed.searchParams.get('host')
  const port = Number(parsed.searchParams.get('port') ?? (parsed.port || 5432))
  const target = folder?.startsWith('/')
    ? { path: `${folder}/.s.PGSQL.${port}` }
    : { host: folder ?? parsed.hostname, port }
  const pairs = new Set<{ inner: Socket; outer: Socket }>()
  let isDown = false
  let isSilent = false
  let fates: CommitFate[] = []
  let onCommit: (() => void) | undefined
  let commitsCut = 0

  const server: Server = createServer(outer => {
    if (isDown) return void outer.destroy()
    const inner = connect(target)
    const pair = { inner, outer }
    pairs.add(pair)
    /** A COMMIT of this connection met its fate: nothing passes any more, and the server may have work left. */
    let isMuted = false
    const holdsCommit = commitFinder()
    const end = () => {
      pairs.delete(pair)
      outer.destroy()
      if (!isMuted) inner.destroy()
    }
    outer.on('data', (chunk: Buffer) => {
      if (isSilent || isMuted) return
      const fate = holdsCommit(chunk) ? fates.shift() : undefined
      if (fate === undefined) return void inner.write(chunk)
      isMuted = true
      commitsCut++
      onCommit?.()
      if (fate === 'lost') inner.destroy()
      // A server that is not told goes on with what it got; its end of the connection is closed when it has answered.
      else if (fate === 'delivered') inner.end(chunk)
      else setTimeout(() => inner.end(chunk), lateMs)
      if (fate === 'delivered') inner.once('data', () => outer.destroy())
      else outer.destroy()
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
  const atCommit: TcpProxy['atCommit'] = (next, hook) => {
    fates = [...next]
    onCommit = hook
  }
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
    listenAgain() {
      isSilent = false
    },
    atCommit,
    cutAfterCommit: count => atCommit(Array<CommitFate>(count).fill('delivered')),
    get commitsCut() {
      return commitsCut
    },
  }
}

const startupHeaderBytes = 4
const headerBytes = 5
/** As much of a message as is read; the statements looked for are shorter. */
const headBytesMax = 128

/** Follows what one client says, message by message: true for a piece with a COMMIT in it. A driver that prepares its
 *  statements sends the word once per connection and from then on only the name it gave it. */
function commitFinder(): (chunk: Buffer) => boolean {
  const commits = new Set<string>()
  let isStarted = false
  let head = Buffer.alloc(0)
  let skip = 0

  const isCommit = (type: string, [first = '', second = '']: string[]): boolean => {
    const isWord = (text: string) => /^\s*commit\s*$/i.test(text)
    if (type === 'Q') return isWord(first)
    if (type === 'P') {
      if (isWord(second)) commits.add(first)
      else commits.delete(first)
    }
    return type === 'B' && commits.has(second)
  }

  return chunk => {
    let found = false
    for (let at = 0; at < chunk.length; ) {
      if (skip > 0) {
        const passed = Math.min(skip, chunk.length - at)
        skip -= passed
        at += passed
        continue
      }
      const known = head.length
      head = Buffer.concat([head, chunk.subarray(at, at + headBytesMax - known)])
      const fixed = isStarted ? headerBytes : startupHeaderBytes
      if (head.length < fixed) return found
      const length = head.readInt32BE(fixed - 4) + fixed - 4
      if (head.length < Math.min(length, headBytesMax)) return found
      if (isStarted) {
        const texts = head.toString('latin1', headerBytes, Math.min(length, headBytesMax)).split('\0')
        found = isCommit(String.fromCharCode(head[0] ?? 0), texts) || found
      }
      isStarted = true
      const taken = Math.min(length, head.length) - known
      skip = length - known - taken
      at += taken
      head = Buffer.alloc(0)
    }
    return found
  }
}
