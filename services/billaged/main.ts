import { runMain, version } from '#platform/lifecycle'
import { close, replica, verify } from './commands/close.ts'
import { explain, invoice, voidInvoice } from './commands/invoice.ts'
import { migrate } from './commands/migrate.ts'
import { outages } from './commands/outages.ts'
import { credit, plan, subscribe, unsubscribe } from './commands/plan.ts'
import { quarantine } from './commands/quarantine.ts'
import { reconcile } from './commands/reconcile.ts'
import { exportFocus, preview, status, usage } from './commands/usage.ts'
import { spec } from './config.ts'
import { start } from './service.ts'

// The guide's three lines, where other services print one.
if (process.argv.slice(2).some(arg => /^--?v(ersion)?$/.test(arg)))
  process.stdout.write(
    `billaged - VM Usage Billing Service\nVersion: ${version()}\nBuilt with: Node ${process.version}\n`,
  )
else
  await runMain({
    spec,
    start,
    configExitCode: 1,
    commands: {
      migrate,
      status,
      usage,
      preview,
      plan,
      subscribe,
      unsubscribe,
      credit,
      outages,
      invoice,
      explain,
      close,
      void: voidInvoice,
      verify,
      replica,
      quarantine,
      export: exportFocus,
      reconcile,
    },
  })
