// Commands of builderd for its operator: migrate, validate-db, tenant.

import { readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Base, Command } from '#platform/lifecycle'
import { migrate as applyMigrations, openSql, resolveDatabase, type Sql } from '#platform/postgres'
import type { Config } from '../config.ts'
import { databaseUrlOf } from '../database.ts'
import { foldersOf } from '../folders.ts'
import { tierLimits, tiers } from '../quotas/limits.ts'
import { isSystemRootWritable, makeFolders, spaceOf } from '../store/disk.ts'
import { findTenant, isTier, listTenants, setTier } from '../store/tenants.ts'
import { formatBytes } from './format.ts'

const folder = new URL('../migrations/', import.meta.url)

export const migrate: Command<Config> = {
  summary: 'apply migrations to the database; again is a no-op',
  run: (args, { config, base }) =>
    withDatabase(config, base, async sql => {
      if (args.length > 0) return misused('migrate takes no arguments')
      const { applied } = await applyMigrations(sql, { schema: 'builderd', folder, log: base.log })
      process.stdout.write(
        applied.length === 0 ? 'builderd: the schema is up to date\n' : `builderd: applied ${applied.join(', ')}\n`,
      )
      return 0
    }),
}

export const validateDb: Command<Config> = {
  summary: 'exit 0 when the schema is exactly this version’s, 1 with the difference',
  run: (args, { config, base }) =>
    withDatabase(config, base, async sql => {
      if (args.length > 0) return misused('validate-db takes no arguments')
      const wanted = (await readdir(folder)).filter(name => name.endsWith('.sql')).sort()
      const [found] = await sql<{ table: string | null }[]>`select to_regclass('builderd.migration')::text as table`
      const rows = found?.table
        ? await sql<{ name: string }[]>`select name from builderd.migration order by version`
        : []
      const applied = rows.map(row => row.name)
      const missing = wanted.filter(name => !applied.includes(name))
      const unknown = applied.filter(name => !wanted.includes(name))
      if (missing.length === 0 && unknown.length === 0) {
        process.stdout.write('builderd: the schema is this version’s\n')
        return 0
      }
      for (const name of missing) process.stdout.write(`missing: ${name} (run builderd migrate)\n`)
      for (const name of unknown) process.stdout.write(`unknown here: ${name} (a newer builderd was here)\n`)
      return 1
    }),
}

export const testDatabase: Command<Config> = {
  summary: 'connect to the database and exit (the guide writes it --test-database)',
  run: (_, { config, base }) =>
    withDatabase(config, base, async sql => {
      const [row] = await sql<{ version: string; schema: boolean }[]>`
        select current_setting('server_version') as version, to_regclass('builderd.builds') is not null as schema`
      process.stdout.write(
        `builderd: connected to PostgreSQL ${row?.version}, ${row?.schema ? 'schema builderd is there' : 'no schema yet (builderd migrate)'}\n`,
      )
      return 0
    }),
}

export const dryRun: Command<Config> = {
  summary: 'check configuration, folders and database, and exit (also --dry-run)',
  async run(args, context) {
    const folders = makeFolders(foldersOf(context.config, isSystemRootWritable()))
    for (const folder of [folders.scratch, folders.output, folders.cache]) {
      const probe = join(folder, `.probe-${process.pid}`)
      await writeFile(probe, '')
      await rm(probe)
      const { freeBytes } = await spaceOf(folder)
      process.stdout.write(`${folder}: writable, ${formatBytes(freeBytes)} free\n`)
    }
    return testDatabase.run(args, context)
  },
}

const tenantUsage = `Usage: builderd tenant list
       builderd tenant show ID
       builderd tenant set ID --tier ${tiers.join('|')}|default
`

export const tenant: Command<Config> = {
  summary: 'list, show ID, set ID --tier TIER: what tenants may use',
  run: (args, { config, base }) =>
    withDatabase(config, base, async sql => {
      await applyMigrations(sql, { schema: 'builderd', folder, log: base.log })
      const [action, tenantId, flag, tier] = args
      if (action === 'list' && args.length === 1) {
        for (const row of await listTenants(sql))
          process.stdout.write(`${row.tenantId.padEnd(40)} ${row.tier}${row.isTierSet ? '' : ' (default)'}\n`)
        return 0
      }
      if (action === 'show' && tenantId !== undefined && args.length === 2) {
        const row = await findTenant(sql, tenantId)
        if (!row) {
          process.stderr.write(`builderd: tenant ${tenantId} has not been seen\n`)
          return 1
        }
        const limits = tierLimits(
          row.tier,
          {
            defaultTier: config.defaultTier,
            defaultFigures: {},
            allowedRegistries: undefined,
            retentionDays: config.retentionDays,
          },
          row.overrides,
        )
        process.stdout.write(`${JSON.stringify({ ...row, limits }, null, 2)}\n`)
        return 0
      }
      if (
        action === 'set' &&
        tenantId !== undefined &&
        flag === '--tier' &&
        tier !== undefined &&
        (tier === 'default' || isTier(tier))
      ) {
        await setTier(sql, tenantId, tier === 'default' ? null : tier, config.defaultTier)
        process.stdout.write(`tenant ${tenantId} is ${tier === 'default' ? `${config.defaultTier} (default)` : tier}\n`)
        return 0
      }
      return misused(tenantUsage)
    }),
}

function misused(text: string): number {
  process.stderr.write(`${text.trimEnd()}\n`)
  return 2
}

async function withDatabase(config: Config, { log }: Base, work: (sql: Sql) => Promise<number>): Promise<number> {
  const folders = makeFolders(foldersOf(config, isSystemRootWritable()))
  const database = await resolveDatabase({
    url: databaseUrlOf(config),
    dir: join(folders.root, 'postgres'),
    dataDir: config.dataDir,
    log,
  })
  const sql = openSql({ url: database.url, max: 2, applicationName: 'builderd command', log })
  try {
    return await work(sql)
  } catch (error) {
    process.stderr.write(`builderd: ${error instanceof Error ? error.message : String(error)}\n`)
    return 1
  } finally {
    await sql.end({ timeout: 5 })
    await database.close()
  }
}
