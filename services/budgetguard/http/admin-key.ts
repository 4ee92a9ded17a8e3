// The admin key: configured, or generated once outside production, or none, and then the admin API is closed.

import { randomBytes } from 'node:crypto'
import { chmod, link, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

export interface AdminKey {
  /** Undefined: the admin API is closed. */
  key: string | undefined
  /** Where a generated key lies; its value is never printed. */
  path: string | null
}

export async function loadAdminKey(o: {
  configured: string | undefined
  isProduction: boolean
  folder: string
}): Promise<AdminKey> {
  if (o.configured !== undefined) return { key: o.configured, path: null }
  if (o.isProduction) return { key: undefined, path: null }
  const path = join(o.folder, 'admin-key')
  await mkdir(o.folder, { recursive: true, mode: 0o700 })
  const known = await readKey(path)
  if (known !== undefined) return { key: known, path }
  // Written beside and linked: of several processes that start at once one wins, and nobody reads half a key.
  const temporary = `${path}.${process.pid}`
  await writeFile(temporary, `${randomBytes(32).toString('hex')}\n`, { mode: 0o600, flush: true })
  await link(temporary, path).catch(() => undefined)
  await rm(temporary, { force: true })
  await chmod(path, 0o600)
  const key = await readKey(path)
  if (key === undefined) throw new Error(`${path} cannot be read; give ADMIN_API_KEY, or make the folder writable`)
  return { key, path }
}

async function readKey(path: string): Promise<string | undefined> {
  const text = await readFile(path, 'utf8').catch(() => '')
  return text.trim() === '' ? undefined : text.trim()
}
