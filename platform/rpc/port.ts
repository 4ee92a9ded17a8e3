import type { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import http from 'node:http'
import http2 from 'node:http2'
import net from 'node:net'
import tls from 'node:tls'
import { explainListenError } from '../http.ts'
import type { Logger } from '../telemetry.ts'

// One TCP port for HTTP/1.1 and HTTP/2.
//
// A plain connection is *sniffed* until its first bytes tell the protocols apart, then belongs to node:http or
// node:http2 for the rest of its life; a TLS connection is decided by ALPN. Closing: stop accepting, drop what is
// still sniffed, end idle HTTP/1.1 connections, GOAWAY on HTTP/2, wait for the rest until the deadline, destroy.

export type RpcRequest = http.IncomingMessage | http2.Http2ServerRequest
export type RpcResponse = http.ServerResponse | http2.Http2ServerResponse
export type Handler = (req: RpcRequest, res: RpcResponse) => void

export interface PortOptions {
  handler: Handler
  log: Logger
  /** Paths of PEM files, or a source of another kind. With `ca`, clients must present a certificate that it signed. */
  tls?: TlsFiles | TlsSource
  /** How long a client may take to say which protocol it speaks, to shake hands, and to send a header block. */
  headersTimeoutMs?: number
  /** How long a request may take to arrive whole, headers and body. 0: no limit, for client streams. */
  requestTimeoutMs?: number
  /** Largest header block. Each connection may hold one, so this times `connectionsMax` bounds memory. */
  headersBytesMax?: number
  connectionsMax?: number
}

export interface TlsFiles {
  cert: string
  key: string
  ca?: string
}

/** Certificates that come from elsewhere than files; clients must always present one. */
export interface TlsSource {
  /** PEM, asked for at the start and by every `reloadTls`. */
  load(): Promise<{ cert: string; key: string; ca: string }>
  /** Of a client whose certificate `ca` signed: whether it is one of those we serve. */
  isPeer(certificate: X509Certificate): boolean
}

export interface Port {
  /** Resolves to the base URL; `host` 0.0.0.0 or :: is shown as the loopback address. `variable` is the setting that
   *  moves the port, for the message when it is in use. */
  listen(host: string, port: number, o?: { variable?: string }): Promise<string>
  /** Reads the certificate files again; connections made from now on use them. */
  reloadTls(): Promise<void>
  close(drainMs: number): Promise<void>
}

/** Time a kept-alive connection may stay without a request. */
const idleMsMax = 120_000
/** Streams one HTTP/2 client may have open: enough for any real client, and bounds what one connection can hold. */
const streamsPerConnectionMax = 250
/** Requests an HTTP/1.1 client may have sent ahead of their answers. Node reads 64 KiB of them before it holds the sender
 *  back, which is thousands of short ones, each with an answer in memory that nobody reads. */
const pipelinedMax = 250

export function createPort({ handler, log, tls: certificates, ...limits }: PortOptions): Port {
  const source = certificates !== undefined && 'load' in certificates ? certificates : undefined
  const demandsClient = source !== undefined || (certificates !== undefined && 'ca' in certificates)
  const { headersTimeoutMs = 30_000, requestTimeoutMs = 60_000 } = limits
  const { headersBytesMax = 64 * 1024, connectionsMax = 10_000 } = limits
  const sockets = new Set<net.Socket>()
  const undecided = new Set<net.Socket>()
  const shaking = new Map<string, net.Socket>()
  const sessions = new Set<http2.ServerHttp2Session>()
  const pipelined = new WeakMap<net.Socket, number>()
  let isClosing = false

  const h1 = http.createServer(
    {
      headersTimeout: headersTimeoutMs,
      requestTimeout: requestTimeoutMs,
      keepAliveTimeout: idleMsMax,
      maxHeaderSize: headersBytesMax,
      connectionsCheckingInterval: Math.max(10, Math.min(5_000, headersTimeoutMs / 4)),
    },
    (req, res) => {
      if (isClosing) res.shouldKeepAlive = false
      const { socket } = req
      const ahead = pipelined.get(socket) ?? 0
      if (ahead >= pipelinedMax) {
        socket.destroy()
        return
      }
      pipelined.set(socket, ahead + 1)
      res.once('close', () => {
        pipelined.set(socket, (pipelined.get(socket) ?? 1) - 1)
        if (isClosing) h1.closeIdleConnections()
      })
      handler(req, res)
    },
  )
  // This server never listens itself, and node:http starts its header and request timers on this event only.
  h1.emit('listening')

  const h2 = http2.createServer(
    {
      settings: {
        maxConcurrentStreams: streamsPerConnectionMax,
        initialWindowSize: 1 << 20,
        maxHeaderListSize: headersBytesMax,
      },
    },
    (req, res) => {
      if (requestTimeoutMs > 0 && !req.complete) boundArrival(req, requestTimeoutMs)
      handler(req, res)
    },
  )
  h2.on('session', session => {
    sessions.add(session)
    session.once('close', () => sessions.delete(session))
    session.setLocalWindowSize(4 << 20)
    session.setTimeout(idleMsMax, () => session.close())
    if (isClosing) session.close()
  })
  h2.on('sessionError', error => log.debug({ err: error }, 'http2 session failed'))

  function handOver(socket: net.Socket, isHttp2: boolean) {
    // An HTTP/1.1 client may half-close after its request and still wants the answer; an HTTP/2 client may not.
    if (isHttp2) socket.allowHalfOpen = false
    const server: net.Server = isHttp2 ? h2 : h1
    server.emit('connection', socket)
  }

  function accept(socket: net.Socket) {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    // Resets happen at any time; whoever reads the socket learns of it by 'close'.
    socket.on('error', () => {})
  }

  const options = { allowHalfOpen: true, noDelay: true }
  const plain = net.createServer(options, socket => {
    accept(socket)
    undecided.add(socket)
    sniff(socket, headersTimeoutMs, isHttp2 => {
      undecided.delete(socket)
      if (isHttp2 !== null) handOver(socket, isHttp2)
    })
  })
  const secure = tls.createServer(
    {
      ...options,
      ALPNProtocols: ['h2', 'http/1.1'],
      minVersion: 'TLSv1.3',
      handshakeTimeout: headersTimeoutMs,
      requestCert: demandsClient,
      rejectUnauthorized: demandsClient,
    },
    socket => {
      shaking.delete(endOf(socket))
      const peer = source === undefined ? undefined : socket.getPeerX509Certificate()
      if (source !== undefined && (peer === undefined || !source.isPeer(peer))) {
        log.debug({ subjectAltName: peer?.subjectAltName }, 'TLS client refused: not one of ours')
        socket.destroy()
        return
      }
      accept(socket)
      handOver(socket, socket.alpnProtocol === 'h2')
    },
  )
  // Connections that still shake hands, by the client's end: one that hung up in the middle is not heard of until
  // `handshakeTimeout`, and closing does not wait for it.
  secure.on('connection', (socket: net.Socket) => {
    const end = endOf(socket)
    shaking.set(end, socket)
    socket.once('close', () => {
      if (shaking.get(end) === socket) shaking.delete(end)
    })
  })
  secure.on('tlsClientError', error => log.debug({ err: error }, 'TLS handshake failed'))

  const server = certificates === undefined ? plain : secure
  server.maxConnections = connectionsMax
  warnOnDrop(server, connectionsMax, log)

  async function reloadTls() {
    if (certificates === undefined) return
    const pem = source === undefined && 'cert' in certificates ? await readPem(certificates) : await source?.load()
    // What is not said again here would be Node's default again, TLS 1.2 included.
    secure.setSecureContext({ ...pem, minVersion: 'TLSv1.3' })
  }

  return {
    reloadTls,
    async listen(host, port, o) {
      await reloadTls()
      try {
        server.listen({ host, port })
        await once(server, 'listening')
      } catch (error) {
        throw await explainListenError(error, { host, port, ...o })
      }
      server.on('error', error => log.error({ err: error }, 'accepting connections failed'))
      const address = server.address()
      if (address === null || typeof address === 'string') throw new Error('BUG: a TCP server has a TCP address')
      const shown = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '[::1]' : host.includes(':') ? `[${host}]` : host
      return `${certificates === undefined ? 'http' : 'https'}://${shown}:${address.port}`
    },
    async close(drainMs) {
      isClosing = true
      const closed = new Promise<void>(resolve => {
        server.close(() => resolve())
      })
      for (const socket of [...undecided, ...shaking.values()]) socket.destroy()
      h1.close()
      for (const session of sessions) session.close()
      const deadline = setTimeout(() => {
        if (sockets.size > 0) log.warn({ connections: sockets.size, drainMs }, 'connections cut at the drain deadline')
        for (const session of sessions) session.destroy()
        for (const socket of sockets) socket.destroy()
      }, drainMs)
      await closed
      clearTimeout(deadline)
    },
  }
}

function endOf({ remoteAddress, remotePort }: net.Socket): string {
  return `${remoteAddress} ${remotePort}`
}

const http2Preface = Buffer.from('PRI')

/** Calls back once: true for HTTP/2, false for HTTP/1.1, null when the client left or said nothing in time. */
function sniff(socket: net.Socket, timeoutMs: number, decided: (isHttp2: boolean | null) => void) {
  let seen: Buffer = Buffer.alloc(0)
  const timer = setTimeout(() => socket.destroy(), timeoutMs)
  const settle = (isHttp2: boolean | null) => {
    clearTimeout(timer)
    socket.off('readable', read)
    socket.off('end', leave)
    socket.off('close', leave)
    if (isHttp2 === null) socket.destroy()
    else socket.unshift(seen)
    decided(isHttp2)
  }
  const leave = () => settle(null)
  const read = () => {
    const chunk: Buffer | null = socket.read()
    if (chunk === null) return
    seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk])
    const start = seen.subarray(0, http2Preface.length)
    if (!http2Preface.subarray(0, start.length).equals(start)) settle(false)
    else if (start.length === http2Preface.length) settle(true)
  }
  socket.on('readable', read)
  socket.on('end', leave)
  socket.on('close', leave)
}

/** node:http bounds a request's arrival itself; node:http2 does not. */
function boundArrival(req: http2.Http2ServerRequest, timeoutMs: number) {
  const timer = setTimeout(() => {
    if (!req.complete) req.stream.close(http2.constants.NGHTTP2_CANCEL)
  }, timeoutMs)
  req.once('end', () => clearTimeout(timer))
  req.stream.once('close', () => clearTimeout(timer))
}

function warnOnDrop(server: net.Server, connectionsMax: number, log: Logger) {
  let warnedAt = Number.NEGATIVE_INFINITY
  server.on('drop', () => {
    if (performance.now() - warnedAt < 60_000) return
    warnedAt = performance.now()
    log.warn({ connectionsMax }, 'connection refused: too many are open')
  })
}

async function readPem(files: TlsFiles) {
  const read = async (what: string, path: string) => {
    try {
      return await readFile(path)
    } catch (cause) {
      throw new Error(`TLS ${what} file ${path} cannot be read. Check the path and its permissions.`, { cause })
    }
  }
  const [cert, key, ca] = await Promise.all([
    read('certificate', files.cert),
    read('key', files.key),
    files.ca === undefined ? undefined : read('CA', files.ca),
  ])
  return ca === undefined ? { cert, key } : { cert, key, ca }
}
