import type { Explanation, Invoice, InvoiceSummary } from '../api.ts'
import { UsageError } from './client.ts'
import { command, exitOk, required } from './command.ts'
import { clockTime, grouped, money, monthTitle, table } from './format.ts'

export const invoice = command({
  summary: 'show an invoice, the one of a month, or list them',
  usage: 'invoice [ID | CUSTOMER YYYY-MM] [--format json|csv|html] [--customer ID] [--json]',
  options: ['format', 'customer'],
  async run({ words, flags, client, print, write }) {
    const [first, month] = words
    if (first === undefined) {
      const query = flags.customer === undefined ? '' : `&customer=${encodeURIComponent(flags.customer)}`
      const list = await client.get<{ invoices: InvoiceSummary[] }>(`/v1/invoices?limit=1000${query}`)
      const rows = list.invoices.map(row => [
        row.number ?? row.id,
        row.customerId,
        row.period.from.slice(0, 10),
        row.state,
        row.totalNano === null ? '' : money(row.currency, row.totalNano),
      ])
      print(list, rows.length === 0 ? ['No invoices yet: billaged close YYYY-MM'] : table(rows))
      return exitOk
    }
    const path =
      month === undefined
        ? `/v1/invoices/${encodeURIComponent(first)}`
        : `/v1/invoices/draft?customer=${encodeURIComponent(first)}&period=${encodeURIComponent(month)}`
    if (flags.format !== undefined) {
      if (!['json', 'csv', 'html'].includes(flags.format))
        throw new UsageError(`--format is ${flags.format}; it is json, csv or html`)
      const { id } = await client.get<Invoice>(path)
      write(await client.text(`/v1/invoices/${id}.${flags.format}`))
      return exitOk
    }
    const found = await client.get<Invoice>(path)
    print(found, [
      `${found.number ?? 'Draft'} · ${found.customerName ?? found.customerId} · ${monthTitle(found.period.from)} · ${found.state}`,
      ...table([
        ...found.lines.map(line => [`  ${line.id}`, line.description, money(found.currency, line.amountNano)]),
        ['  due', '', `${found.currency} ${found.due}`],
      ]),
      ...found.blockers.map(({ code, detail, fix }) => `  ${code}: ${detail} → ${fix}`),
    ])
    return exitOk
  },
})

export const voidInvoice = command({
  summary: 'make an invoice void; its period is billed anew under the next number',
  usage: 'void INVOICE --reason TEXT [--json]',
  options: ['reason'],
  async run({ words, flags, client, print }) {
    const id = required(words[0], 'the invoice')
    const reason = required(flags.reason, '--reason')
    const answer = await client.post<{ number: string; replacement: string }>(`/v1/invoices/${id}/void`, { reason })
    print(answer, [`${answer.number} is void; ${answer.replacement} is the draft in its place`])
    return exitOk
  },
})

export const explain = command({
  summary: 'explain an invoice line: price, arithmetic, hours, receipt',
  usage: 'explain LINE [--vm VM] [--json]',
  options: ['vm'],
  async run({ words, flags, client, print }) {
    const id = required(words[0], 'the line, such as li_7f3k…,')
    const vm = flags.vm === undefined ? '' : `?vm=${encodeURIComponent(flags.vm)}`
    const explanation = await client.get<Explanation>(`/v1/lines/${encodeURIComponent(id)}/explain${vm}`)
    print(explanation, explanationLines(explanation))
    return exitOk
  },
})

export function explanationLines(e: Explanation): string[] {
  const { line, invoice: of } = e
  const title = `${of.customerId} · ${monthTitle(of.period.from)} · ${line.description}`
  const rows: [string, string][] = []
  if (e.plan !== null)
    rows.push([
      'price',
      `${line.priceId} of ${e.plan.id} v${e.plan.version} (from ${e.plan.effectiveFrom.slice(0, 10)}), ${line.model}`,
    ])
  if (line.meter !== null) {
    const hours = e.vms?.reduce((sum, vm) => sum + vm.hours, 0)
    const of = e.vms === null ? '' : `  (${e.vms.length} VMs, ${grouped(`${hours}`)} hours)`
    rows.push(['quantity', `${grouped(line.quantity)} of ${line.meter}${of}`])
  }
  if (line.freeQuantity !== '0') rows.push(['allowance', `${grouped(line.freeQuantity)} of it are free`])
  for (const tier of line.tiers)
    rows.push([
      'tier',
      `${tier.tier + 1}: ${grouped(tier.quantity)} at ${tier.amountNano}${tier.flatNano === '0' ? '' : ` + ${tier.flatNano}`}`,
    ])
  const quotient = (BigInt(line.dividend) - BigInt(line.remainder)) / BigInt(line.divisor)
  rows.push(['floor', `${line.dividend} ÷ ${line.divisor} = ${quotient} rem ${line.remainder}`])
  if (line.adjusts !== null)
    rows.push(['corrects', `${line.adjusts}: ${quotient} now, ${line.billedNano} billed (${line.cause})`])
  for (const vm of e.vms ?? []) {
    const { unmeasuredNs, hostDownNs } = vm.notBilled
    const why = [
      unmeasuredNs === '0' ? '' : `${clockTime(unmeasuredNs)} unmeasured (host seen, no readings)`,
      hostDownNs === '0' ? '' : `${clockTime(hostDownNs)} host not heard`,
    ].filter(text => text !== '')
    if (why.length > 0) rows.push(['not billed', `${vm.vmId}: ${why.join(', ')}, policy ${e.plan?.gapPolicy}`])
  }
  for (const event of e.events ?? [])
    rows.push(['events', `${grouped(`${event.count}`)} of ${event.type}, digest ${event.digest.slice(0, 8)}…`])
  for (const hour of e.hours ?? [])
    rows.push(['hour', `${hour.from}  ${grouped(hour.quantity)}  ${hour.samples} samples ${hour.digest.slice(0, 8)}…`])
  if (e.evidence !== null && e.receipt !== null)
    rows.push([
      'evidence',
      `${grouped(`${e.evidence.leaves}`)} leaves, Merkle root ${e.evidence.root.slice(0, 8)}…; receipt #${e.receipt.seq} chained to ${e.receipt.prevHash.slice(0, 8)}…`,
    ])
  const [head = ''] = table([[title, money(of.currency, line.amountNano)]])
  return [head, ...rows.map(([name, text]) => `  ${name.padEnd(10)}${name.length >= 10 ? ' ' : ''}${text}`)]
}
