// What a person reads when everything is up.

import { join, relative } from 'node:path'
import { version } from '#platform/lifecycle'
import { mintToken } from '#platform/tenancy/token'
import { systemClock } from '#platform/time'
import { type PlannedService, serviceDir } from './plan.ts'
import type { Terminal } from './terminal.ts'

export function welcomeText(o: {
  services: readonly PlannedService[]
  /** Names of those that are not ready. */
  missing: readonly string[]
  secret: Buffer
  dataDir: string
  tookMs: number
  terminal: Terminal
  hasGivenAdminKey: boolean
}): string {
  const { services, terminal: t } = o
  const lines = ['', t.bold(`Purser ${version()} is up after ${(o.tookMs / 1_000).toFixed(1)} s`), '']
  const row = (name: string, text: string) => lines.push(`  ${name.padEnd(18)} ${text}`)
  for (const { name, url, ports } of services)
    row(
      name,
      `${url}${o.missing.includes(name) ? t.red('   not ready; npx purser doctor says more') : ports.length > 1 ? t.dim(`   metrics on ${ports[1]?.port}`) : ''}`,
    )
  lines.push('')
  const gateway = services.find(service => service.name === 'budgetguard')
  if (gateway) {
    const console = `${gateway.url.replace('127.0.0.1', 'localhost')}/dashboard`
    // A one-time link on a terminal is for the person before it; in a log file it would be a credential.
    if (t.isInteractive) {
      const token = mintToken(o.secret, {
        audience: 'console-login',
        role: 'owner',
        subject: 'console',
        ttlS: 600,
        clock: systemClock,
      })
      row('Console', `${console}#token=${token}`)
      row('', t.dim('signs you in once, within 10 minutes'))
    } else row('Console', console)
    row(
      'Admin key',
      o.hasGivenAdminKey
        ? 'as given in ADMIN_API_KEY'
        : `in ${showPath(join(serviceDir(o.dataDir, 'budgetguard'), 'admin-key'))}`,
    )
  }
  if (services.some(service => service.name === 'log-ingestion'))
    row('Logs write key', `in ${showPath(join(serviceDir(o.dataDir, 'log-ingestion'), 'write-key'))}`)
  lines.push(
    '',
    t.dim(
      '  Next: `npx purser demo` sends realistic traffic, `npx purser status` shows what runs. Ctrl-C stops everything.',
    ),
    '',
  )
  return lines.join('\n')
}

function showPath(path: string): string {
  const shown = relative(process.cwd(), path)
  return shown.startsWith('..') ? path : shown
}
