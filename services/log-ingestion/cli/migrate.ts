// `log-ingestion migrate`: everything the service would set up at its start, and nothing else. Again is a no-op.

import { join } from 'node:path'
import type { Command } from '#platform/lifecycle'
import { migrate as applyMigrations, openSql, resolveDatabase } from '#platform/postgres'
import { type Config, databaseUrlOf, stateDirOf } from '../config.ts'
import { throughPooler } from '../store/pooler.ts'
import { attachLogsTable } from '../store/rows/logs-table.ts'

const tenancyMigrations = new URL('../../../platform/tenancy/migrations/', import.meta.url)

export const migrate: Command<Config> = {
  summary: 'set up the database, or bring it up to date, and exit; again is a no-op',
  async run(args, { config, base: { log } }) {
    const isJson = args.length === 1 && args[0] === '--json'
    if (args.length > 0 && !isJson) {
      process.stderr.write(`log-ingestion: migrate takes no arguments but --json (got "${args.join(' ')}")\n`)
      return 2
    }
    // Lines of the log would be in the way of whoever reads the answer.
    if (isJson) log.level = 'silent'
    const dir = stateDirOf(config)
    try {
      const server = await resolveDatabase({ url: databaseUrlOf(config), dir: join(dir, 'postgres'), log })
      const url = await throughPooler(server.url, log)
      const sql = openSql({ url, max: 3, applicationName: 'log-ingestion migrate', log })
      try {
        const table = await attachLogsTable(sql, { indexProfile: config.indexProfile, log })
        const { applied } = await applyMigrations(sql, {
          schema: 'purser_logs',
          folder: new URL('../migrations/purser_logs/', import.meta.url),
          log,
        })
        await applyMigrations(sql, { schema: 'tenancy', folder: tenancyMigrations, log })
        process.stdout.write(
          isJson
            ? `${JSON.stringify({ logs: table.kind, applied })}\n`
            : `log-ingestion: logs is ${kinds[table.kind]}; ` +
                `${applied.length === 0 ? 'the schema is up to date' : `applied ${applied.join(', ')}`}\n`,
        )
        return 0
      } finally {
        await sql.end({ timeout: 2 })
        await server.close()
      }
    } catch (error) {
      process.stderr.write(`log-ingestion: ${error instanceof Error ? error.message : String(error)}\n`)
      return 1
    }
  },
}

const kinds = { plain: 'a plain table', partitioned: 'partitioned by day', hypertable: 'a hypertable' }
