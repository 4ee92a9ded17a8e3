import { execFileSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import * as grpc from '@grpc/grpc-js'
import { temporaryFolder } from './kit.ts'

/** An authority of a trust domain that signs X.509-SVIDs. */
export function createAuthority(t: TestContext, trustDomain: string) {
  const dir = join(temporaryFolder(t), trustDomain)
  mkdirSync(dir)
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: dir, stdio: 'pipe' })
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', `/O=${trustDomain}`, '-days', '2')
  let serial = 0
  const read = (name: string) => readFileSync(join(dir, name), 'utf8')
  return {
    bundle: read('ca.pem'),
    /** `uri`: another name than the SPIFFE id of the path. */
    issue(path: string, uri = `spiffe://${trustDomain}${path}`) {
      const name = `svid-${++serial}`
      const ca = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-days', '1', '-addext', `subjectAltName=URI:${uri}`]
      openssl('req', '-x509', ...key, ...ca, '-keyout', `${name}.key`, '-out', `${name}.pem`, '-subj', '/O=SPIRE')
      return { spiffeId: uri, cert: read(`${name}.pem`), key: read(`${name}.key`), bundle: read('ca.pem') }
    },
  }
}

export type Issued = ReturnType<ReturnType<typeof createAuthority>['issue']>

/** A SPIFFE Workload API by the official gRPC server: it sends what it is told to everybody who asked. */
export async function startWorkloadApi(t: TestContext) {
  const socketPath = join(temporaryFolder(t), 'agent.sock')
  const streams = new Set<grpc.ServerWritableStream<Buffer, Buffer>>()
  let current: Issued | undefined
  let asked = 0
  const server = new grpc.Server()
  const plain = (value: Buffer) => value
  const method = {
    path: '/SpiffeWorkloadAPI/FetchX509SVID',
    requestStream: false,
    responseStream: true,
    requestSerialize: plain,
    requestDeserialize: plain,
    responseSerialize: plain,
    responseDeserialize: plain,
  }
  server.addService(
    { fetchX509SVID: method },
    {
      fetchX509SVID(call: grpc.ServerWritableStream<Buffer, Buffer>) {
        asked++
        if (call.metadata.get('workload.spiffe.io')[0] !== 'true')
          return void call.emit('error', { code: grpc.status.INVALID_ARGUMENT, details: 'security header missing' })
        if (current === undefined)
          return void call.emit('error', { code: grpc.status.PERMISSION_DENIED, details: 'no identity issued' })
        streams.add(call)
        call.on('close', () => streams.delete(call))
        call.on('cancelled', () => streams.delete(call))
        call.write(encode(current))
      },
    },
  )
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix:${socketPath}`, grpc.ServerCredentials.createInsecure(), error =>
      error === null ? resolve() : reject(error),
    )
  })
  t.after(() => server.forceShutdown())
  return {
    socketPath,
    asked: () => asked,
    give(svid: Issued) {
      current = svid
      for (const stream of streams) stream.write(encode(svid))
    },
    /** Ends every stream, as a restart of the agent does. */
    hangUp() {
      for (const stream of streams) stream.end()
    },
  }
}

function encode({ spiffeId, cert, key, bundle }: Issued): Buffer {
  const svid = new BinaryWriter()
  svid.tag(1, WireType.LengthDelimited).string(spiffeId)
  svid.tag(2, WireType.LengthDelimited).bytes(derOf(cert))
  svid.tag(3, WireType.LengthDelimited).bytes(derOf(key))
  svid.tag(4, WireType.LengthDelimited).bytes(derOf(bundle))
  svid.tag(5, WireType.LengthDelimited).string('a hint that nobody needs')
  const response = new BinaryWriter()
  // A field of the future, a revocation list, then the identity.
  response.tag(9, WireType.Varint).uint32(7)
  response.tag(2, WireType.LengthDelimited).bytes(new Uint8Array([1, 2, 3]))
  response.tag(1, WireType.LengthDelimited).bytes(svid.finish())
  return Buffer.from(response.finish())
}

/** All blocks of a PEM text, one behind the other. */
function derOf(pem: string): Uint8Array {
  const blocks = pem.match(/-----BEGIN [^-]+-----[^-]+-----END [^-]+-----/g) ?? []
  return Buffer.concat(blocks.map(block => Buffer.from(block.replaceAll(/-----[^-]+-----|\s/g, ''), 'base64')))
}

export function serialOf(pem: string): string {
  return new X509Certificate(pem).serialNumber
}
