// A VictoriaMetrics import endpoint for tests: a real server that keeps what it takes and misbehaves as told.

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { gunzipSync } from 'node:zlib'

export interface Received {
  headers: IncomingMessage['headers']
  body: string
}

export interface Endpoint {
  url: string
  /** Requests that were answered 204. */
  taken: Received[]
  /** All requests, in order. */
  all: Received[]
  /** Value by series and stamp; throws when one stamp came with two values. */
  samples(): Map<string, number>
  /** How many samples came more than once. */
  repeated(): number
  close(): Promise<void>
}

/** Answers a request itself and says so by returning true; a request it leaves alone is taken. `n` counts from 0. */
export type Script = (received: Received, res: ServerResponse, n: number) => boolean | undefined

export async function startEndpoint(script: Script = () => false, port = 0): Promise<Endpoint> {
  const taken: Received[] = []
  const all: Received[] = []
  const server = createServer((req, res) => {
    const chunks: Buffer[] = []
    req.on('data', (chunk: Buffer) => chunks.push(chunk))
    req.on('error', () => {})
    req.on('end', () => {
      if (req.method !== 'POST') {
        // The clock check; a minute behind, so that a test can tell it was looked at.
        res.writeHead(404, { date: new Date(Date.now() - 60_000).toUTCString() }).end()
        return
      }
      const received = { headers: req.headers, body: gunzipSync(Buffer.concat(chunks)).toString() }
      all.push(received)
      if (script(received, res, all.length - 1)) return
      taken.push(received)
      res.writeHead(204).end()
    })
  })
  await new Promise<void>(resolve => server.listen(port, '127.0.0.1', resolve))
  const address = server.address()
  const bound = typeof address === 'object' && address ? address.port : 0
  const each = (visit: (key: string, value: number) => void) => {
    for (const { body } of taken)
      for (const line of body.trim().split('\n')) {
        const { metric, values, timestamps } = JSON.parse(line) as {
          metric: unknown
          values: number[]
          timestamps: number[]
        }
        for (const [i, stamp] of timestamps.entries())
          visit(`${JSON.stringify(metric)}@${stamp}`, values[i] ?? Number.NaN)
      }
  }
  const samples = () => {
    const found = new Map<string, number>()
    each((key, value) => {
      if (found.has(key) && found.get(key) !== value)
        throw new Error(`${key} came as ${found.get(key)} and as ${value}`)
      found.set(key, value)
    })
    return found
  }
  return {
    url: `http://127.0.0.1:${bound}/api/v1/import`,
    taken,
    all,
    samples,
    repeated() {
      let count = 0
      each(() => count++)
      return count - samples().size
    },
    async close() {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    },
  }
}
