// `purser demo`: three tenants use the running platform as customers would, through the same doors customers use.
//
//   acme     four VMs with a backdated day and live samples, AI calls on a comfortable budget
//   globex   AI calls on a budget that runs out while you watch: the refusals are the point
//   initech  application logs, and an image build
//
// Everything is made once and found again on the next run; only traffic is new.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { loadSecret } from '#platform/tenancy/secret'
import { sleep, systemClock } from '#platform/time'
import type { Config } from './config.ts'
import { aiTraffic, prepareAi } from './demo/ai.ts'
import { buildTraffic } from './demo/builds.ts'
import { type Caller, openCaller } from './demo/caller.ts'
import { logTraffic } from './demo/logs.ts'
import { prepareBilling, vmTraffic } from './demo/vms.ts'
import { type ServiceName, serviceDir } from './plan.ts'
import { readRunFile } from './run-file.ts'
import { openTerminal, table } from './terminal.ts'

export interface DemoOptions {
  seconds: number
  isJson: boolean
}

/** What one kind of traffic did; counts by outcome. */
export interface Tally {
  what: string
  tenant: string
  counts: Record<string, number>
}

/** Exit code 1 when nothing runs or a part could not do anything at all. */
export async function demo(config: Config, { seconds, isJson }: DemoOptions): Promise<number> {
  const run = readRunFile(config.dataDir)
  if (!run) {
    process.stderr.write(`Nothing runs from ${config.dataDir}. Start with: npm start\n`)
    return 1
  }
  const t = openTerminal(isJson ? process.stderr : process.stdout)
  const secret = await loadSecret({ dataDir: config.dataDir })
  const urlOf = (name: ServiceName) => run.services.find(service => service.name === name)?.url
  const caller = openCaller({ urlOf, secret, clock: systemClock, adminKey: readAdminKey(config.dataDir) })
  const stop = new AbortController()
  process.once('SIGINT', () => stop.abort())

  t.print(`Sending traffic of acme, globex and initech for ${seconds} s. Ctrl-C ends it.`)
  const keys = urlOf('budgetguard') ? await prepareAi(caller) : undefined
  if (urlOf('billaged')) await prepareBilling(caller)
  const ends = AbortSignal.any([stop.signal, AbortSignal.timeout(seconds * 1_000)])
  const parts: Promise<Tally[]>[] = []
  if (keys) parts.push(aiTraffic(caller, keys, ends))
  if (urlOf('billaged')) parts.push(vmTraffic(caller, ends))
  if (urlOf('log-ingestion')) parts.push(logTraffic(caller, ends))
  if (urlOf('builderd')) parts.push(buildTraffic(caller, config.dataDir, ends))
  const tallies = (await Promise.all(parts)).flat()

  await sleep(1_500) // The last usage reports are on their way; what we print next should include them.
  if (isJson) process.stdout.write(`${JSON.stringify({ tallies }, null, 2)}\n`)
  else {
    t.print('')
    t.print(
      table(
        ['TRAFFIC', 'TENANT', 'OUTCOME'],
        tallies.map(({ what, tenant, counts }) => [what, tenant, describe(counts)]),
      ),
    )
    await printBill(caller, t.print)
  }
  return tallies.some(({ counts }) => Object.values(counts).some(n => n > 0)) ? 0 : 1
}

function readAdminKey(dataDir: string): string {
  const given = process.env.BUDGETGUARD_ADMIN_API_KEY ?? process.env.ADMIN_API_KEY
  if (given) return given
  try {
    return readFileSync(join(serviceDir(dataDir, 'budgetguard'), 'admin-key'), 'utf8').trim()
  } catch {
    return ''
  }
}

function describe(counts: Record<string, number>): string {
  return Object.entries(counts)
    .map(([outcome, n]) => `${n} ${outcome}`)
    .join(' · ')
}

async function printBill(caller: Caller, print: (text: string) => void) {
  const month = new Date().toISOString().slice(0, 7)
  const rows: string[][] = []
  for (const tenant of ['acme', 'globex', 'initech']) {
    const usage = await caller
      .get<{ rows: { meter: string; quantity: string; unit?: string }[] }>(
        'billaged',
        `/v1/customers/${tenant}/usage?from=${month}-01T00:00:00Z&to=${new Date().toISOString()}&by=meter`,
      )
      .catch(() => undefined)
    for (const row of usage?.rows ?? [])
      if (row.quantity !== '0') rows.push([tenant, row.meter, row.quantity, row.unit ?? ''])
  }
  if (rows.length > 0)
    print(`\nUsage this month, as billaged counts it:\n\n${table(['TENANT', 'METER', 'QUANTITY', 'UNIT'], rows)}`)
}
