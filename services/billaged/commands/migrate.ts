import { join } from 'node:path'
import type { Command } from '#platform/lifecycle'
import { migrate as migrateSchema, openSql, resolveDatabase } from '#platform/postgres'
import { loadSecret } from '#platform/tenancy/secret'
import { openTenancy } from '#platform/tenancy/tenancy'
import type { Config } from '../config.ts'
import { chooseDataDir } from '../store/data-dir.ts'
import { exitOk } from './command.ts'

/** Brings the database to this version without serving: for a deployment that migrates first. A start does the same. */
export const migrate: Command<Config> = {
  summary: 'bring the database to this version and exit',
  async run(_args, { config, base }) {
    const { log, clock } = base
    const dataDir = await chooseDataDir({
      configured: config.billagedDataDir,
      platformDir: config.dataDir,
      isSupervised: config.isSupervised,
    })
    const secret = await loadSecret({
      dataDir: config.dataDir,
      ...(config.platformSecret === undefined ? {} : { secret: config.platformSecret }),
    })
    const database = await resolveDatabase({
      url: config.databaseUrl ?? config.platformDatabaseUrl,
      dir: join(dataDir, 'postgres'),
      log,
    })
    const sql = openSql({ url: database.url, max: 2, applicationName: 'billaged migrate', log })
    try {
      const tenancy = await openTenancy({ sql, secret, log, clock })
      await tenancy.close()
      const { applied } = await migrateSchema(sql, {
        schema: 'billaged',
        folder: new URL('../migrations/', import.meta.url),
        log,
      })
      process.stdout.write(applied.length === 0 ? 'up to date\n' : applied.map(name => `applied ${name}\n`).join(''))
      return exitOk
    } finally {
      await sql.end({ timeout: 5 })
      await database.close()
    }
  },
}
