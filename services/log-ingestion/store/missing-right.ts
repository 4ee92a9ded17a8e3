// What to grant when the database refuses a commit for want of a right.

import { errorCode } from '#platform/postgres'

/** Rights that commits, reads and deletions need of a table. */
const tableRights = 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE'

/** A statement for whoever may grant; undefined when the error is about something else. */
export function grantFor(error: unknown, role: string): string | undefined {
  if (errorCode(error) !== '42501' || !(error instanceof Error)) return undefined
  const match = /(permission denied for|must be owner of) (table|relation|sequence|schema|database) (\S+)/.exec(
    error.message,
  )
  if (!match) return undefined
  const [, problem, kind, name = ''] = match
  const to = quoted(role)
  if (kind === 'schema') return `GRANT USAGE, CREATE ON SCHEMA ${quoted(name)} TO ${to}`
  if (kind === 'database') return `GRANT CREATE ON DATABASE ${quoted(name)} TO ${to}`
  // The guide's tables and their partitions are in public, all others are ours.
  const path = `${/^logs(_|$)/.test(name) ? 'public' : 'purser_logs'}.${quoted(name)}`
  if (problem === 'must be owner of') return `ALTER TABLE ${path} OWNER TO ${to}`
  return kind === 'sequence'
    ? `GRANT USAGE, SELECT, UPDATE ON SEQUENCE ${path} TO ${to}`
    : `GRANT ${tableRights} ON ${path} TO ${to}`
}

function quoted(name: string): string {
  return /^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`
}
