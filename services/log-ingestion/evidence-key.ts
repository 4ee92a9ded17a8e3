// The key that evidence is signed with: Ed25519, from the platform's secret, so that all replicas sign alike and nothing
// has to be kept.

import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto'
import { deriveKey } from '#platform/tenancy/secret'

export interface EvidenceKey {
  /** SPKI, base64: what a verifier needs. */
  publicKey: string
  /** Base64. */
  sign(text: string): string
}

/** What stands before 32 bytes of seed in a PKCS#8 Ed25519 key (RFC 8410). */
const pkcs8Prefix = Buffer.from('302e020100300506032b657004220420', 'hex')

export function createEvidenceKey(secret: Buffer): EvidenceKey {
  const der = Buffer.concat([pkcs8Prefix, deriveKey(secret, 'log evidence')])
  const privateKey: KeyObject = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
  const publicKey = createPublicKey(privateKey).export({ format: 'der', type: 'spki' }).toString('base64')
  return { publicKey, sign: text => sign(null, Buffer.from(text), privateKey).toString('base64') }
}

export function isSignedBy(publicKey: string, text: string, signature: string): boolean {
  const key = createPublicKey({ key: Buffer.from(publicKey, 'base64'), format: 'der', type: 'spki' })
  return verify(null, Buffer.from(text), key, Buffer.from(signature, 'base64'))
}
