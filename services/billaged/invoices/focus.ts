import { formatUsd } from '#platform/money'
import type { Invoice, InvoiceLineView } from '../api.ts'
import { csvCell } from './escape.ts'

// FOCUS 1.2: finalised invoices as rows that cost tools read. The rows of an invoice sum to what is due of it.

const issuer = 'Purser'

type Row = Record<(typeof focusColumns)[number], string>

export const focusColumns = [
  'BilledCost',
  'BillingAccountId',
  'BillingAccountName',
  'BillingCurrency',
  'BillingPeriodEnd',
  'BillingPeriodStart',
  'ChargeCategory',
  'ChargeClass',
  'ChargeDescription',
  'ChargeFrequency',
  'ChargePeriodEnd',
  'ChargePeriodStart',
  'ConsumedQuantity',
  'ConsumedUnit',
  'ContractedCost',
  'ContractedUnitPrice',
  'EffectiveCost',
  'InvoiceId',
  'InvoiceIssuerName',
  'ListCost',
  'ListUnitPrice',
  'PricingQuantity',
  'PricingUnit',
  'ProviderName',
  'PublisherName',
  'ResourceId',
  'ServiceCategory',
  'ServiceName',
  'SkuId',
  'SkuPriceId',
  'SubAccountId',
  'Tags',
  'x_InvoiceLineId',
  'x_LineKind',
  'x_AdjustsLineId',
] as const

export function focusHeader(): string {
  return `${focusColumns.join()}\r\n`
}

export function focusRows(invoice: Invoice, unitOf: (meter: string) => string): string {
  return invoice.lines
    .map(line => toRow(invoice, line, unitOf))
    .map(row => `${focusColumns.map(column => csvCell(row[column])).join()}\r\n`)
    .join('')
}

function toRow(invoice: Invoice, line: InvoiceLineView, unitOf: (meter: string) => string): Row {
  const cost = formatUsd(BigInt(line.amountNano))
  const isUsage = line.meter !== null
  const quantity = isUsage ? line.quantity : ''
  const unit = line.meter === null ? '' : unitOf(line.meter)
  const sku = line.plan === null || line.priceId === null ? '' : `${line.plan.id}/${line.priceId}`
  return {
    BilledCost: cost,
    BillingAccountId: invoice.customerId,
    BillingAccountName: invoice.customerName ?? invoice.customerId,
    BillingCurrency: invoice.currency,
    BillingPeriodEnd: invoice.period.to,
    BillingPeriodStart: invoice.period.from,
    ChargeCategory: categoryOf(line),
    ChargeClass: line.kind === 'adjustment' ? 'Correction' : '',
    ChargeDescription: line.description,
    ChargeFrequency: isUsage ? 'Usage-Based' : line.kind === 'flat' ? 'Recurring' : 'One-Time',
    ChargePeriodEnd: line.segment.to,
    ChargePeriodStart: line.segment.from,
    ConsumedQuantity: quantity,
    ConsumedUnit: unit,
    ContractedCost: cost,
    // Prices are per many base units, and tiers have several: there is no one unit price to state exactly.
    ContractedUnitPrice: '',
    EffectiveCost: cost,
    InvoiceId: invoice.number ?? invoice.id,
    InvoiceIssuerName: issuer,
    ListCost: cost,
    ListUnitPrice: '',
    PricingQuantity: quantity,
    PricingUnit: unit,
    ProviderName: issuer,
    PublisherName: issuer,
    ResourceId: '',
    ServiceCategory: serviceOf(line.meter),
    ServiceName: line.meter ?? line.priceId ?? line.kind,
    SkuId: sku,
    SkuPriceId: line.plan === null || sku === '' ? '' : `${sku}/v${line.plan.version}`,
    SubAccountId: '',
    Tags: Object.keys(line.group).length === 0 ? '' : JSON.stringify(line.group),
    x_InvoiceLineId: line.id,
    x_LineKind: line.kind,
    x_AdjustsLineId: line.adjusts ?? '',
  }
}

/** A correction has the category of what it corrects. */
function categoryOf(line: InvoiceLineView): string {
  switch (line.kind) {
    case 'usage':
      return 'Usage'
    case 'flat':
    case 'minimum':
      return 'Purchase'
    case 'adjustment':
      return line.meter === null ? 'Purchase' : 'Usage'
    case 'credit':
    case 'prepaid':
      return 'Credit'
    case 'tax':
      return 'Tax'
    case 'rounding':
      return 'Adjustment'
    default:
      return line.kind satisfies never
  }
}

function serviceOf(meter: string | null): string {
  if (meter === null) return 'Other'
  if (meter.startsWith('vm_')) return 'Compute'
  if (meter.startsWith('ai_')) return 'AI and Machine Learning'
  if (meter.startsWith('build_')) return 'Developer Tools'
  if (meter.startsWith('artifact_')) return 'Storage'
  return meter.startsWith('log_') ? 'Management and Governance' : 'Other'
}
