import http2 from 'node:http2'
import net from 'node:net'
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire'

// The client side of the SPIFFE Workload API, as far as a server needs it: one gRPC stream over the agent's socket, on
// which the agent sends this workload's X.509-SVID now and again before each one expires.

/** An identity and whom to trust, in PEM. */
export interface Svid {
  spiffeId: string
  trustDomain: string
  cert: string
  key: string
  /** Certificates of the trust domain's authorities. */
  bundle: string
}

/** Largest message we take: identities and bundles are some kilobytes. */
const messageBytesMax = 4 * 1024 * 1024
const path = '/SpiffeWorkloadAPI/FetchX509SVID'

/** Follows one stream until it ends or fails; rejects with what the agent or the socket said. */
export async function followSvid(socketPath: string, onSvid: (svid: Svid) => void, signal: AbortSignal): Promise<void> {
  const session = http2.connect('http://localhost', { createConnection: () => net.connect(plainPath(socketPath)) })
  const stop = () => session.destroy()
  signal.addEventListener('abort', stop)
  try {
    await new Promise<void>((resolve, reject) => {
      session.on('error', reject)
      session.on('close', resolve)
      const stream = session.request({
        ':method': 'POST',
        ':path': path,
        'content-type': 'application/grpc',
        te: 'trailers',
        // Proof that this is no browser that was tricked into asking.
        'workload.spiffe.io': 'true',
      })
      let pending = Buffer.alloc(0)
      stream.on('data', (chunk: Buffer) => {
        try {
          pending = takeMessages(Buffer.concat([pending, chunk]), message => onSvid(decodeResponse(message)))
        } catch (error) {
          reject(error)
          stop()
        }
      })
      const onStatus = (headers: http2.IncomingHttpHeaders) => {
        const status = headers['grpc-status']
        if (status === undefined || status === '0') return
        reject(new Error(refusal(Number(status), String(headers['grpc-message'] ?? ''))))
      }
      stream.on('response', onStatus)
      stream.on('trailers', onStatus)
      stream.on('error', reject)
      stream.on('close', () => session.close())
      // An empty message, uncompressed.
      stream.end(Buffer.alloc(5))
    })
  } finally {
    signal.removeEventListener('abort', stop)
    session.destroy()
  }
}

/** One identity, for a program that makes a few calls and ends. */
export async function fetchSvid(socketPath: string, timeoutMs: number): Promise<Svid> {
  const enough = new AbortController()
  const patience = setTimeout(() => enough.abort(), timeoutMs)
  let found: Svid | undefined
  try {
    const take = (svid: Svid) => {
      found ??= svid
      enough.abort()
    }
    await followSvid(socketPath, take, enough.signal)
  } catch (cause) {
    if (found === undefined) throw new Error(`no X.509-SVID from ${socketPath}: ${Object(cause).message}`, { cause })
  } finally {
    clearTimeout(patience)
  }
  if (found === undefined) throw new Error(`no X.509-SVID from ${socketPath} within ${timeoutMs / 1000} s`)
  return found
}

/** What a TLS client of the same trust domain needs; servers are known by their domain and not by their host. */
export function clientTls({ cert, key, bundle, trustDomain }: Svid) {
  return {
    cert,
    key,
    ca: bundle,
    checkServerIdentity(_host: string, peer: { subjectaltname?: string | undefined }): Error | undefined {
      const name = (peer.subjectaltname ?? '').replace(/^URI:/, '')
      if (trustDomainOf(name) === trustDomain) return undefined
      return new Error(
        `the server is ${name === '' ? 'without a SPIFFE id' : name}, not of the trust domain ${trustDomain}`,
      )
    },
  }
}

/** The path alone, also where it is written as a URL: `unix:///run/agent.sock`. */
export function plainPath(socketPath: string): string {
  return socketPath.replace(/^unix:(\/\/)?/, '')
}

function refusal(status: number, message: string): string {
  const text = decodeURIComponent(message)
  if (status === 7)
    return `the agent has no identity for this process${text === '' ? '' : ` (${text})`}: is it registered?`
  return `the agent answered gRPC status ${status}${text === '' ? '' : `: ${text}`}`
}

/** Hands out whole messages; returns the bytes of the one that is not whole yet. */
function takeMessages(bytes: Buffer, onMessage: (message: Buffer) => void): Buffer<ArrayBuffer> {
  let at = 0
  while (bytes.length - at >= 5) {
    const length = bytes.readUInt32BE(at + 1)
    if (bytes[at] !== 0) throw new Error('the agent sent a compressed message that nobody asked for')
    if (length > messageBytesMax)
      throw new Error(`the agent sent ${length} bytes; at most ${messageBytesMax} are taken`)
    if (bytes.length - at - 5 < length) break
    onMessage(bytes.subarray(at + 5, at + 5 + length))
    at += 5 + length
  }
  return Buffer.from(bytes.subarray(at))
}

/** X509SVIDResponse: the first identity is the one to use where a workload has several. */
function decodeResponse(message: Uint8Array): Svid {
  const reader = new BinaryReader(message)
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag()
    if (field === 1 && type === WireType.LengthDelimited) return decodeSvid(reader.bytes())
    reader.skip(type)
  }
  throw new Error('the agent sent no identity')
}

function decodeSvid(message: Uint8Array): Svid {
  const reader = new BinaryReader(message)
  const parts: { id?: string; chain?: Uint8Array; key?: Uint8Array; bundle?: Uint8Array } = {}
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag()
    if (type !== WireType.LengthDelimited) reader.skip(type)
    else if (field === 1) parts.id = reader.string()
    else if (field === 2) parts.chain = reader.bytes()
    else if (field === 3) parts.key = reader.bytes()
    else if (field === 4) parts.bundle = reader.bytes()
    else reader.skip(type)
  }
  const { id = '', chain, key, bundle } = parts
  const trustDomain = trustDomainOf(id)
  if (trustDomain === null || chain === undefined || key === undefined || bundle === undefined)
    throw new Error(`the agent sent an identity that is not whole: ${id === '' ? 'without a SPIFFE id' : id}`)
  return {
    spiffeId: id,
    trustDomain,
    cert: splitDer(chain)
      .map(der => pem('CERTIFICATE', der))
      .join(''),
    key: pem('PRIVATE KEY', key),
    bundle: splitDer(bundle)
      .map(der => pem('CERTIFICATE', der))
      .join(''),
  }
}

/** spiffe://example.org/billaged → example.org; null when it is no SPIFFE id. */
export function trustDomainOf(spiffeId: string): string | null {
  return /^spiffe:\/\/([a-z0-9._-]{1,255})(\/[A-Za-z0-9._/-]*)?$/.exec(spiffeId)?.[1] ?? null
}

/** Certificates in DER one behind the other, each with its own length. */
function splitDer(bytes: Uint8Array): Uint8Array[] {
  const parts: Uint8Array[] = []
  for (let at = 0; at < bytes.length; ) {
    const first = bytes[at + 1] ?? 0
    const lengthBytes = first < 0x80 ? 0 : first & 0x7f
    let length = lengthBytes === 0 ? first : 0
    for (let i = 0; i < lengthBytes; i++) length = length * 256 + (bytes[at + 2 + i] ?? 0)
    const end = at + 2 + lengthBytes + length
    if (bytes[at] !== 0x30 || lengthBytes > 4 || end > bytes.length)
      throw new Error('the agent sent a damaged certificate')
    parts.push(bytes.subarray(at, end))
    at = end
  }
  return parts
}

function pem(label: string, der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? []
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}
