// A registry that behaves as scripted: real HTTP, real bytes, bad manners on request.

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'
import type { TestImage } from './image.ts'

export interface RudeRegistry {
  /** host:port */
  address: string
  /** `GET /v2/…` in order, with the Authorization and Range each carried. */
  requests: { path: string; authorization: string | undefined; range: string | undefined }[]
}

export type Manner = (request: IncomingMessage, response: ServerResponse, path: string) => boolean

/**
 * Serves `image` as every repository, under every tag. `manner` sees each request first and returns true when it has
 * answered; what it leaves alone is answered well, Range included.
 */
export async function startRudeRegistry(
  t: TestContext,
  image: TestImage,
  manner: Manner = () => false,
): Promise<RudeRegistry> {
  const registry: RudeRegistry = { address: '', requests: [] }
  const server = createServer((request, response) => {
    const path = request.url ?? ''
    registry.requests.push({ path, authorization: request.headers.authorization, range: request.headers.range })
    if (manner(request, response, path)) return
    serve(image, request, response, path)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  registry.address = `127.0.0.1:${(server.address() as AddressInfo).port}`
  return registry
}

function serve(image: TestImage, request: IncomingMessage, response: ServerResponse, path: string) {
  if (path.includes('/manifests/')) {
    response.writeHead(200, { 'content-type': 'application/vnd.oci.image.manifest.v1+json' })
    response.write(image.manifest)
    response.end()
    return
  }
  const blob = image.blobs.get(path.split('/').at(-1) ?? '')
  if (!blob) return void response.writeHead(404).end()
  const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
  if (from >= blob.length && from > 0) return void response.writeHead(416).end()
  const range = from > 0 ? { 'content-range': `bytes ${from}-${blob.length - 1}/${blob.length}` } : {}
  response.writeHead(from > 0 ? 206 : 200, { 'content-length': blob.length - from, ...range })
  response.write(blob.subarray(from))
  response.end()
}

/** Sends the first `bytes` of a blob, then cuts the connection. */
export function cutAfter(response: ServerResponse, blob: Buffer, bytes: number) {
  response.writeHead(200, { 'content-length': blob.length })
  response.write(blob.subarray(0, bytes), () => response.socket?.destroy())
}
