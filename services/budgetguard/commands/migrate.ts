// budgetguard migrate [status]

import type { Base } from '#platform/lifecycle'
import { migrate as applyMigrations, type Sql } from '#platform/postgres'
import { loadSecret } from '#platform/tenancy/secret'
import { openTenancy, type Tenancy } from '#platform/tenancy/tenancy'
import type { Config } from '../config.ts'
import { withDatabase } from './database.ts'

const folder = new URL('../migrations/', import.meta.url)

export async function migrate(args: readonly string[], config: Config, base: Base): Promise<number> {
  const [word] = args
  if (word === 'reset') {
    process.stderr.write(
      'migrate reset is not in this release: it would have to erase journals as well. Drop the schema by hand.\n',
    )
    return 2
  }
  if (word !== undefined && word !== 'status' && word !== 'deploy' && word !== 'dev') {
    process.stderr.write(`migrate: "${word}" is not a command; use migrate or migrate status\n`)
    return 2
  }
  return withDatabase(config, base, async sql => {
    if (word !== 'status') {
      const tenancy = await openStoresFor(sql, config, base)
      await tenancy.close()
    }
    const rows = await sql<{ name: string; at: string }[]>`
      select name, to_char(applied_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS"Z"') as at
      from budgetguard.migration order by version`.catch(() => [])
    for (const row of rows) process.stdout.write(`${row.name}  applied ${row.at}\n`)
    if (rows.length === 0) process.stdout.write('no migration is applied yet; run budgetguard migrate\n')
    return 0
  })
}

/** Both schemas a command needs, brought up to date. */
export async function openStoresFor(sql: Sql, config: Config, base: Base): Promise<Tenancy> {
  await applyMigrations(sql, { schema: 'budgetguard', folder, log: base.log })
  const secret = await loadSecret({
    dataDir: config.dataDir,
    ...(config.platformSecret === undefined ? {} : { secret: config.platformSecret }),
  })
  return openTenancy({ sql, secret, log: base.log, clock: base.clock })
}
