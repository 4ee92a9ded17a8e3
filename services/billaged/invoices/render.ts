import { formatUsd } from '#platform/money'
import type { Invoice, InvoiceLineView } from '../api.ts'

// An invoice as JSON, CSV and HTML. Rendered once, when it is finalised; the bytes are stored and never made again.
// Text that customers and operators wrote is escaped for the format it goes into.

export const formats = ['json', 'csv', 'html'] as const

export function render(invoice: Invoice, format: (typeof formats)[number]): Buffer {
  switch (format) {
    case 'json':
      return Buffer.from(`${JSON.stringify(invoice, null, 2)}\n`)
    case 'csv':
      return Buffer.from(renderCsv(invoice))
    case 'html':
      return Buffer.from(renderHtml(invoice))
    default:
      return format satisfies never
  }
}

const csvColumns = [
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
  'amount',
  'adjusts',
] as const

function renderCsv(invoice: Invoice): string {
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
    groupText(line),
    line.segment.from,
    line.segment.to,
    line.quantity,
    formatAmount(line.amountNano),
    line.adjusts ?? '',
  ])
  return [csvColumns, ...rows].map(row => `${row.map(csvCell).join()}\r\n`).join('')
}

/** A cell that a spreadsheet would take for a formula is marked as text; a plain number is none. */
export function csvCell(text: string): string {
  const isNumber = /^-?\d+(\.\d+)?$/.test(text)
  const safe = !isNumber && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text
  return /[",\r\n']/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}

function renderHtml(invoice: Invoice): string {
  const rows = invoice.lines.map(
    line =>
      `<tr class="${line.kind}"><td>${html(line.description)}${detail(line)}</td><td class="number">${
        line.quantity === '0' ? '' : html(line.quantity)
      }</td><td class="number">${formatAmount(line.amountNano)}</td></tr>`,
  )
  const title = `${invoice.number ?? 'Draft'} · ${invoice.customerName ?? invoice.customerId}`
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>${html(title)}</title>
<style>
body { font: 14px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 3rem auto; padding: 0 1rem; color: #1a1a1a }
h1 { font-size: 1.5rem; margin-bottom: 0 }
table { width: 100%; border-collapse: collapse; margin-top: 2rem }
th, td { text-align: left; padding: 0.4rem 0.5rem; border-bottom: 1px solid #ddd; vertical-align: top }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
small { color: #666; display: block }
tfoot td { font-weight: 600; border-bottom: 0 }
</style>
</head>
<body>
<h1>${html(invoice.number ?? 'Draft')}</h1>
<p>${html(invoice.customerName ?? invoice.customerId)} (${html(invoice.customerId)})<br>
${day(invoice.period.from)} to ${day(invoice.period.to)}, end excluded, UTC${
    invoice.issuedAt === null ? '' : `<br>\nIssued ${day(invoice.issuedAt)}`
  }</p>
<table>
<thead><tr><th>Item</th><th class="number">Quantity</th><th class="number">Amount (${html(invoice.currency)})</th></tr></thead>
<tbody>
${rows.join('\n')}
</tbody>
<tfoot><tr><td>Amount due</td><td></td><td class="number">${html(invoice.currency)} ${html(invoice.due)}</td></tr></tfoot>
</table>
<p><small>${html(invoice.id)}</small></p>
</body>
</html>
`
}

function detail(line: InvoiceLineView): string {
  const parts = [
    line.meter === null ? '' : line.meter,
    groupText(line),
    line.adjusts === null ? '' : `corrects ${line.adjusts}`,
    line.id,
  ].filter(part => part !== '')
  return `<small>${html(parts.join(' · '))}</small>`
}

function groupText(line: InvoiceLineView): string {
  return Object.entries(line.group)
    .map(([key, value]) => `${key}=${value}`)
    .join(' ')
}

const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}

export function html(text: string): string {
  return text.replace(/[&<>"']/g, character => entities[character] ?? '')
}

/** Nano-units as a plain decimal of whole units: the currency's name stands beside it. */
function formatAmount(nano: string): string {
  return formatUsd(BigInt(nano))
}

function day(time: string): string {
  return html(time.slice(0, 10))
}
