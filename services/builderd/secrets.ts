// Secrets of requests at rest: AES-256-GCM under a key of this installation, deleted when the build ends.

import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import type { Credentials } from './registry/auth.ts'

const nonceBytes = 12
const tagBytes = 16

/** @param buildId goes into the seal, so that a row cannot be moved to another build */
export function seal(key: Buffer, buildId: string, secrets: Credentials): Buffer {
  const nonce = randomBytes(nonceBytes)
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(buildId))
  const body = Buffer.concat([cipher.update(JSON.stringify(secrets), 'utf8'), cipher.final()])
  return Buffer.concat([nonce, cipher.getAuthTag(), body])
}

/** @throws when the key is another one, or a byte is changed */
export function unseal(key: Buffer, buildId: string, sealed: Buffer): Credentials {
  const nonce = sealed.subarray(0, nonceBytes)
  const tag = sealed.subarray(nonceBytes, nonceBytes + tagBytes)
  const decipher = createDecipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(buildId)).setAuthTag(tag)
  const text = Buffer.concat([decipher.update(sealed.subarray(nonceBytes + tagBytes)), decipher.final()]).toString(
    'utf8',
  )
  const { username = '', password = '', token = '' }: Partial<Credentials> = JSON.parse(text)
  return { username, password, token }
}

/** Known values out of a text, before it becomes a log line. */
export function scrub(text: string, secrets: Credentials | undefined): string {
  let clean = text.replace(/(\/\/)[^/@\s]+@/g, '$1***@')
  for (const value of [secrets?.password, secrets?.token])
    if (value && value.length >= 4) clean = clean.replaceAll(value, '***')
  return clean
}
