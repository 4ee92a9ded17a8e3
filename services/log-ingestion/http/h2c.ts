// HTTP/2 without TLS on the port of an HTTP/1.1 server: gRPC clients speak it from their first byte on.
//
// The first bytes of a connection tell: HTTP/2 begins with "PRI", which is no method of HTTP/1.1. From then on the
// connection belongs to one of the two servers. The HTTP/1.1 server stays the one that listens, upgrades and closes.

import type { Server } from 'node:http'
import http2, { type Http2ServerRequest, type Http2ServerResponse } from 'node:http2'
import type { Socket } from 'node:net'

/** Streams one client may have open: enough for any exporter, and bounds what one connection can hold. */
const streamsPerConnectionMax = 100
const idleMsMax = 120_000
const preface = Buffer.from('PRI')

export interface Http2Options {
  handler: (request: Http2ServerRequest, response: Http2ServerResponse) => void
  headersBytesMax: number
  /** How long a client may take to say what it speaks, and a request to arrive whole. */
  requestTimeoutMs: number
  log: { debug(fields: object, message: string): void }
}

/** The function lets requests in work finish, refuses new ones, and ends what is left after `drainMs`. */
export function acceptHttp2(server: Server, o: Http2Options): (drainMs: number) => Promise<void> {
  const sessions = new Set<http2.ServerHttp2Session>()
  const h2 = http2.createServer(
    {
      settings: { maxConcurrentStreams: streamsPerConnectionMax, maxHeaderListSize: o.headersBytesMax },
    },
    (request, response) => {
      boundArrival(request, o.requestTimeoutMs)
      o.handler(request, response)
    },
  )
  h2.on('session', session => {
    sessions.add(session)
    session.once('close', () => sessions.delete(session))
    session.setTimeout(idleMsMax, () => session.close())
  })
  h2.on('sessionError', error => o.log.debug({ err: error }, 'an http2 session failed'))

  const http1 = server.listeners('connection')
  server.removeAllListeners('connection')
  server.on('connection', (socket: Socket) =>
    sniff(socket, o.requestTimeoutMs, isHttp2 => {
      if (isHttp2) {
        // An HTTP/1.1 client may half-close after its request; an HTTP/2 client may not.
        socket.allowHalfOpen = false
        h2.emit('connection', socket)
      } else for (const listener of http1) Reflect.apply(listener, server, [socket])
    }),
  )
  return async drainMs => {
    const closed = [...sessions].map(session => new Promise<void>(resolve => session.close(resolve)))
    const cut = setTimeout(() => {
      for (const session of sessions) session.destroy()
    }, drainMs)
    await Promise.all(closed)
    clearTimeout(cut)
  }
}

function sniff(socket: Socket, timeoutMs: number, decided: (isHttp2: boolean) => void): void {
  let seen: Buffer = Buffer.alloc(0)
  const timer = setTimeout(() => socket.destroy(), timeoutMs)
  const settle = () => {
    clearTimeout(timer)
    socket.off('readable', read)
    socket.off('end', leave)
    socket.off('close', leave)
    socket.off('error', leave)
  }
  const leave = () => {
    settle()
    socket.destroy()
  }
  const decide = (isHttp2: boolean) => {
    settle()
    socket.unshift(seen)
    decided(isHttp2)
  }
  const read = () => {
    const chunk: Buffer | null = socket.read()
    if (chunk === null) return
    seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk])
    const start = seen.subarray(0, preface.length)
    if (!preface.subarray(0, start.length).equals(start)) decide(false)
    else if (start.length === preface.length) decide(true)
  }
  socket.on('readable', read)
  socket.on('end', leave)
  socket.on('close', leave)
  socket.on('error', leave)
}

/** node:http bounds a request's arrival itself; node:http2 does not. */
function boundArrival(request: Http2ServerRequest, timeoutMs: number): void {
  if (request.complete) return
  const timer = setTimeout(() => {
    if (!request.complete) request.stream.close(http2.constants.NGHTTP2_CANCEL)
  }, timeoutMs)
  request.once('end', () => clearTimeout(timer))
  request.stream.once('close', () => clearTimeout(timer))
}
