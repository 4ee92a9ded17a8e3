import { runMain } from '#platform/lifecycle'
import { convert } from './cli/convert.ts'
import { spec } from './config.ts'
import { start } from './service.ts'

await runMain({ spec, start, commands: { convert }, configExitCode: 1 })
