// Which repositories served a cached blob. Before its bytes are used for an image, that image's own registry has
// accepted the tenant's credentials for the manifest that names it; this table adds that the bytes, too, came from
// there, or from somewhere anyone may read. A registry that says yes to any digest gains nothing it did not serve.

import type { Sql } from '#platform/postgres'

export interface BlobOrigin {
  digest: string
  registry: string
  repository: string
  isAnonymous: boolean
  bytes: bigint
}

/** @param registries the tenant may reach; undefined means any */
export async function mayReuseBlob(
  sql: Sql,
  o: { digest: string; registry: string; repository: string; registries: readonly string[] | undefined },
): Promise<boolean> {
  const [row] = await sql<{ found: boolean }[]>`
    select exists (
      select from builderd.blob_origins
      where digest = ${o.digest}
        and ((registry = ${o.registry} and repository = ${o.repository})
          or (is_anonymous ${o.registries ? sql`and registry = any(${[...o.registries]}::text[])` : sql``}))) as found`
  return row?.found ?? false
}

export async function noteOrigin(sql: Sql, o: BlobOrigin): Promise<void> {
  await sql`
    insert into builderd.blob_origins (digest, registry, repository, is_anonymous, bytes)
    values (${o.digest}, ${o.registry}, ${o.repository}, ${o.isAnonymous}, ${o.bytes})
    on conflict (digest, registry, repository) do update
    set is_anonymous = builderd.blob_origins.is_anonymous or excluded.is_anonymous, at = now()`
}

export async function forgetBlob(sql: Sql, digest: string): Promise<void> {
  await sql`delete from builderd.blob_origins where digest = ${digest}`
}
