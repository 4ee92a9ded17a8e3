// Console sessions, by the hash of their id, and the one-time sign-in tokens that were used.

import type { Sql } from '#platform/postgres'
import type { Role } from '../api.ts'

export interface ConsoleSession {
  role: Role
  subject: string
  expiresAtMs: number
}

export async function insertSession(sql: Sql, idHash: Buffer, session: ConsoleSession): Promise<void> {
  await sql.begin(async tx => {
    await tx`delete from budgetguard.console_sessions where expires_at < now()`
    await tx`
      insert into budgetguard.console_sessions (id_hash, role, subject, expires_at)
      values (${idHash}, ${session.role}, ${session.subject}, ${new Date(session.expiresAtMs)})`
  })
}

export async function findSession(sql: Sql, idHash: Buffer): Promise<ConsoleSession | undefined> {
  const [row] = await sql<{ role: Role; subject: string; expires_at: Date }[]>`
    select role, subject, expires_at from budgetguard.console_sessions where id_hash = ${idHash} and expires_at > now()`
  return row ? { role: row.role, subject: row.subject, expiresAtMs: row.expires_at.getTime() } : undefined
}

export async function removeSession(sql: Sql, idHash: Buffer): Promise<void> {
  await sql`delete from budgetguard.console_sessions where id_hash = ${idHash}`
}

/** True the first time only, on any number of processes and across restarts. */
export async function spendToken(sql: Sql, id: string, rememberUntilMs: number): Promise<boolean> {
  return sql.begin(async tx => {
    await tx`delete from budgetguard.used_tokens where expires_at < now()`
    const rows = await tx`
      insert into budgetguard.used_tokens (id, expires_at) values (${id}, ${new Date(rememberUntilMs)})
      on conflict do nothing returning 1`
    return rows.length === 1
  })
}
