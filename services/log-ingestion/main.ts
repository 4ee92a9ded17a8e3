import { runMain } from '#platform/lifecycle'
import { spec } from './config.ts'
import { start } from './service.ts'

await runMain({ spec, start, envFileVariable: 'LOG_INGESTION_ENV_FILE' })
