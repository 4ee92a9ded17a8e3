import type { Invoice } from '../api.ts'
import { renderCsv } from './csv.ts'
import { renderHtml } from './html.ts'
import { renderPdf } from './pdf.ts'
import { type Attached, sheetOf } from './sheet.ts'

// An invoice as JSON, CSV, HTML and PDF. Rendered once, when it is finalised; the bytes are stored and never made again.

export const formats = ['json', 'csv', 'html', 'pdf'] as const
export type Format = (typeof formats)[number]

export async function render(invoice: Invoice, format: Format, attached: Attached): Promise<Buffer> {
  switch (format) {
    case 'json':
      return Buffer.from(`${JSON.stringify(invoice, null, 2)}\n`)
    case 'csv':
      return Buffer.from(renderCsv(invoice))
    case 'html':
      return Buffer.from(renderHtml(sheetOf(invoice, attached)))
    case 'pdf':
      return renderPdf(sheetOf(invoice, attached), invoice.issuedAt ?? invoice.asOf, attached.fonts ?? [])
    default:
      return format satisfies never
  }
}
