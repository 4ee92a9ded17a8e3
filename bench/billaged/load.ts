import http2 from 'node:http2'
import net from 'node:net'

// Connections that send the next request when the last is answered; closed loops, or a given rate.

export interface Job {
  vm: number
  batch: number
  samples: number
  request: Buffer
}

export interface Outcome {
  acknowledged: Job[]
  latenciesMs: number[]
  elapsedS: number
  /** Answers that were no success, by status, and broken connections. */
  refused: Map<string, number>
}

export interface LoadOptions {
  address: { host: string; port: number }
  connections: number
  protocol: 'h1' | 'grpc'
  /** Jobs are taken in turn until there are none, or the time is over. */
  jobs: readonly Job[]
  seconds: number
  /** Requests a second over all connections; closed loops when absent. */
  perSecond?: number
  /** Sends what was not answered again, after a moment. For runs in which the service is killed. */
  isRetrying?: boolean
}

export async function runLoad(o: LoadOptions): Promise<Outcome> {
  const outcome: Outcome = { acknowledged: [], latenciesMs: [], elapsedS: 0, refused: new Map() }
  let next = 0
  let turn = 0
  const startedMs = performance.now()
  const endMs = startedMs + o.seconds * 1_000
  const open = () => (o.protocol === 'h1' ? openH1(o.address) : openGrpc(o.address))
  const worker = async () => {
    let connection = await open()
    while (performance.now() < endMs) {
      const job = o.jobs[next++]
      if (job === undefined) break
      if (o.perSecond !== undefined) {
        const dueMs = startedMs + (turn++ / o.perSecond) * 1_000
        const waitMs = dueMs - performance.now()
        if (waitMs > 0) await new Promise(resolve => setTimeout(resolve, waitMs))
      }
      for (;;) {
        const sentMs = performance.now()
        const status = await connection.send(job.request).catch(() => 'broken')
        if (status === '200' || status === '204') {
          outcome.latenciesMs.push(performance.now() - sentMs)
          outcome.acknowledged.push(job)
          break
        }
        outcome.refused.set(status, (outcome.refused.get(status) ?? 0) + 1)
        if (o.isRetrying !== true) break
        connection.close()
        await new Promise(resolve => setTimeout(resolve, 50))
        connection = await open().catch(() => dead)
      }
    }
    connection.close()
  }
  await Promise.all(Array.from({ length: o.connections }, worker))
  outcome.elapsedS = (performance.now() - startedMs) / 1_000
  return outcome
}

interface Connection {
  /** The status, as text. */
  send(request: Buffer): Promise<string>
  close(): void
}

const dead: Connection = { send: () => Promise.reject(new Error('not connected')), close() {} }

function openH1({ host, port }: LoadOptions['address']): Promise<Connection> {
  return new Promise((opened, failed) => {
    const socket = net.connect({ host, port, noDelay: true })
    let pending: { resolve(status: string): void; reject(error: Error): void } | null = null
    let seen = ''
    let closed: Error | null = null
    const fail = (error: Error) => {
      closed = error
      pending?.reject(error)
      pending = null
      failed(error)
    }
    socket.on('error', fail)
    socket.on('close', () => fail(new Error('closed')))
    socket.on('data', chunk => {
      seen += chunk.toString('latin1')
      const end = seen.indexOf('\r\n\r\n')
      if (end < 0) return
      const length = Number(/content-length: (\d+)/i.exec(seen)?.[1] ?? 0)
      if (seen.length < end + 4 + length) return
      const status = seen.slice(9, 12)
      seen = ''
      pending?.resolve(status)
      pending = null
    })
    socket.once('connect', () =>
      opened({
        send: request =>
          new Promise((resolve, reject) => {
            // Nobody would tell of a connection that broke while nothing was asked on it.
            if (closed !== null) return reject(closed)
            pending = { resolve, reject }
            socket.write(request)
          }),
        close: () => socket.destroy(),
      }),
    )
  })
}

function openGrpc({ host, port }: LoadOptions['address']): Promise<Connection> {
  return new Promise((opened, failed) => {
    const session = http2.connect(`http://${host}:${port}`)
    session.once('error', failed)
    session.once('connect', () =>
      opened({
        send: frame =>
          new Promise((resolve, reject) => {
            const stream = session.request({
              ':method': 'POST',
              ':path': '/billing.v1.BillingService/SendMetricsBatch',
              'content-type': 'application/grpc',
              te: 'trailers',
            })
            let status = 'none'
            stream.on('trailers', trailers => {
              status = trailers['grpc-status'] === '0' ? '200' : `grpc ${trailers['grpc-status']}`
            })
            stream.on('error', reject)
            stream.on('close', () => resolve(status))
            stream.resume()
            stream.end(frame)
          }),
        close: () => session.destroy(),
      }),
    )
  })
}
