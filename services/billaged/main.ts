import { runMain, version } from '#platform/lifecycle'
import { spec } from './config.ts'
import { start } from './service.ts'

// The guide's three lines, where other services print one.
if (process.argv.slice(2).some(arg => /^--?v(ersion)?$/.test(arg)))
  process.stdout.write(
    `billaged - VM Usage Billing Service\nVersion: ${version()}\nBuilt with: Node ${process.version}\n`,
  )
else await runMain({ spec, start, configExitCode: 1 })
