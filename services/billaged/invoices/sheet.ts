import type { Invoice, InvoiceLineView, Party } from '../api.ts'
import { readDecimal } from '../decimal.ts'
import { formatMinor, minorDigits, nanoPerMinor } from '../rating/currency.ts'
import { type Price, priceSchema } from '../rating/plan.ts'
import { displayUnit, groupDigits, priceText, quantityText } from '../rating/units.ts'
import { printable } from './escape.ts'

// What an invoice says to a person, before it is set in HTML or PDF: the items, and from their sum to the amount due.
// Amounts all have the same number of digits, as many as the finest needs: what is printed adds up as printed.

/** What vouches for an invoice: the receipt that was sealed with it. */
export interface Proof {
  seq: number
  hash: string
  publicKey: string
}

/** What documents need beside the invoice itself. */
export interface Attached {
  /** Prices by line id, as the plan version has them. */
  prices: Readonly<Record<string, unknown>>
  /** Null while a draft. */
  proof: Proof | null
  /** Files of fonts for letters that DejaVu Sans lacks; of the PDF alone. */
  fonts?: readonly string[]
}

export interface Sheet {
  title: string
  isDraft: boolean
  seller: Party
  buyer: Party
  facts: readonly (readonly [name: string, value: string])[]
  currency: string
  minorDigits: number
  sections: readonly Section[]
  summary: readonly { label: string; amount: string; isStrong: boolean }[]
  due: string
  notes: readonly string[]
  proof: Proof | null
}

export interface Section {
  title: string | null
  items: readonly Item[]
}

export interface Item {
  id: string
  title: string
  /** Price, span, allowance: a line each. */
  details: readonly string[]
  quantity: string
  amount: string
}

export function sheetOf(invoice: Invoice, { prices, proof }: Attached): Sheet {
  const digits = digitsOf(invoice)
  const write = (nano: bigint) => amountText(nano, digits)
  const of = (...kinds: InvoiceLineView['kind'][]) => invoice.lines.filter(({ kind }) => kinds.includes(kind))
  const items = (lines: InvoiceLineView[]) => lines.map(line => itemOf(invoice, line, priceOf(prices[line.id]), write))
  const [charges, corrections, minimum] = [of('usage', 'flat'), of('adjustment'), of('minimum')]
  const sections = [
    { title: null, items: items(charges) },
    { title: 'Corrections of earlier periods', items: items(corrections) },
    { title: 'Commitment', items: items(minimum) },
  ].filter(section => section.items.length > 0)
  return {
    title: invoice.state === 'draft' ? 'Draft invoice' : 'Invoice',
    isDraft: invoice.state === 'draft',
    seller: plainParty(invoice.seller),
    buyer: plainParty(invoice.buyer),
    facts: factsOf(invoice),
    currency: invoice.currency,
    minorDigits: minorDigits(invoice.currency),
    sections: sections.length > 0 ? sections : [{ title: null, items: [nothing(write)] }],
    summary: summaryOf(invoice, write),
    due: `${invoice.currency} ${groupAmount(formatMinor(BigInt(invoice.dueMinor), invoice.currency))}`,
    notes: notesOf(invoice),
    proof,
  }
}

function factsOf(invoice: Invoice): [string, string][] {
  return [
    ['Invoice number', invoice.number ?? 'none yet'],
    ...(invoice.issuedAt === null ? [] : [['Issued', dayText(invoice.issuedAt)] as [string, string]]),
    ['Period', spanText(invoice.period)],
    ['Customer', printable(invoice.customerId)],
    ...(invoice.revision === 0
      ? []
      : [['Replaces', `revision ${invoice.revision} of this period`] as [string, string]]),
  ]
}

function itemOf(invoice: Invoice, line: InvoiceLineView, price: Price | null, write: (nano: bigint) => string): Item {
  const details: string[] = []
  if (price !== null) details.push(priceText(price, invoice.currency, line.unit ?? ''))
  const isPart = line.segment.from !== invoice.period.from || line.segment.to !== invoice.period.to
  if (isPart && line.adjustsPeriod === null) details.push(spanText(line.segment))
  const per = price === null || price.model === 'flat' || price.model === 'cost_plus' ? null : perOf(price)
  const quantityE9 = readDecimal(line.quantity)
  const display = displayUnit(line.meter ?? '', line.unit ?? '', per)
  const isMoney = line.model === 'cost_plus'
  const shown =
    line.meter === null || quantityE9 === 0n
      ? ''
      : isMoney
        ? `${invoice.currency} ${amountText(quantityE9 / 1_000_000_000n, 4)}`
        : quantityText(quantityE9, display, 4)
  const free = readDecimal(line.freeQuantity)
  if (free > 0n && isPart) details.push(`${quantityText(free, display, 4)} of it free`)
  return {
    id: line.id,
    title: printable(line.description),
    details: details.map(printable),
    quantity: shown,
    amount: write(BigInt(line.amountNano)),
  }
}

function summaryOf(invoice: Invoice, write: (nano: bigint) => string): Sheet['summary'] {
  const rows: { label: string; amount: string; isStrong: boolean }[] = []
  const row = (label: string, nano: bigint) =>
    rows.push({ label: printable(label), amount: write(nano), isStrong: false })
  let sum = 0n
  const add = (...kinds: InvoiceLineView['kind'][]) => {
    const lines = invoice.lines.filter(({ kind }) => kinds.includes(kind))
    for (const line of lines) sum += BigInt(line.amountNano)
    return lines
  }
  add('usage', 'flat', 'adjustment', 'minimum')
  row('Subtotal', sum)
  // A negative total that is carried over is booked as a credit too, behind everything else.
  const [given, carried] = split(invoice.lines.filter(({ kind }) => kind === 'credit'))
  for (const line of given) {
    sum += BigInt(line.amountNano)
    row(line.description, BigInt(line.amountNano))
  }
  for (const line of add('tax')) row(taxLabel(line, write), BigInt(line.amountNano))
  if (rows.length > 1) row('Total', sum)
  for (const line of add('prepaid')) row(line.description, BigInt(line.amountNano))
  for (const line of carried) row(line.description, BigInt(line.amountNano))
  for (const line of add('rounding')) row(line.description, BigInt(line.amountNano))
  const due = BigInt(invoice.dueMinor) * nanoPerMinor(invoice.currency)
  rows.push({
    label: `Amount due (${invoice.currency})`,
    amount: amountText(due, minorDigits(invoice.currency)),
    isStrong: true,
  })
  return rows
}

function split(credits: InvoiceLineView[]): [InvoiceLineView[], InvoiceLineView[]] {
  const isGiven = (line: InvoiceLineView) => BigInt(line.amountNano) < 0n
  return [credits.filter(isGiven), credits.filter(line => !isGiven(line))]
}

/** "VAT 19 % of 123.45": what is taxed is the dividend without its rate. */
function taxLabel(line: InvoiceLineView, write: (nano: bigint) => string): string {
  if (line.taxPpm === null || line.taxPpm === 0) return line.description
  return `${line.description} of ${write(BigInt(line.dividend) / BigInt(line.taxPpm))}`
}

function notesOf(invoice: Invoice): string[] {
  return [
    ...(invoice.state === 'draft'
      ? ['This is a draft: usage may still arrive and it has no number. Nothing is to be paid on it.']
      : []),
    ...(invoice.terms === null ? [] : [printable(invoice.terms)]),
    'Periods are in UTC and end where the next one begins. Amounts are exact; what cannot be paid is rounded off in your favour.',
  ]
}

const nothing = (write: (nano: bigint) => string): Item => ({
  id: 'nothing',
  title: 'Nothing was charged in this period',
  details: [],
  quantity: '',
  amount: write(0n),
})

function perOf(price: Exclude<Price, { model: 'flat' | 'cost_plus' }>): bigint {
  return price.model === 'package' ? price.packageSize : price.per
}

function priceOf(stored: unknown): Price | null {
  const parsed = priceSchema.safeParse(stored)
  return parsed.success ? parsed.data : null
}

function plainParty({ name, address, taxId }: Party): Party {
  return { name: printable(name), address: address.map(printable), taxId: taxId === null ? null : printable(taxId) }
}

/** Digits behind the point that all amounts of an invoice need, at least those that can be paid. */
function digitsOf(invoice: Invoice): number {
  let digits = minorDigits(invoice.currency)
  for (const { amountNano } of invoice.lines) {
    const fraction = amountNano.replace('-', '').padStart(10, '0').slice(-9).replace(/0+$/, '')
    digits = Math.max(digits, fraction.length)
  }
  return digits
}

/** Nano-units with exactly so many digits behind the point; the minus is a minus and no hyphen. */
export function amountText(nano: bigint, digits: number): string {
  const magnitude = `${nano < 0n ? -nano : nano}`.padStart(10, '0')
  const whole = groupDigits(magnitude.slice(0, -9))
  const fraction = magnitude.slice(-9).slice(0, digits)
  return `${nano < 0n ? '−' : ''}${whole}${digits === 0 ? '' : `.${fraction}`}`
}

function groupAmount(text: string): string {
  return text.replace(/^\d+/, groupDigits)
}

/** An amount in two: what can be paid, and the finer digits behind it. */
export function splitAmount(text: string, minor: number): [string, string] {
  const point = text.indexOf('.')
  const end = point === -1 ? text.length : minor === 0 ? point : point + 1 + minor
  return [text.slice(0, end), text.slice(end)]
}

const months = 'January February March April May June July August September October November December'.split(' ')

/** 1 October 2026. */
function dayText(time: string): string {
  const [year = '', month = '', day = ''] = time.slice(0, 10).split('-')
  return `${Number(day)} ${months[Number(month) - 1]} ${year}`
}

/** "1 – 31 October 2026": both days belong to it. With hours where it does not begin and end at midnight. */
export function spanText({ from, to }: { from: string; to: string }): string {
  const isDays = from.slice(11, 16) === '00:00' && to.slice(11, 16) === '00:00'
  if (!isDays) return `${dayText(from)} ${from.slice(11, 16)} – ${dayText(to)} ${to.slice(11, 16)}`
  const last = new Date(Date.parse(to) - 1).toISOString()
  if (last.slice(0, 10) === from.slice(0, 10)) return dayText(from)
  if (last.slice(0, 7) === from.slice(0, 7)) return `${Number(from.slice(8, 10))} – ${dayText(last)}`
  if (last.slice(0, 4) === from.slice(0, 4)) return `${dayText(from).replace(/ \d{4}$/, '')} – ${dayText(last)}`
  return `${dayText(from)} – ${dayText(last)}`
}
