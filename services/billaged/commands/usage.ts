import type { Comparison, Priced, Usage } from '../api.ts'
import { type Call, command, exitFailure, exitOk, required } from './command.ts'
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
  usage: 'preview [CUSTOMER] [--plan ID] [--from TIME] [--to TIME] [--json]   (no customer: all of them, under --plan)',
  options: ['plan', 'from', 'to'],
  async run(call) {
    const { words, flags, client, print } = call
    if (words[0] === undefined) return compare(call)
    const priced = await client.post<Priced>('/v1/preview', {
      customerId: words[0],
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

/** Who would pay less and who more under a plan. Page by page: each customer is rated twice. */
async function compare({ flags, client, print }: Call): Promise<number> {
  const planId = required(flags.plan, '--plan (or a customer)')
  const { from, to } = flags
  const rows: Comparison['rows'] = []
  for (let cursor: string | null = ''; cursor !== null; ) {
    const page: Comparison = await client.post<Comparison>('/v1/preview/compare', {
      planId,
      cursor,
      ...(from === undefined ? {} : { from }),
      ...(to === undefined ? {} : { to }),
    })
    rows.push(...page.rows)
    cursor = page.nextCursor
  }
  const amount = (row: Comparison['rows'][number], nano: string | null) =>
    nano === null ? '?' : money(row.currency, nano)
  print(
    { planId, rows },
    table([
      ['customer', 'now', planId, 'difference'],
      ...rows.map(row => [
        row.customerId,
        amount(row, row.nowNano),
        amount(row, row.thenNano),
        amount(row, row.differenceNano),
      ]),
    ]),
  )
  return exitOk
}

/** FOCUS rows of a month's finalised invoices, on stdout. */
export const exportFocus = command({
  summary: 'finalised invoices of a month as FOCUS 1.2 CSV',
  usage: 'export YYYY-MM [--customer ID]',
  options: ['customer'],
  async run({ words, flags, client, write }) {
    const month = required(words[0], 'the month, such as 2026-10,')
    const customer = flags.customer === undefined ? '' : `&customer=${encodeURIComponent(flags.customer)}`
    write(await client.text(`/v1/exports/focus?period=${encodeURIComponent(month)}${customer}`))
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
