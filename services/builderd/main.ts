import { runMain } from '#platform/lifecycle'
import { migrate, tenant, validateDb } from './cli/admin.ts'
import { convert } from './cli/convert.ts'
import { spec } from './config.ts'
import { start } from './service.ts'

await runMain({
  spec,
  start,
  commands: { convert, migrate, 'validate-db': validateDb, tenant },
  // The guide: --validate-config answers 0 or 1.
  configExitCode: 1,
})
