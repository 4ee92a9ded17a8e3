// One connection to the endpoint, one request at a time on it.

import { readFileSync } from 'node:fs'
import { type ClientRequest, Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import type { Answer } from './answer.ts'

export interface ClientOptions {
  timeoutMs: number
  tokenFile: string | undefined
  token: string | undefined
}

const answerBytesMax = 64 * 1024

export function openClient(o: ClientOptions) {
  const agents = {
    'http:': new HttpAgent({ keepAlive: true, maxSockets: 1 }),
    'https:': new HttpsAgent({ keepAlive: true, maxSockets: 1 }),
  }
  let token = o.token ?? readToken(o.tokenFile)

  async function once(
    method: string,
    url: URL,
    headers: Readonly<Record<string, string>>,
    body: Buffer | undefined,
    signal: AbortSignal,
  ) {
    const { promise, resolve, reject } = Promise.withResolvers<
      Answer & { date: string | undefined; age: string | undefined }
    >()
    const isTls = url.protocol === 'https:'
    // Name look-up, connection, TLS, request and answer together.
    const limit = AbortSignal.any([signal, AbortSignal.timeout(o.timeoutMs)])
    const req: ClientRequest = (isTls ? httpsRequest : httpRequest)(
      url,
      { method, headers, agent: isTls ? agents['https:'] : agents['http:'], signal: limit },
      res => readAnswer(res).then(resolve, reject),
    )
    req.on('error', error =>
      reject(limit.aborted && !signal.aborted ? new Error(`no answer within ${o.timeoutMs} ms`) : error),
    )
    req.end(body)
    return promise
  }

  return {
    /** Follows one redirect that keeps method and origin. @throws Error on network trouble and timeout */
    async post(
      target: string,
      headers: Readonly<Record<string, string>>,
      body: Buffer,
      signal: AbortSignal,
    ): Promise<Answer> {
      const url = new URL(target)
      const all = {
        ...headers,
        'Content-Length': String(body.length),
        ...(token === undefined ? {} : { Authorization: `Bearer ${token}` }),
      }
      const answer = await once('POST', url, all, body, signal)
      if (answer.status !== 307 && answer.status !== 308) return answer
      const next = URL.parse(answer.location ?? '', url)
      return next?.origin === url.origin ? once('POST', next, all, body, signal) : answer
    },
    /** For the clock check. The token only goes to the endpoint's own origin. */
    async getDate(target: string, endpoint: string | undefined, signal: AbortSignal) {
      const url = new URL(target)
      const isOwn = endpoint !== undefined && new URL(endpoint).origin === url.origin
      const headers: Record<string, string> = isOwn && token !== undefined ? { Authorization: `Bearer ${token}` } : {}
      return once('GET', url, headers, undefined, signal)
    },
    /** True when the file holds another token than the one in use. */
    rereadToken(): boolean {
      if (o.tokenFile === undefined) return false
      const before = token
      try {
        token = readToken(o.tokenFile)
      } catch {
        return false
      }
      return token !== before
    },
    close(): void {
      agents['http:'].destroy()
      agents['https:'].destroy()
    },
  }
}

export type Client = ReturnType<typeof openClient>

async function readAnswer(res: IncomingMessage) {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of res) {
    if (!(chunk instanceof Buffer)) continue
    bytes += chunk.length
    if (bytes > answerBytesMax) {
      res.destroy()
      break
    }
    chunks.push(chunk)
  }
  const { headers } = res
  return {
    status: res.statusCode ?? 0,
    contentType: headers['content-type'] ?? '',
    retryAfter: headers['retry-after'],
    location: headers.location,
    date: headers.date,
    age: headers.age,
    body: Buffer.concat(chunks).toString('utf8'),
  }
}

function readToken(path: string | undefined): string | undefined {
  if (path === undefined) return undefined
  const text = readFileSync(path, 'utf8').trim()
  if (text === '') throw new Error(`the token file ${path} is empty`)
  return text
}
