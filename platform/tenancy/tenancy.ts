// Tenants, the keys that speak for them, and the audit of what was done to both.
//
// Reading is from memory: an immutable snapshot of all tenants and living keys, replaced when the database says that
// something changed (LISTEN/NOTIFY, and a poll every 5 s behind it). So a key costs no query, a revocation reaches every
// process within a second, and known keys keep working while the database is away.

import { createHmac, randomBytes } from 'node:crypto'
import { Counter, Gauge, type Registry } from 'prom-client'
import { migrate, type Queryable, type Sql, subscribe } from '../postgres.ts'
import type { Logger } from '../telemetry.ts'
import { type Clock, rfc3339 } from '../time.ts'
import { type Actor, type AuditEntry, firstBrokenLink } from './audit.ts'
import { deriveKey } from './secret.ts'
import { isSlug } from './slug.ts'
import {
  type ApiKey,
  appendAudit,
  deleteTenant,
  findKeyByHash,
  findTenant,
  insertKey,
  insertTenant,
  listKeys,
  loadAudit,
  loadSnapshot,
  loadVersion,
  type NewTenant,
  revokeKey,
  type Snapshot,
  type Tenant,
  updateTenant,
  writeLastUsed,
} from './store.ts'
import type { Role } from './token.ts'

export type { Actor, AuditEntry } from './audit.ts'
export type { ApiKey, NewTenant, Tenant } from './store.ts'
export type { Role } from './token.ts'

/** Who is calling, once a credential was recognised. */
export interface Principal {
  /** Null: an operator of the whole installation. */
  tenant: Tenant | null
  /** Scopes such as `ai`, `logs:write`; `admin` is all of them. */
  scopes: ReadonlySet<string>
  role: Role | null
  /** Null for keys from configuration. */
  keyId: bigint | null
  keyName: string
  via: 'key' | 'token' | 'static'
}

export interface StaticKey {
  key: string
  tenantSlug: string
  name: string
  scopes: readonly string[]
}

/** A living tenant already has this name. */
export class TenantNameTaken extends Error {}

export interface Tenancy {
  tenants: {
    /** The tenant with this slug or name, made when missing. */
    ensure(slugOrName: string, by: Actor): Promise<Tenant>
    /** @throws TenantNameTaken */
    create(o: NewTenant, by: Actor): Promise<Tenant>
    /** Memory only, as the following three. */
    bySlug(slug: string): Tenant | undefined
    byId(id: number): Tenant | undefined
    /** Living tenants, oldest first. */
    list(): Tenant[]
    /** Undefined when there is no such tenant. @throws TenantNameTaken */
    update(
      id: number,
      patch: { name?: string; displayName?: string | null; timezone?: string; tier?: string | null },
      by: Actor,
    ): Promise<Tenant | undefined>
    /** Revokes its keys. @throws {RangeError} for `public` */
    remove(id: number, by: Actor): Promise<boolean>
  }
  keys: {
    /** `key` is returned this once and kept nowhere; 256 random bits in the textual form that the caller's guide shows. */
    create(
      o: {
        tenantId: number
        name: string
        scopes: readonly string[]
        format: 'hex64' | 'base64url44'
        expiresAt?: Date
      },
      by: Actor,
    ): Promise<ApiKey & { key: string }>
    /** A key that exists already, from an older installation's table: from now on known here, by its hash. Again is the same. */
    adopt(o: { tenantId: number; name: string; scopes: readonly string[]; key: string }, by: Actor): Promise<ApiKey>
    list(tenantId: number): Promise<ApiKey[]>
    /** False when there is no such living key. */
    revoke(id: bigint, by: Actor): Promise<boolean>
    /** Keys from configuration: in memory only, replacing those given before. Missing tenants are made, audited. */
    importStatic(keys: readonly StaticKey[]): Promise<void>
  }
  /** `unavailable`: nobody here knows this key and the database cannot be asked; never a wrong "invalid". */
  authenticate(key: string): Principal | 'unknown' | 'unavailable'
  /** In the caller's transaction when given one; then as its last statement, since acts take turns until it ends. */
  audit(entry: AuditEntry, tx?: Queryable): Promise<void>
  /** The first audit row that does not fit the chain; undefined when all do. */
  verifyAudit(): Promise<bigint | undefined>
  /** Called after each new snapshot. */
  onChange(fn: () => void): void
  close(): Promise<void>
}

export interface TenancyOptions {
  sql: Sql
  secret: Buffer
  log: Logger
  clock: Clock
  registry?: Registry
}

/** Made by the first migration; owner of keys that name no tenant. */
export const publicSlug = 'public'

const pollEveryMs = 5_000
/** A snapshot this old, by the last successful poll, cannot tell an unknown key from a new one. */
const staleAfterMs = 3 * pollEveryMs
/** An unknown key makes us ask the database, at most this often: a guesser must not become a load. */
const pollOnUnknownEveryMs = 1_000
const writeUsedEveryMs = 30_000
const msPerDay = 86_400_000

export async function openTenancy(o: TenancyOptions): Promise<Tenancy> {
  const { sql, log, clock } = o
  await migrate(sql, { schema: 'tenancy', folder: new URL('./migrations/', import.meta.url), log })
  const hashKey = deriveKey(o.secret, 'api key')
  const hashOf = (key: string) => createHmac('sha256', hashKey).update(key).digest('base64')

  let known = index(await loadSnapshot(sql))
  let freshAtMs = clock.monotonicMs()
  /** The last attempt to ask the database failed. */
  let isAway = false
  const asked = () => {
    freshAtMs = clock.monotonicMs()
    isAway = false
  }
  let staticKeys = new Map<string, { tenantId: number; scopes: ReadonlySet<string>; name: string }>()
  const listeners = new Set<() => void>()
  /** Key to day since 1970 (UTC); written as text only once per flush. */
  const used = new Map<bigint, number>()
  let isClosed = false
  let askedForUnknownAtMs = Number.NEGATIVE_INFINITY
  const metrics = o.registry ? createMetrics(o.registry, () => known.keys.size) : undefined

  // At most one reload runs and at most one more waits, however many changes are announced.
  let reloading: Promise<void> | undefined
  let isReloadWanted = false
  const reload = (): Promise<void> => {
    isReloadWanted = true
    reloading ??= readAgain()
    return reloading
  }
  const readAgain = async () => {
    // Yields first, so that `reloading` is set before the end below can clear it.
    await null
    try {
      while (isReloadWanted && !isClosed) {
        isReloadWanted = false
        const snapshot = await loadSnapshot(sql)
        asked()
        if (snapshot.version < known.version) continue
        known = index(snapshot)
        for (const fn of listeners) fn()
      }
    } finally {
      // In the same step as the last look at `isReloadWanted`: a wish that comes later starts a new round.
      reloading = undefined
    }
  }
  const reloadLater = (): Promise<void> =>
    reload().catch(error => {
      isAway = true
      if (!isClosed) log.warn({ err: error }, 'tenants and keys could not be read again; the last snapshot stays')
    })
  let isPolling = false
  const poll = async () => {
    // A query that hangs must not collect others behind it.
    if (isPolling || isClosed) return
    isPolling = true
    try {
      const version = await loadVersion(sql)
      asked()
      if (version !== known.version) await reload()
    } catch (error) {
      if (!isAway && !isClosed) log.warn({ err: error }, 'the database does not answer; known keys keep working')
      isAway = true
    } finally {
      isPolling = false
    }
  }
  const polling = setInterval(poll, pollEveryMs)
  polling.unref()
  const subscription = await subscribe(
    sql,
    'tenancy',
    () => void reloadLater(),
    () => void reloadLater(),
  )

  const flushUsed = async () => {
    if (used.size === 0) return
    const days = new Map(used)
    await writeLastUsed(sql, new Map([...days].map(([id, day]) => [id, rfc3339(day * msPerDay).slice(0, 10)])))
    for (const [id, day] of days) if (used.get(id) === day) used.delete(id)
  }
  const writingUsed = setInterval(() => {
    flushUsed().catch(error => log.debug({ err: error }, 'last use of keys not written'))
  }, writeUsedEveryMs)
  writingUsed.unref()

  const audited = async <T>(
    act: (tx: Queryable) => Promise<{ result: T; entry: AuditEntry | undefined }>,
  ): Promise<T> => {
    const result = await sql.begin(async tx => {
      const { result, entry } = await act(tx)
      if (entry) await appendAudit(tx, entry, rfc3339(clock.now()))
      return { result }
    })
    // The act is committed; that it cannot be read back now must not turn it into a failure (a key is shown only once).
    await reloadLater()
    return result.result as T
  }

  const create = async (input: NewTenant, by: Actor): Promise<Tenant> => {
    if (input.slug !== undefined && !isSlug(input.slug))
      throw new RangeError(`"${input.slug}" is not a slug: a-z 0-9 . _ -, at most 63, starting with a letter or digit`)
    return audited(async tx => {
      const tenant = await insertTenant(tx, input)
      if (!tenant) throw new TenantNameTaken(`a tenant named "${input.name}" exists`)
      return {
        result: tenant,
        entry: { actor: by, action: 'tenant.create', object: `tenant ${tenant.slug}`, after: input },
      }
    })
  }

  const ensure = async (slugOrName: string, by: Actor): Promise<Tenant> => {
    const inMemory = known.bySlug.get(slugOrName)
    if (inMemory) return inMemory
    const found = await findTenant(sql, slugOrName)
    if (found) return found
    try {
      return await create({ name: slugOrName }, by)
    } catch (error) {
      // Two processes may be first at once; the loser takes the winner's.
      const winner = error instanceof TenantNameTaken ? await findTenant(sql, slugOrName) : undefined
      if (winner) return winner
      throw error
    }
  }

  return {
    tenants: {
      ensure,
      create,
      bySlug: slug => known.bySlug.get(slug),
      byId: id => known.byId.get(id),
      list: () => known.living,
      update: (id, patch, by) =>
        audited<Tenant | undefined>(async tx => {
          const before = known.byId.get(id)
          const tenant = await updateTenant(tx, id, patch)
          return {
            result: tenant,
            entry: tenant && {
              actor: by,
              action: 'tenant.update',
              object: `tenant ${tenant.slug}`,
              before,
              after: patch,
            },
          }
        }).catch((error: unknown) => {
          if (error instanceof Error && 'code' in error && error.code === '23505')
            throw new TenantNameTaken(`a tenant named "${patch.name}" exists`)
          throw error
        }),
      async remove(id, by) {
        if (known.byId.get(id)?.slug === publicSlug) {
          throw new RangeError(`tenant ${publicSlug} cannot be removed: keys without a tenant belong to it`)
        }
        return audited(async tx => {
          const tenant = await deleteTenant(tx, id)
          return {
            result: tenant !== undefined,
            entry: tenant && { actor: by, action: 'tenant.delete', object: `tenant ${tenant.slug}`, before: tenant },
          }
        })
      },
    },
    keys: {
      create: ({ format, expiresAt, ...input }, by) => {
        const bytes = randomBytes(32)
        // 44 base64 characters, padding included, as the log guide's own keys have.
        const key = format === 'hex64' ? bytes.toString('hex') : `${bytes.toString('base64url')}=`
        return audited(async tx => {
          const row = await insertKey(tx, {
            ...input,
            hash: Buffer.from(hashOf(key), 'base64'),
            prefix: key.slice(0, 8),
            createdBy: by.name,
            expiresAt: expiresAt ?? null,
          })
          if (!row) throw new Error('BUG: 256 random bits came twice')
          return {
            result: { ...row, key },
            entry: {
              actor: by,
              action: 'key.create',
              object: `key ${row.id} (${row.prefix})`,
              after: { ...input, expiresAt },
            },
          }
        })
      },
      adopt: ({ key, ...input }, by) =>
        audited(async tx => {
          const hash = Buffer.from(hashOf(key), 'base64')
          // Not its first characters: what a person chose may be short.
          const made = await insertKey(tx, { ...input, hash, prefix: 'adopted', createdBy: by.name, expiresAt: null })
          const row = made ?? (await findKeyByHash(tx, hash))
          if (!row) throw new Error('BUG: a key was taken and is not there')
          return {
            result: row,
            entry: made && { actor: by, action: 'key.adopt', object: `key ${row.id} (${row.name})`, after: input },
          }
        }),
      list: tenantId => listKeys(sql, tenantId),
      revoke: (id, by) =>
        audited(async tx => {
          const row = await revokeKey(tx, id)
          return {
            result: row !== undefined,
            entry: row && { actor: by, action: 'key.revoke', object: `key ${row.id} (${row.prefix})` },
          }
        }),
      async importStatic(keys) {
        const by: Actor = { kind: 'system', name: 'configuration' }
        const owners = new Map<string, Tenant>()
        for (const slug of new Set(keys.map(key => key.tenantSlug))) owners.set(slug, await ensure(slug, by))
        await reload()
        staticKeys = new Map(
          keys.map(({ key, tenantSlug, name, scopes }) => {
            const owner = owners.get(tenantSlug)
            if (!owner) throw new Error('BUG: a static key without a tenant')
            return [hashOf(key), { tenantId: owner.id, scopes: new Set(scopes), name }]
          }),
        )
      },
    },
    authenticate(key) {
      const hash = hashOf(key)
      const fixed = staticKeys.get(hash)
      if (fixed) {
        const tenant = known.byId.get(fixed.tenantId)
        return tenant
          ? { tenant, scopes: fixed.scopes, role: null, keyId: null, keyName: fixed.name, via: 'static' }
          : 'unknown'
      }
      const found = known.keys.get(hash)
      if (found && (found.expiresAtMs === undefined || clock.now() < found.expiresAtMs)) {
        if (found.principal.keyId !== null) used.set(found.principal.keyId, Math.floor(clock.now() / msPerDay))
        return found.principal
      }
      const ageMs = clock.monotonicMs() - freshAtMs
      if (ageMs > pollOnUnknownEveryMs && clock.monotonicMs() - askedForUnknownAtMs > pollOnUnknownEveryMs) {
        askedForUnknownAtMs = clock.monotonicMs()
        void poll()
      }
      const isStale = isAway || ageMs > staleAfterMs
      metrics?.refused.labels(isStale ? 'unavailable' : 'unknown').inc()
      return isStale ? 'unavailable' : 'unknown'
    },
    audit: (entry, tx) =>
      tx
        ? appendAudit(tx, entry, rfc3339(clock.now()))
        : sql.begin(own => appendAudit(own, entry, rfc3339(clock.now()))).then(() => {}),
    async verifyAudit() {
      const rows = []
      for (let afterSeq = 0n; ; ) {
        const page = await loadAudit(sql, { afterSeq, limit: 10_000 })
        rows.push(...page)
        const last = page.at(-1)
        if (!last || page.length < 10_000) return firstBrokenLink(rows)
        afterSeq = last.seq
      }
    },
    onChange: fn => void listeners.add(fn),
    async close() {
      isClosed = true
      clearInterval(polling)
      clearInterval(writingUsed)
      await subscription.close()
      await reloading?.catch(() => {})
      await flushUsed().catch(() => {})
    },
  }
}

interface Known {
  version: bigint
  living: Tenant[]
  bySlug: Map<string, Tenant>
  byId: Map<number, Tenant>
  /** By keyed hash in base64: a lookup says nothing about near misses. */
  keys: Map<string, { principal: Principal; expiresAtMs: number | undefined }>
}

function index(snapshot: Snapshot): Known {
  const living = snapshot.tenants.filter(tenant => tenant.deletedAt === null)
  const byId = new Map(living.map(tenant => [tenant.id, tenant]))
  const keys: Known['keys'] = new Map()
  for (const key of snapshot.keys) {
    const tenant = byId.get(key.tenantId)
    if (!tenant) continue
    keys.set(key.hash.toString('base64'), {
      principal: {
        tenant,
        scopes: new Set(key.scopes),
        role: null,
        keyId: key.id,
        keyName: key.name || key.prefix,
        via: 'key',
      },
      expiresAtMs: key.expiresAt?.getTime(),
    })
  }
  return { version: snapshot.version, living, bySlug: new Map(living.map(tenant => [tenant.slug, tenant])), byId, keys }
}

function createMetrics(registry: Registry, keyCount: () => number) {
  new Gauge({
    name: 'tenancy_keys',
    help: 'API keys this process can recognise.',
    registers: [registry],
    collect() {
      this.set(keyCount())
    },
  })
  return {
    refused: new Counter({
      name: 'tenancy_refused_total',
      help: 'Credentials not recognised.',
      labelNames: ['reason'],
      registers: [registry],
    }),
  }
}

/** Whether a principal may do what `scope` names. */
export function mayDo(principal: Principal, scope: string): boolean {
  return principal.scopes.has(scope) || principal.scopes.has('admin')
}
