import { formatUsd } from '#platform/money'
import type { Invoice } from '../api.ts'
import { csvCell } from './escape.ts'

const columns = [
  'invoice',
  'number',
  'customer',
  'currency',
  'line',
  'kind',
  'description',
  'price',
  'meter',
  'group',
  'from',
  'to',
  'quantity',
  'unit',
  'amount',
  'adjusts',
] as const

/** A row a line, exact: quantities in base units, amounts as plain decimals of the currency. */
export function renderCsv(invoice: Invoice): string {
  const rows = invoice.lines.map(line => [
    invoice.id,
    invoice.number ?? '',
    invoice.customerId,
    invoice.currency,
    line.id,
    line.kind,
    line.description,
    line.priceId ?? '',
    line.meter ?? '',
    Object.entries(line.group)
      .map(([key, value]) => `${key}=${value}`)
      .join(' '),
    line.segment.from,
    line.segment.to,
    line.quantity,
    line.unit ?? '',
    formatUsd(BigInt(line.amountNano)),
    line.adjusts ?? '',
  ])
  return [columns, ...rows].map(row => `${row.map(csvCell).join()}\r\n`).join('')
}
