// What people know about keys: description, who made it, and the row of an older installation it was taken from. The key
// itself is known by its hash in schema tenancy.

import { createHash } from 'node:crypto'
import type { Sql } from '#platform/postgres'
import type { Actor, ApiKey, Tenancy } from '#platform/tenancy/tenancy'

export interface ListedKey {
  /** Of public.api_keys where that table is there, so that ids stay what they were; else of the key store. */
  id: bigint
  keyId: bigint
  name: string
  description: string
  createdAt: Date
  isActive: boolean
  createdByUserId: number | null
}

export interface ApiKeys {
  list(tenantId: number): Promise<ListedKey[]>
  create(
    o: { tenantId: number; name: string; description: string; scopes: readonly string[]; userId: number | null },
    by: Actor,
  ): Promise<ListedKey & { key: string }>
  /** False when there is no such living key. */
  revoke(key: ListedKey, by: Actor): Promise<boolean>
  /** Takes keys that an older instance wrote, or withdrew, since the last time. */
  adopt(): Promise<void>
  /** Plaintext keys still in public.api_keys. */
  countPlain(): Promise<number>
  /** Replaces them by their SHA-256; no older instance can read them then. */
  seal(): Promise<number>
  readonly isLegacy: boolean
}

const sealedPrefix = 'sha256:'
const adoptMax = 100_000

export async function openApiKeys(
  sql: Sql,
  tenancy: Tenancy,
  o: { publicTenantId: number; scopes: readonly string[] },
): Promise<ApiKeys> {
  const [row] = await sql<{ found: boolean }[]>`select to_regclass('public.api_keys') is not null as found`
  const isLegacy = row?.found ?? false

  const detailsOf = async (ids: readonly bigint[]) => {
    const rows = await sql<Details[]>`
      select key_id as "keyId", description, created_by_user_id as "userId", legacy_id as "legacyId"
      from purser_logs.key_details where key_id = any(${`{${ids.join(',')}}`}::bigint[])`
    return new Map(rows.map(details => [details.keyId, details]))
  }
  const listed = (key: ApiKey, details: Details | undefined): ListedKey => ({
    id: details?.legacyId ?? key.id,
    keyId: key.id,
    name: key.name,
    description: details?.description ?? '',
    createdAt: key.createdAt,
    isActive: key.revokedAt === null,
    createdByUserId: details?.userId == null ? null : Number(details.userId),
  })

  return {
    isLegacy,
    async list(tenantId) {
      const keys = (await tenancy.keys.list(tenantId)).filter(key => key.scopes.includes('logs:write'))
      const details = await detailsOf(keys.map(key => key.id))
      return keys
        .map(key => listed(key, details.get(key.id)))
        .filter(key => !isLegacy || details.get(key.keyId)?.legacyId != null)
    },
    async create({ description, userId, ...input }, by) {
      const made = await tenancy.keys.create({ ...input, format: 'base64url44' }, by)
      const legacyId = isLegacy
        ? (
            await sql<{ id: bigint }[]>`
              insert into public.api_keys (key, name, description, is_active, created_by_user_id)
              values (${sealed(made.key)}, ${made.name}, ${description}, true, ${userId}) returning id::int8 as id`
          )[0]?.id
        : undefined
      await sql`
        insert into purser_logs.key_details (key_id, description, created_by_user_id, legacy_id)
        values (${made.id}, ${description}, ${userId}, ${legacyId ?? null})`
      const details = { keyId: made.id, description, userId: userId === null ? null : BigInt(userId), legacyId }
      return { ...listed(made, { ...details, legacyId: legacyId ?? null }), key: made.key }
    },
    async revoke(key, by) {
      const isGone = await tenancy.keys.revoke(key.keyId, by)
      if (isGone && isLegacy) await sql`update public.api_keys set is_active = false where id = ${key.id}`
      return isGone
    },
    async adopt() {
      if (!isLegacy) return
      const by: Actor = { kind: 'system', name: 'public.api_keys' }
      const rows = await sql<
        { id: bigint; key: string; name: string; description: string | null; userId: bigint | null }[]
      >`
        select a.id::int8 as id, a.key, coalesce(a.name, '') as name, a.description, a.created_by_user_id::int8 as "userId"
        from public.api_keys a left join purser_logs.key_details d on d.legacy_id = a.id
        where d.legacy_id is null and coalesce(a.is_active, true) and left(a.key, 7) <> ${sealedPrefix}
        order by a.id limit ${adoptMax}`
      for (const row of rows) {
        const key = await tenancy.keys.adopt(
          { tenantId: o.publicTenantId, name: row.name, scopes: o.scopes, key: row.key },
          by,
        )
        await sql`
          insert into purser_logs.key_details (key_id, description, created_by_user_id, legacy_id)
          values (${key.id}, ${row.description ?? ''}, ${row.userId}, ${row.id}) on conflict do nothing`
      }
      const withdrawn = await sql<{ keyId: bigint }[]>`
        select d.key_id as "keyId" from purser_logs.key_details d
        join tenancy.api_key k on k.id = d.key_id and k.revoked_at is null
        left join public.api_keys a on a.id = d.legacy_id
        where d.legacy_id is not null and not coalesce(a.is_active, a.id is not null)`
      for (const { keyId } of withdrawn) await tenancy.keys.revoke(keyId, by)
    },
    async countPlain() {
      if (!isLegacy) return 0
      const [found] = await sql<{ count: bigint }[]>`
        select count(*) from public.api_keys where left(key, 7) <> ${sealedPrefix}`
      return Number(found?.count ?? 0n)
    },
    async seal() {
      if (!isLegacy) return 0
      // Only what the key store knows, and what no longer counts: a key nobody adopted would be lost.
      const done = await sql`
        update public.api_keys a set key = ${sealedPrefix} || encode(sha256(convert_to(a.key, 'UTF8')), 'hex')
        where left(a.key, 7) <> ${sealedPrefix}
          and (not coalesce(a.is_active, true)
               or exists (select from purser_logs.key_details d where d.legacy_id = a.id))`
      return done.count
    },
  }
}

interface Details {
  keyId: bigint
  description: string
  userId: bigint | null
  legacyId: bigint | null
}

function sealed(key: string): string {
  return sealedPrefix + createHash('sha256').update(key).digest('hex')
}
