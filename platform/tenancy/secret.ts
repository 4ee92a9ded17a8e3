// The platform's root secret, and the keys derived from it. Nothing uses the root itself.

import { hkdfSync, randomBytes } from 'node:crypto'
import { closeSync, fsyncSync, linkSync, mkdirSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'

const secretBytesMin = 32

/**
 * The given secret, or the one in `<dataDir>/secret`, made with 256 random bits (0600) when there is none. Several
 * processes may start at once: whoever links the file first wins and the others read it.
 * @throws Error that says what is wrong with a secret too short
 */
export async function loadSecret(o: { secret?: string; dataDir: string }): Promise<Buffer> {
  if (o.secret !== undefined) return checked(o.secret, 'PURSER_SECRET')
  const path = join(o.dataDir, 'secret')
  const found = readIfThere(path)
  if (found !== undefined) return checked(found, path)
  mkdirSync(o.dataDir, { recursive: true, mode: 0o700 })
  writeOnce(path, randomBytes(32).toString('base64url'))
  return checked(readFileSync(path, 'utf8'), path)
}

/** A 256-bit key for one purpose; keys of different purposes say nothing about each other. */
export function deriveKey(secret: Buffer, purpose: string): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, 'purser', purpose, 32))
}

function checked(text: string, where: string): Buffer {
  const secret = Buffer.from(text.trim(), 'utf8')
  if (secret.length < secretBytesMin)
    throw new Error(
      `${where} has ${secret.length} bytes; at least ${secretBytesMin} are needed (openssl rand -base64 32)`,
    )
  return secret
}

/** A whole file or none: written beside, then linked, which fails when someone else was first. */
function writeOnce(path: string, content: string) {
  const temporary = `${path}.${process.pid}.${randomBytes(4).toString('hex')}`
  const fd = openSync(temporary, 'wx', 0o600)
  try {
    writeSync(fd, `${content}\n`)
    fsyncSync(fd)
    linkSync(temporary, path)
    // Its name must survive a power cut too: keys hashed under a lost secret are lost with it.
    syncFolder(dirname(path))
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
  } finally {
    closeSync(fd)
    rmSync(temporary, { force: true })
  }
}

function syncFolder(folder: string) {
  const fd = openSync(folder, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
}
