// The keys of the directory, by keyed hash, in a file of this replica: a start without the database knows those who were
// known before. A key that was revoked meanwhile works until the database is back, which is when anybody can know of it.

import { createHmac, randomUUID } from 'node:crypto'
import { readFile, rename, writeFile } from 'node:fs/promises'
import type { Sql } from '#platform/postgres'
import type { Logger } from '#platform/telemetry'
import { deriveKey } from '#platform/tenancy/secret'
import { loadSnapshot } from '#platform/tenancy/store'
import type { Tenancy } from '#platform/tenancy/tenancy'
import type { Clock } from '#platform/time'

export interface KnownKey {
  /** Slug. */
  tenant: string
  scopes: readonly string[]
  id: string
  name: string
}

export interface KeySnapshot {
  find(credential: string): KnownKey | undefined
  /** Writes the file now and after each change, while the database can be asked. */
  follow(o: { sql: Sql; tenancy: Pick<Tenancy, 'onChange'> }): void
  /** Resolves when what is being written is written. */
  close(): Promise<void>
}

interface StoredKey extends KnownKey {
  hash: string
  expiresAtMs: number | null
}

const keysMax = 100_000

export async function openKeySnapshot(o: {
  path: string
  secret: Buffer
  clock: Clock
  log: Logger
}): Promise<KeySnapshot> {
  const { path, clock, log } = o
  const hashKey = deriveKey(o.secret, 'api key')
  const keys = new Map((await readKeys(path)).map(key => [key.hash, key]))
  let writing: Promise<void> = Promise.resolve()

  const write = async (sql: Sql) => {
    const snapshot = await loadSnapshot(sql)
    const slugs = new Map(snapshot.tenants.map(({ id, slug }) => [id, slug]))
    const stored: StoredKey[] = snapshot.keys.slice(0, keysMax).map(key => ({
      hash: key.hash.toString('base64'),
      tenant: slugs.get(key.tenantId) ?? 'public',
      scopes: key.scopes,
      id: String(key.id),
      name: key.name || key.prefix,
      expiresAtMs: key.expiresAt?.getTime() ?? null,
    }))
    const temporary = `${path}.${randomUUID()}`
    await writeFile(temporary, JSON.stringify(stored), { mode: 0o600, flush: true })
    await rename(temporary, path)
  }

  return {
    find(credential) {
      const found = keys.get(createHmac('sha256', hashKey).update(credential).digest('base64'))
      return found && (found.expiresAtMs === null || clock.now() < found.expiresAtMs) ? found : undefined
    },
    follow({ sql, tenancy }) {
      const next = () => {
        writing = writing
          .then(() => write(sql))
          .catch(error => log.warn({ err: error }, 'the snapshot of keys was not written; the one before stays'))
      }
      tenancy.onChange(next)
      next()
    },
    close: () => writing,
  }
}

async function readKeys(path: string): Promise<StoredKey[]> {
  try {
    const stored: unknown = JSON.parse(await readFile(path, 'utf8'))
    return Array.isArray(stored) ? stored.filter(isStoredKey) : []
  } catch {
    return []
  }
}

function isStoredKey(value: unknown): value is StoredKey {
  if (typeof value !== 'object' || value === null) return false
  const { hash, tenant, scopes, id, name, expiresAtMs } = value as Record<string, unknown>
  return (
    [hash, tenant, id, name].every(text => typeof text === 'string') &&
    Array.isArray(scopes) &&
    scopes.every(scope => typeof scope === 'string') &&
    (expiresAtMs === null || typeof expiresAtMs === 'number')
  )
}
