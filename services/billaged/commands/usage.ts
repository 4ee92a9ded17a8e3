import type { Priced, Usage } from '../api.ts'
import { command, exitFailure, exitOk, required } from './command.ts'
import { clockTime, grouped, money, table } from './format.ts'

export const usage = command({
  summary: 'what a customer used, and how much time is missing',
  usage: 'usage CUSTOMER [--from TIME] [--to TIME] [--by meter|vm|day|hour] [--json]',
  options: ['from', 'to', 'by'],
  async run({ words, flags, client, print }) {
    const id = required(words[0], 'the customer')
    const query = new URLSearchParams(
      Object.entries(flags).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
    )
    const found = await client.get<Usage>(`/v1/customers/${encodeURIComponent(id)}/usage?${query}`)
    const { measuredNs, unmeasuredNs, hostDownNs, estimatedNs } = found.ledger
    print(found, [
      ...table(found.rows.map(row => [row.vmId ?? row.from ?? '', row.meter, `${grouped(row.quantity)} ${row.unit}`])),
      `measured ${clockTime(measuredNs)} · estimated ${clockTime(estimatedNs)} · unmeasured ${clockTime(unmeasuredNs)} · host down ${clockTime(hostDownNs)}`,
    ])
    return exitOk
  },
})

export const preview = command({
  summary: 'what a period costs, or would cost under another plan; nothing is stored',
  usage: 'preview CUSTOMER [--plan ID] [--from TIME] [--to TIME] [--json]',
  options: ['plan', 'from', 'to'],
  async run({ words, flags, client, print }) {
    const priced = await client.post<Priced>('/v1/preview', {
      customerId: required(words[0], 'the customer'),
      ...(flags.plan === undefined ? {} : { planId: flags.plan }),
      ...(flags.from === undefined ? {} : { from: flags.from }),
      ...(flags.to === undefined ? {} : { to: flags.to }),
    })
    print(priced, [
      ...table([
        ...priced.lines.map(line => [
          line.priceId ?? line.kind,
          grouped(line.quantity),
          money(priced.currency, line.amountNano),
        ]),
        ['total', '', money(priced.currency, priced.totalNano)],
      ]),
      ...priced.unrated.map(item => `unrated: ${item.meter} ${grouped(item.quantity)} ${item.unit}`),
    ])
    return exitOk
  },
})

export const status = command({
  summary: 'is it well, and what is waiting',
  usage: 'status [--json]',
  async run({ client, print }) {
    const health = await client.get<{
      status: string
      version: string
      checks: Record<string, { status: string; detail?: string }>
    }>('/health')
    const stats = await client.get<{ active_vms: number; journal_bytes: number }>('/stats')
    print({ health, stats }, [
      `billaged ${health.version}: ${health.status}, ${stats.active_vms} VMs active, ${stats.journal_bytes} bytes to fold`,
      ...table(Object.entries(health.checks).map(([name, check]) => [`  ${name}`, check.status, check.detail ?? ''])),
    ])
    return health.status === 'unhealthy' ? exitFailure : exitOk
  },
})
