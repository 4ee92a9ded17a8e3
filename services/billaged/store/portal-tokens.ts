import { arrayLiteral, type Sql } from '#platform/postgres'

export interface PortalToken {
  id: string
  customerId: string
  subject: string
  /** Null: all. */
  allowedMeters: string[] | null
  createdBy: string
  createdAt: Date
  expiresAt: Date
  revokedAt: Date | null
}

const columns = (sql: Sql) => sql`
  id, customer_id as "customerId", subject, allowed_meters as "allowedMeters", created_by as "createdBy",
  created_at as "createdAt", expires_at as "expiresAt", revoked_at as "revokedAt"`

export async function insertPortalToken(sql: Sql, token: Omit<PortalToken, 'revokedAt'> & { hash: Buffer }) {
  const meters = token.allowedMeters === null ? null : arrayLiteral(token.allowedMeters)
  await sql`
    insert into billaged.portal_token (id, hash, customer_id, subject, allowed_meters, created_by, created_at, expires_at)
    values (${token.id}, ${token.hash}, ${token.customerId}, ${token.subject}, ${meters}::text::text[],
      ${token.createdBy}, ${token.createdAt}, ${token.expiresAt})`
}

/** Null when it is unknown, expired or revoked: nobody is told which. */
export async function findPortalToken(sql: Sql, hash: Buffer, now: Date): Promise<PortalToken | null> {
  const [row] = await sql<PortalToken[]>`
    select ${columns(sql)} from billaged.portal_token
    where hash = ${hash} and revoked_at is null and expires_at > ${now}`
  return row ?? null
}

/** Newest first. `only`: one customer's. */
export async function listPortalTokens(
  sql: Sql,
  o: { only: string | null; before?: { at: Date; id: string } | null; limit: number },
): Promise<PortalToken[]> {
  return sql<PortalToken[]>`
    select ${columns(sql)} from billaged.portal_token
    where (${o.only}::text is null or customer_id = ${o.only})
      ${o.before == null ? sql`` : sql`and (created_at, id) < (${o.before.at}, ${o.before.id})`}
    order by created_at desc, id desc limit ${o.limit}`
}

/** By id, by subject, or by customer. Returns the ids that were alive. */
export async function revokePortalTokens(
  sql: Sql,
  o: { id: string | null; subject: string | null; only: string | null; now: Date },
): Promise<string[]> {
  const rows = await sql<{ id: string }[]>`
    update billaged.portal_token set revoked_at = ${o.now}
    where revoked_at is null and (${o.id}::text is null or id = ${o.id})
      and (${o.subject}::text is null or subject = ${o.subject} or customer_id = ${o.subject})
      and (${o.only}::text is null or customer_id = ${o.only})
    returning id`
  return rows.map(row => row.id)
}
