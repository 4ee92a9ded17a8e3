import { runMain } from '#platform/lifecycle'
import { migrate } from './cli/migrate.ts'
import { spec } from './config.ts'
import { start } from './service.ts'

await runMain({ spec, start, envFileVariable: 'LOG_INGESTION_ENV_FILE', commands: { migrate } })
