import { formatUsd } from '#platform/money'
import type { Invoice, InvoiceLineView } from '../api.ts'
import { readDecimal } from '../decimal.ts'
import { priceSchema } from '../rating/plan.ts'
import { displayUnit } from '../rating/units.ts'
import { csvCell } from './escape.ts'
import { itemOf } from './reconcile.ts'

// FOCUS 1.2: finalised invoices as rows that cost tools read. The rows of an invoice sum to what is due of it.

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

/** `prices`: of the lines, by their ids, as the receipt has them. */
export function focusRows(
  invoice: Invoice,
  o: { unitOf: (meter: string) => string; prices: Readonly<Record<string, unknown>> },
): string {
  return invoice.lines
    .map(line => toRow(invoice, line, o.unitOf, o.prices[line.id]))
    .map(row => `${focusColumns.map(column => csvCell(row[column])).join()}\r\n`)
    .join('')
}

function toRow(invoice: Invoice, line: InvoiceLineView, unitOf: (meter: string) => string, price: unknown): Row {
  const cost = formatUsd(BigInt(line.amountNano))
  const isUsage = line.meter !== null
  const quantity = isUsage ? line.quantity : ''
  const unit = line.meter === null ? '' : unitOf(line.meter)
  const priced = pricing(line, unit, price)
  // Invoices of before sellers were printed.
  const issuer = invoice.seller?.name ?? 'Purser'
  const sku = line.plan === null || line.priceId === null ? '' : `${line.plan.id}/${line.priceId}`
  return {
    BilledCost: cost,
    BillingAccountId: invoice.customerId,
    BillingAccountName: invoice.customerName ?? invoice.customerId,
    BillingCurrency: invoice.currency,
    BillingPeriodEnd: seconds(invoice.period.to),
    BillingPeriodStart: seconds(invoice.period.from),
    ChargeCategory: categoryOf(line),
    ChargeClass: line.kind === 'adjustment' ? 'Correction' : '',
    ChargeDescription: line.description,
    ChargeFrequency: isUsage ? 'Usage-Based' : line.kind === 'flat' ? 'Recurring' : 'One-Time',
    ChargePeriodEnd: seconds(line.segment.to),
    ChargePeriodStart: seconds(line.segment.from),
    ConsumedQuantity: quantity,
    ConsumedUnit: unit,
    ContractedCost: cost,
    ContractedUnitPrice: priced.unitPrice,
    EffectiveCost: cost,
    InvoiceId: invoice.number ?? invoice.id,
    InvoiceIssuerName: issuer,
    ListCost: cost,
    ListUnitPrice: priced.unitPrice,
    PricingQuantity: priced.quantity,
    PricingUnit: priced.unit,
    ProviderName: issuer,
    PublisherName: issuer,
    ResourceId: '',
    ServiceCategory: serviceOf(line.meter),
    ServiceName: itemOf(line),
    SkuId: sku,
    SkuPriceId: line.plan === null || sku === '' ? '' : `${sku}/v${line.plan.version}`,
    SubAccountId: '',
    Tags: Object.keys(line.group).length === 0 ? '' : JSON.stringify(line.group),
    x_InvoiceLineId: line.id,
    x_LineKind: line.kind,
    x_AdjustsLineId: line.adjusts ?? '',
  }
}

/** In the unit that the price is for. Tiers and packages have no one price for a unit, and none is made up. */
function pricing(line: InvoiceLineView, unit: string, stored: unknown) {
  const price = priceSchema.safeParse(stored).data
  if (line.meter === null || price?.model !== 'per_unit' || price.freeQuantity > 0n)
    return { quantity: line.meter === null ? '' : line.quantity, unit, unitPrice: '' }
  const display = displayUnit(line.meter, unit, price.per)
  if (display.base !== price.per) return { quantity: line.quantity, unit, unitPrice: '' }
  // Cut at the ninth digit; ConsumedQuantity is exact.
  const e9 = readDecimal(line.quantity) / display.base
  const quantity = formatUsd(e9 < 0n ? -e9 : e9)
  return { quantity: e9 < 0n ? `-${quantity}` : quantity, unit: display.many, unitPrice: formatUsd(price.amountNano) }
}

/** FOCUS writes whole seconds. */
function seconds(time: string): string {
  return time.replace('.000Z', 'Z')
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
  if (meter.startsWith('vm_net_')) return 'Networking'
  if (meter.startsWith('vm_disk_')) return 'Storage'
  if (meter.startsWith('vm_')) return 'Compute'
  if (meter.startsWith('ai_')) return 'AI and Machine Learning'
  if (meter.startsWith('build_')) return 'Developer Tools'
  if (meter.startsWith('artifact_')) return 'Storage'
  return meter.startsWith('log_') ? 'Management and Governance' : 'Other'
}
