import { runMain } from '#platform/lifecycle'
import { commands } from './commands/commands.ts'
import { spec } from './config.ts'
import { start } from './service.ts'

// Exit code 2 for a wrong configuration is the guide's. Calls get BUDGETGUARD_DRAIN_TIMEOUT to finish.
await runMain({ spec, start, commands, configExitCode: 2, stopTimeoutMs: 60_000 })
