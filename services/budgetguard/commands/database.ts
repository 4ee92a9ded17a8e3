// The database for a command: the configured one, the one a running process uses, or the embedded one, started for
// as long as the command takes.

import { join } from 'node:path'
import type { Base } from '#platform/lifecycle'
import { resolveDatabase, type Sql } from '#platform/postgres'
import type { Config } from '../config.ts'
import { openPools, waitForDatabase } from '../store/database.ts'
import { readRunFile } from '../store/run-file.ts'

export async function withDatabase<T>(config: Config, base: Base, work: (sql: Sql) => Promise<T>): Promise<T> {
  const folder = join(config.dataDir, 'budgetguard')
  const database = await resolveDatabase({
    url: config.databaseUrl ?? config.platformDatabaseUrl ?? readRunFile(folder)?.databaseUrl ?? undefined,
    dir: join(folder, 'postgres'),
    dataDir: config.dataDir,
    log: base.log,
  })
  const pools = openPools({ url: database.url, log: base.log })
  try {
    await waitForDatabase(pools.money, base.log, () => base.clock.monotonicMs())
    return await work(pools.money)
  } finally {
    await pools.close()
    await database.close()
  }
}
