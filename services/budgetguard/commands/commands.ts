// What can be typed after `budgetguard`.

import type { Command } from '#platform/lifecycle'
import type { Config } from '../config.ts'
import { demo } from './demo.ts'
import { migrate } from './migrate.ts'
import { seed } from './seed.ts'
import { rebuildCounters, verifyLedger } from './verify.ts'
import { worker } from './worker.ts'

export const commands: Readonly<Record<string, Command<Config>>> = {
  worker: {
    summary: 'answer health on port 3002; the work itself runs inside budgetguard',
    run: (_, { config, base }) => worker(config, base),
  },
  migrate: {
    summary: 'bring the database up to date; migrate status lists what is applied',
    run: (args, { config, base }) => migrate(args, config, base),
  },
  seed: {
    summary: 'make DEFAULT_TENANT, its limits, prices and one key',
    run: (_, { config, base }) => seed(config, base),
  },
  demo: {
    summary: 'make a tenant and a call; --race sends 100 at a budget for 10',
    run: (args, { config, base }) => demo(args, config, base),
  },
  'verify-ledger': {
    summary: 'check balances, triggers and that accounts equal the ledger; exit 3 when not',
    run: (_, { config, base }) => verifyLedger(config, base),
  },
  'rebuild-counters': {
    summary: 'recompute accounts from the ledger; --check only compares',
    run: (args, { config, base }) => rebuildCounters(args, config, base),
  },
}
