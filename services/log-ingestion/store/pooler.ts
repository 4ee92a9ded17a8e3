// A PgBouncer that nobody mentioned, recognised by its refusal of our startup parameters.

import { openSql } from '#platform/postgres'
import type { Logger } from '#platform/telemetry'

/** The address as it has to be used: behind a pooler without named statements and startup parameters. @throws when away */
export async function throughPooler(url: string, log: Logger): Promise<string> {
  const sql = openSql({ url, max: 1, applicationName: 'log-ingestion', log })
  try {
    await sql`select 1`
    return url
  } catch (error) {
    if (!(error instanceof Error && /unsupported startup parameter/.test(error.message))) throw error
    log.info('a pooler in transaction mode is in front of the database')
    return `${url}${url.includes('?') ? '&' : '?'}pgbouncer=true`
  } finally {
    await sql.end({ timeout: 1 })
  }
}
