// builderd-cli: the one place that reads its arguments and environment.

import { systemClock } from '#platform/time'
import { runCli } from './cli/commands.ts'

process.exitCode = await runCli(process.argv.slice(2), {
  env: process.env,
  clock: systemClock,
  out: text => void process.stdout.write(text),
  talk: text => void process.stderr.write(text),
})
