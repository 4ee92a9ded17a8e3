// The listeners for syslog: TCP or TLS, and UDP. There is no answer to give, so TCP senders feel pressure as a connection
// that is not read, and what UDP loses is counted.
//
//   connection: reading ──▶ storing   frames are complete; the socket is paused
//               storing ──▶ reading   they are on disk
//               storing ──▶ waiting   the journal is full, or the key is not known yet: again in a second
//               waiting ──▶ storing
//               any     ──▶ closed    the sender left, or we told it that we leave and it had its moment to finish; what
//                                     was read and not stored by then was promised to nobody

import type { Buffer } from 'node:buffer'
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { type AddressInfo, type BlockList, createServer, isIPv6, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { Counter, type Registry } from 'prom-client'
import type { Logger } from '#platform/telemetry'
import { sleep } from '#platform/time'
import type { Caller } from '../access/directory.ts'
import type { Intake } from '../http/intake.ts'
import { syslog } from '../protocols/syslog.ts'
import { type Frame, FrameReader, packFrames } from './frames.ts'

export interface HostPort {
  host: string
  port: number
}

export interface SyslogOptions {
  tcp: HostPort | undefined
  udp: HostPort | undefined
  /** Paths of PEM files; with them the TCP listener speaks TLS. */
  tls: { cert: string; key: string } | undefined
  /** Who may send. */
  allow: BlockList
  zone: string
  /** Whose input it is; undefined while that is not known. */
  caller: () => Caller | undefined
  intake: Intake
  messageBytesMax: number
  log: Logger
  registry: Registry
}

export interface SyslogListeners {
  /** Where they listen; port 0 has become one by now. */
  readonly tcp: HostPort | undefined
  readonly udp: HostPort | undefined
  close(): Promise<void>
}

const connectionsMax = 1_000
const retryMs = 1_000
/** At a stop: senders that are told and still send are listened to so long, those that fall silent only so long. */
const leaveTimeoutMs = 3_000
const silenceMs = 300
export const udpQueueBytesMax = 8 * 1024 * 1024
const udpBatchMax = 1_000
/** What headers and structured data may add to a message. */
const headerBytesMax = 64 * 1024

export async function startSyslog(o: SyslogOptions): Promise<SyslogListeners> {
  const messages = new Counter({
    name: 'log_ingestion_syslog_messages_total',
    help: 'Syslog messages by what became of them.',
    labelNames: ['transport', 'result'],
    registers: [o.registry],
  })
  const tcp = o.tcp && (await listenTcp(o, o.tcp, messages))
  try {
    const udp = o.udp && (await listenUdp(o, o.udp, messages))
    return {
      tcp: tcp?.address,
      udp: udp?.address,
      async close() {
        await Promise.all([tcp?.close(), udp?.close()])
      },
    }
  } catch (error) {
    await tcp?.close()
    throw error
  }
}

interface Listener {
  address: HostPort
  close(): Promise<void>
}

async function listenTcp(o: SyslogOptions, at: HostPort, messages: Counter): Promise<Listener> {
  const transport = o.tls ? 'tls' : 'tcp'
  const serving = new Map<Socket, Promise<void>>()
  const stop: Stop = { isLeaving: false, patience: new AbortController() }
  const accept = (socket: Socket) => {
    socket.on('error', () => {})
    const served = serve(o, socket, transport, messages, stop)
      .catch(error => {
        if (!stop.patience.signal.aborted) o.log.error({ err: error }, 'BUG: a syslog connection failed')
        socket.destroy()
      })
      .finally(() => serving.delete(socket))
    serving.set(socket, served)
  }
  const refuse = (socket: Socket): boolean => {
    const isAllowed = allows(o.allow, socket.remoteAddress)
    if (!isAllowed) {
      messages.labels(transport, 'refused').inc()
      socket.destroy()
    }
    return !isAllowed
  }
  let server: Server
  if (o.tls) {
    const [cert, key] = await Promise.all([readPem(o.tls.cert), readPem(o.tls.key)])
    const secure = createTlsServer({ cert, key, minVersion: 'TLSv1.2', handshakeTimeout: 10_000 }, accept)
    secure.on('tlsClientError', error => o.log.debug({ err: error }, 'a syslog TLS handshake failed'))
    secure.prependListener('connection', (socket: Socket) => void refuse(socket))
    server = secure
  } else server = createServer(socket => void (refuse(socket) || accept(socket)))
  server.maxConnections = connectionsMax
  const address = await bound('SYSLOG_TCP', at, server, () => server.listen(at))
  o.log.info({ ...address, transport }, 'syslog listens')
  return {
    address,
    async close() {
      stop.isLeaving = true
      const closed = new Promise<void>(resolve => server.close(() => resolve()))
      // There is no acknowledgement in syslog: what a sender wrote before it learned that we leave is lost unless it is read.
      for (const socket of serving.keys()) socket.end()
      await fallenSilent(serving)
      stop.patience.abort()
      for (const socket of serving.keys()) socket.destroy()
      await Promise.all(serving.values())
      await closed
    },
  }
}

interface Stop {
  isLeaving: boolean
  /** Aborted when what still waits for the journal is given up. */
  patience: AbortController
}

/** Resolves when all senders are gone, or none of them sends any more, or it took too long. */
async function fallenSilent(serving: ReadonlyMap<Socket, unknown>): Promise<void> {
  const everyMs = 20
  let heard = -1
  let silentMs = 0
  for (let waitedMs = 0; serving.size > 0 && silentMs < silenceMs && waitedMs < leaveTimeoutMs; waitedMs += everyMs) {
    await sleep(everyMs)
    let bytes = 0
    for (const socket of serving.keys()) bytes += socket.bytesRead
    silentMs = bytes === heard ? silentMs + everyMs : 0
    heard = bytes
  }
}

async function serve(
  o: SyslogOptions,
  socket: Socket,
  transport: string,
  messages: Counter,
  stop: Stop,
): Promise<void> {
  const peer = plain(socket.remoteAddress ?? '')
  const reader = new FrameReader(o.messageBytesMax + headerBytesMax)
  const store = async (frames: Frame[]) => {
    if (frames.length === 0) return
    for (;;) {
      const refused = await storeFrames(o, peer, frames)
      if (refused === null) break
      if (refused !== 'later') {
        messages.labels(transport, 'rejected').inc(frames.length)
        return
      }
      await sleep(retryMs, stop.patience.signal)
    }
    messages.labels(transport, 'accepted').inc(frames.length)
  }
  // Awaiting inside the loop is the pressure: nothing is read meanwhile.
  try {
    for await (const chunk of socket) await store(reader.push(chunk as Buffer))
  } catch (error) {
    if (!(error instanceof Error && 'code' in error)) throw error
    // The connection broke: what came before counts.
  }
  // A message cut because we leave is sent again, whole, by whoever sees its connection end.
  if (!stop.isLeaving) await store(reader.end())
}

/** Null when they are on disk; `later` when they may be after a while. */
async function storeFrames(
  o: SyslogOptions,
  peer: string,
  frames: readonly Frame[],
): Promise<'later' | 'never' | null> {
  const caller = o.caller()
  if (!caller) return 'later'
  const fault = await o.intake.direct(syslog(peer, o.zone), caller, packFrames(frames), peer)
  if (fault === null) return null
  return fault.status === 429 ? 'later' : 'never'
}

async function listenUdp(o: SyslogOptions, at: HostPort, messages: Counter): Promise<Listener> {
  const socket: UdpSocket = createSocket({ type: isIPv6(at.host) ? 'udp6' : 'udp4', recvBufferSize: 4 * 1024 * 1024 })
  const queue: { peer: string; bytes: Buffer }[] = []
  let queueBytes = 0
  let storing: Promise<void> | undefined

  const drain = async () => {
    while (queue.length > 0) {
      const peer = queue[0]?.peer ?? ''
      const other = queue.findIndex((message, i) => message.peer !== peer || i === udpBatchMax)
      const taken = queue.splice(0, other < 0 ? queue.length : other)
      for (const { bytes } of taken) queueBytes -= bytes.length
      const frames = taken.map(({ bytes }) => ({ bytes, lostBytes: 0 }))
      const refused = await storeFrames(o, peer, frames)
      messages.labels('udp', refused === null ? 'accepted' : 'dropped').inc(frames.length)
    }
  }
  socket.on('message', (bytes, { address }) => {
    if (!allows(o.allow, address)) return messages.labels('udp', 'refused').inc()
    if (queueBytes + bytes.length > udpQueueBytesMax) return messages.labels('udp', 'dropped').inc()
    queue.push({ peer: plain(address), bytes })
    queueBytes += bytes.length
    storing ??= drain()
      .catch(error => o.log.error({ err: error }, 'BUG: syslog by UDP failed'))
      .finally(() => {
        storing = undefined
      })
  })
  const address = await bound('SYSLOG_UDP', at, socket, () => socket.bind(at.port, at.host))
  socket.on('error', error => o.log.error({ err: error }, 'syslog by UDP failed'))
  o.log.info({ ...address, transport: 'udp' }, 'syslog listens')
  return {
    address,
    async close() {
      await new Promise<void>(resolve => socket.close(() => resolve()))
      await storing
    },
  }
}

async function bound(
  setting: string,
  { host, port }: HostPort,
  server: Server | UdpSocket,
  bind: () => unknown,
): Promise<HostPort> {
  try {
    bind()
    await once(server, 'listening')
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new Error(`LOG_INGESTION_${setting}: cannot listen on ${host}:${port}: ${why}. Choose another address.`, {
      cause,
    })
  }
  const address = server.address() as AddressInfo
  return { host: address.address, port: address.port }
}

async function readPem(path: string): Promise<Buffer> {
  return await readFile(path).catch(cause => {
    throw new Error(`LOG_INGESTION_SYSLOG_TLS: ${path} cannot be read. Check the path and its permissions.`, { cause })
  })
}

function allows(allow: BlockList, address: string | undefined): boolean {
  const text = plain(address ?? '')
  return text !== '' && allow.check(text, isIPv6(text) ? 'ipv6' : 'ipv4')
}

function plain(address: string): string {
  return address.replace(/^::ffff:/, '')
}
