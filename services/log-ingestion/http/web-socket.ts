// WebSocket on the paths that offer it. The upgrade passes through the routes like any request, so keys, limits and
// refusals are the same; only a route that accepts it turns the connection over.

import { type IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import { type WebSocket, WebSocketServer } from 'ws'

const paths = new Set(['/api/v1/logs/tail', '/loki/api/v1/tail'])

/** Readers of tails have nothing to say. */
const messageBytesMax = 4 * 1024
const pingEveryMs = 30_000

/** Other upgrades, such as the h2c that some clients offer with every request, are requests like any other. */
export function isTailUpgrade(request: IncomingMessage): boolean {
  const path = (request.url ?? '').split('?', 1)[0] ?? ''
  return paths.has(path.replace(/(?<=.)\/$/, '')) && request.headers.upgrade?.toLowerCase() === 'websocket'
}

const upgrades = new WeakMap<IncomingMessage, { socket: Duplex; head: Buffer; response: ServerResponse }>()
const server = new WebSocketServer({ noServer: true, maxPayload: messageBytesMax, perMessageDeflate: false })

export function routeUpgrades(app: FastifyInstance): void {
  app.server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    const response = new ServerResponse(request)
    response.shouldKeepAlive = false
    socket.on('error', () => socket.destroy())
    // The type asks for more than assignSocket uses of a connection.
    response.assignSocket(socket as Parameters<ServerResponse['assignSocket']>[0])
    response.once('finish', () => {
      if (upgrades.has(request)) socket.end()
    })
    upgrades.set(request, { socket, head, response })
    app.routing(request, response)
  })
}

export function wantsWebSocket(request: IncomingMessage): boolean {
  return upgrades.has(request)
}

/** Undefined: the handshake failed, and the client was told. */
export async function openWebSocket(request: IncomingMessage): Promise<WebSocket | undefined> {
  const upgrade = upgrades.get(request)
  if (!upgrade) throw new Error('BUG: this request asked for no WebSocket')
  upgrades.delete(request)
  const { socket, head, response } = upgrade
  response.detachSocket(socket as Parameters<ServerResponse['detachSocket']>[0])
  return await new Promise(resolve => {
    const gone = () => resolve(undefined)
    socket.once('close', gone)
    server.handleUpgrade(request, socket, head, opened => {
      socket.off('close', gone)
      const ping = setInterval(() => opened.ping(), pingEveryMs)
      ping.unref()
      opened.once('close', () => clearInterval(ping))
      opened.on('error', () => opened.terminate())
      resolve(opened)
    })
  })
}
