import { runMain } from '#platform/lifecycle'
import { migrate } from './cli/migrate.ts'
import { spec } from './config.ts'
import { start } from './service.ts'

await runMain({
  spec,
  start,
  envFileVariable: 'LOG_INGESTION_ENV_FILE',
  // SHUTDOWN_TIMEOUT may be ten minutes; every part has a deadline of its own.
  stopTimeoutMs: 11 * 60_000,
  commands: { migrate },
})
