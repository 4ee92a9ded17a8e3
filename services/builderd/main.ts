import { runMain } from '#platform/lifecycle'
import { dryRun, migrate, tenant, testDatabase, validateDb } from './cli/admin.ts'
import { convert } from './cli/convert.ts'
import { spec } from './config.ts'
import { start } from './service.ts'

// The guide writes two of the commands as flags, with one dash or two.
process.argv = process.argv.map(arg => /^--?(test-database|dry-run)$/.exec(arg)?.[1] ?? arg)

await runMain({
  spec,
  start,
  commands: { convert, migrate, 'validate-db': validateDb, tenant, 'test-database': testDatabase, 'dry-run': dryRun },
  // The guide: --validate-config answers 0 or 1.
  configExitCode: 1,
})
