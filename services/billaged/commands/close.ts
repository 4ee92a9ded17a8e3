import { formatUsd } from '#platform/money'
import type { CloseReport, InvoiceSummary } from '../api.ts'
import type { Verification } from '../close/verify.ts'
import { UsageError } from './client.ts'
import { command, exitBlocked, exitOk, required } from './command.ts'
import { grouped, money, table } from './format.ts'

export const close = command({
  summary: 'close a month: invoices of every customer with nothing in the way',
  usage: 'close YYYY-MM [--dry-run] [--customer ID[,ID…]] [--force REASON] [--json]',
  options: ['customer', 'force'],
  switches: ['dry-run'],
  async run({ words, flags, isOn, client, print }) {
    const month = required(words[0], 'the month, such as 2026-10,')
    if (!/^\d{4}-\d{2}$/.test(month)) throw new UsageError(`the month is ${month}; write it like 2026-10`)
    const report = await client.post<CloseReport>(`/v1/close/${month}`, {
      dryRun: isOn('dry-run'),
      ...(flags.customer === undefined ? {} : { customers: flags.customer.split(',') }),
      ...(flags.force === undefined ? {} : { force: { reason: flags.force } }),
    })
    const counts = [
      ...(report.dryRun ? [`${report.ready.length} ready`] : []),
      ...(report.dryRun && report.finalised.length === 0 ? [] : [`${report.finalised.length} finalised`]),
      `${report.blocked.length} blocked`,
    ]
    const blocked = report.blocked.flatMap(({ customerId, reasons }) =>
      reasons.map(({ code, detail, fix }) => `  ${customerId}: ${code} ${detail} → ${fix}`),
    )
    const ready = table(report.ready.map(row => [`  ${row.customerId}`, money(row.currency, row.totalNano)]))
    const written = new Set(report.dryRun || isOn('json') ? [] : report.finalised)
    const { invoices } =
      written.size === 0
        ? { invoices: [] }
        : await client.get<{ invoices: InvoiceSummary[] }>(`/v1/invoices?period=${month}&state=finalised&limit=1000`)
    const finalised = table(
      invoices
        .filter(({ id }) => written.has(id))
        .sort((a, b) => ((a.number ?? '') < (b.number ?? '') ? -1 : 1))
        .map(row => [`  ${row.number}`, row.customerId, money(row.currency, row.totalNano ?? '0')]),
    )
    print(report, [counts.join(' · '), ...ready, ...finalised, ...blocked])
    return report.blocked.length > 0 ? exitBlocked : exitOk
  },
})

export const verify = command({
  summary: 'do everything that is stored for ever again, and name every difference',
  usage: 'verify [--json]',
  async run({ client, print }) {
    const result = await client.post<Verification>('/v1/verify')
    const { receipts, documents, hours, parts } = result.checked
    const count = (n: number, one: string) => `${grouped(`${n}`)} ${one}${n === 1 ? '' : 's'}`
    print(result, [
      `${count(receipts, 'receipt')}, ${count(documents, 'document')}, ${count(hours, 'hour')} of usage and ${count(parts, 'part')} of readings checked: ${count(result.problems.length, 'difference')}`,
      ...result.problems.map(problem => `  ${problem}`),
      ...result.pending.map(
        ({ customerId, amountNano }) =>
          `  ${customerId}: corrections of ${formatUsd(BigInt(amountNano))} wait for the next invoice`,
      ),
    ])
    return result.ok ? exitOk : exitBlocked
  },
})

interface Replicas {
  replicas: { id: string; isThisOne: boolean; lastSeen: string; foldedUntil: string | null; retiredAt: string | null }[]
}

export const replica = command({
  summary: 'list replicas, or retire one whose journal is lost for ever',
  usage: 'replica [retire ID] [--json]',
  async run({ words, client, print }) {
    if (words[0] === 'retire') {
      const id = required(words[1], 'the id of the replica')
      const answer = await client.post<unknown>(`/v1/replicas/${encodeURIComponent(id)}/retire`)
      print(answer, [`${id} is retired: no close waits for it`])
      return exitOk
    }
    const list = await client.get<Replicas>('/v1/replicas')
    print(
      list,
      table(
        list.replicas.map(row => [
          row.id,
          row.isThisOne ? 'this one' : row.retiredAt === null ? '' : 'retired',
          `folded until ${row.foldedUntil ?? 'unknown'}`,
        ]),
      ),
    )
    return exitOk
  },
})
