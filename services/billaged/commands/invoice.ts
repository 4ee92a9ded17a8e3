import type { Explanation, Invoice, InvoiceSummary } from '../api.ts'
import { readDecimal } from '../decimal.ts'
import { type Price, priceSchema } from '../rating/plan.ts'
import { displayUnit, priceText, quantityText } from '../rating/units.ts'
import { UsageError } from './client.ts'
import { command, exitOk, required } from './command.ts'
import { clockTime, grouped, money, monthTitle, table } from './format.ts'

export const invoice = command({
  summary: 'show an invoice, the one of a month, or list them',
  usage:
    'invoice [ID | CUSTOMER YYYY-MM] [--format json|csv|html|pdf] [--customer ID] [--json]   (a PDF: > invoice.pdf)',
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
      if (!['json', 'csv', 'html', 'pdf'].includes(flags.format))
        throw new UsageError(`--format is ${flags.format}; it is json, csv, html or pdf`)
      const { id } = await client.get<Invoice>(path)
      write(await client.bytes(`/v1/invoices/${id}.${flags.format}`))
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
  const price = priceSchema.safeParse(e.price).data ?? null
  const title = `${of.customerName ?? of.customerId} · ${monthTitle(of.period.from)} · ${line.description}`
  const rows: [string, string][] = []
  if (e.plan !== null) {
    const text = price === null ? '' : ` ${priceText(price, of.currency, line.unit ?? '')}`
    const since = e.plan.effectiveFrom.slice(0, 10)
    rows.push(['price', `${line.priceId} of ${e.plan.id} v${e.plan.version} (from ${since}), ${line.model}${text}`])
  }
  if (line.meter !== null) rows.push(['quantity', quantityRow(e, price)])
  if (line.freeQuantity !== '0')
    rows.push(['allowance', `${grouped(line.freeQuantity)} ${line.unit ?? ''} of it are free`])
  for (const tier of line.tiers) {
    const fee = tier.flatNano === '0' ? '' : ` + ${money(of.currency, tier.flatNano)} once`
    const amount = money(of.currency, tier.amountNano)
    rows.push(['tier', `${tier.tier + 1}: ${grouped(tier.quantity)} ${line.unit ?? ''} at ${amount}${fee}`])
  }
  const quotient = (BigInt(line.dividend) - BigInt(line.remainder)) / BigInt(line.divisor)
  rows.push(['floor', `${dividendText(e, price)} ÷ ${line.divisor} = ${quotient} rem ${line.remainder}`])
  if (line.adjusts !== null)
    rows.push([
      'corrects',
      `${line.adjusts}: ${quotient} now − ${line.billedNano} billed (${line.cause?.replace('_', ' ') ?? ''})`,
    ])
  for (const vm of e.vms ?? []) {
    const { unmeasuredNs, hostDownNs, disputedNs } = vm.notBilled
    const rule = vm.rules.length === 0 ? '' : `; rule ${vm.rules.join(', ')}`
    const why = [
      unmeasuredNs === '0' ? '' : `${clockTime(unmeasuredNs)} unmeasured (host seen, no readings${rule})`,
      hostDownNs === '0'
        ? ''
        : `${clockTime(hostDownNs)} host not heard${unmeasuredNs === '0' && rule !== '' ? ` (${rule.slice(2)})` : ''}`,
      disputedNs === '0' ? '' : `${clockTime(disputedNs)} disputed (two hosts list it)`,
    ].filter(text => text !== '')
    if (why.length > 0) rows.push(['not billed', `${vm.vmId}: ${why.join(', ')}, policy ${e.plan?.gapPolicy}`])
  }
  for (const event of e.events ?? [])
    rows.push(['events', `${grouped(`${event.count}`)} of ${event.type}, digest ${event.digest.slice(0, 8)}…`])
  for (const hour of e.hours ?? [])
    rows.push([
      'hour',
      `${hour.from.slice(0, 16)}Z  ${grouped(hour.quantity)} ${line.unit ?? ''}  ${hour.samples} samples ${hour.digest.slice(0, 8)}…`,
    ])
  if (e.evidence !== null && e.receipt !== null)
    rows.push([
      'evidence',
      `${grouped(`${e.evidence.leaves}`)} leaves, Merkle root ${e.evidence.root.slice(0, 8)}…; receipt #${e.receipt.seq} chained to ${e.receipt.prevHash.slice(0, 8)}…`,
    ])
  const amount = money(of.currency, line.amountNano)
  return [
    `${title.padEnd(76 - amount.length)}  ${amount}`,
    ...rows.map(([name, text]) => `  ${name.padEnd(10)}${name.length >= 10 ? '  ' : ''}${text}`),
  ]
}

/** "444,444,440,436,000 ns = 123.45678901 core-hours  (3 VMs, 1,204 hours)". */
function quantityRow({ line, vms }: Explanation, price: Price | null): string {
  const per = price === null || price.model === 'flat' || price.model === 'cost_plus' ? null : perOf(price)
  const display = displayUnit(line.meter ?? '', line.unit ?? '', per)
  const said = display.base === 1n ? '' : ` = ${quantityText(readDecimal(line.quantity), display, 9)}`
  const count = (n: number, one: string) => `${grouped(`${n}`)} ${one}${n === 1 ? '' : 's'}`
  const hours = vms?.reduce((sum, vm) => sum + vm.hours, 0) ?? 0
  const of = vms === null ? '' : `  (${count(vms.length, 'VM')}, ${count(hours, 'hour')})`
  return `${grouped(line.quantity)} ${line.unit ?? ''}${said}${of}`
}

/** The product written out where there is one: quantity × price. */
function dividendText({ line }: Explanation, price: Price | null): string {
  const isWhole = !line.quantity.includes('.') && line.freeQuantity === '0'
  if (price?.model === 'per_unit' && isWhole && line.divisor === `${price.per}`)
    return `${line.quantity} × ${price.amountNano}`
  return line.dividend
}

function perOf(price: Exclude<Price, { model: 'flat' | 'cost_plus' }>): bigint {
  return price.model === 'package' ? price.packageSize : price.per
}
