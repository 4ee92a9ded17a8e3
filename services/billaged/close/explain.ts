import { inflateSync } from 'node:zlib'
import type { Sql } from '#platform/postgres'
import { nowNs } from '#platform/time'
import type { Explanation } from '../api.ts'
import { formatDecimal } from '../decimal.ts'
import { type HourEvidence, parseHourLine } from '../invoices/evidence.ts'
import type { InvoiceLine } from '../invoices/invoice.ts'
import { isEventLine, priceJson } from '../invoices/receipt.ts'
import { lineView, spanView } from '../invoices/view.ts'
import { hourMs } from '../rating/periods.ts'
import { loadCustomer } from '../store/customers.ts'
import { type InvoiceRow, loadLines, readEvidence } from '../store/invoices.ts'
import { loadPlan } from '../store/plans.ts'
import { hourNs } from '../store/pricing.ts'
import { loadReceipt } from '../store/receipts.ts'
import { loadVmReport } from '../store/vm-report.ts'
import { ledgerOf, quantity, type VmMeter, vmMeterNames } from '../usage/quantity.ts'
import { unitsOf } from './attach.ts'
import type { CloseContext } from './context.ts'

/** From an amount down to the hours it rests on: price and arithmetic, quantity by VM, what was left out, and the
 *  receipt that vouches for it. `vmId`: the hours of that VM, with the digest of the readings in each. */
export async function explainLine(
  o: Pick<CloseContext, 'sql' | 'meters' | 'reader' | 'rules' | 'clock'>,
  invoice: InvoiceRow,
  lineId: string,
  vmId: string | null,
): Promise<Explanation | null> {
  const { sql, meters } = o
  const line = (await loadLines(sql, invoice.id)).find(({ id }) => id === lineId)
  if (line === undefined) return null
  const plan = line.plan === null ? null : await loadPlan(sql, line.plan.id)
  const version = plan?.versions.find(({ version: number }) => number === line.plan?.version) ?? null
  const price = version?.prices.find(({ id }) => id === line.priceId)
  const policy = version?.gapPolicy ?? 'zero'
  const meter = vmMeterNames.find(name => name === line.meter) ?? null
  const receipt = await loadReceipt(sql, invoice.id)
  const customer = await loadCustomer(sql, invoice.customerId, new Date(o.clock.now()))
  const vms = meter === null || line.adjusts !== null ? null : await byVm(o, invoice, line, meter, policy, vmId)
  return {
    invoice: {
      id: invoice.id,
      number: invoice.number,
      customerId: invoice.customerId,
      customerName: customer?.name ?? null,
      period: spanView(invoice.period),
      currency: invoice.currency,
      state: invoice.state,
    },
    line: lineView(line, unitsOf(meters)),
    plan:
      version === null || line.plan === null
        ? null
        : { ...line.plan, effectiveFrom: new Date(version.effectiveFrom).toISOString(), gapPolicy: policy },
    price: price === undefined ? null : priceJson(price),
    vms: vms?.vms ?? null,
    events:
      meter === null && line.meter !== null && line.adjusts === null ? await eventEvidence(sql, invoice, line) : null,
    hours: vms?.hours ?? null,
    evidence: receipt === null ? null : evidenceOf(receipt.body),
    receipt:
      receipt === null
        ? null
        : { seq: receipt.seq, hash: receipt.hash.toString('hex'), prevHash: receipt.prevHash.toString('hex') },
  }
}

/** Every line of an invoice's evidence, in the order of the receipt's leaves. */
export async function* evidenceLines(sql: Sql, invoiceId: string): AsyncIterable<string> {
  for await (const { body } of readEvidence(sql, invoiceId)) yield* inflateSync(body).toString('utf8').split('\n')
}

async function byVm(
  o: Pick<CloseContext, 'sql' | 'reader' | 'rules' | 'clock'>,
  invoice: InvoiceRow,
  line: InvoiceLine,
  meter: VmMeter,
  policy: 'zero' | 'floor' | 'interpolate',
  only: string | null,
) {
  const vms = new Map<
    string,
    {
      quantity: bigint
      hours: number
      unmeasuredNs: bigint
      hostDownNs: bigint
      disputedNs: bigint
      estimatedNs: bigint
    }
  >()
  const hours: NonNullable<Explanation['hours']> = []
  for await (const text of evidenceLines(o.sql, invoice.id)) {
    if (isEventLine(text)) continue
    const row = parseHourLine(text)
    if (row.hour < line.segment.from || row.hour >= line.segment.to) continue
    const vm = vms.get(row.vmId) ?? { ...nothing }
    const used = quantity(row.cell, meter, policy)
    const ledger = ledgerOf(row.cell, policy)
    vm.quantity += used
    vm.hours++
    vm.unmeasuredNs += ledger.unmeasuredNs
    vm.hostDownNs += ledger.hostDownNs
    vm.disputedNs += ledger.disputedNs
    vm.estimatedNs += ledger.estimatedNs
    vms.set(row.vmId, vm)
    if (row.vmId === only) hours.push(hourView(row, used))
  }
  const views: NonNullable<Explanation['vms']> = []
  let looked = 0
  for (const [vmId, vm] of vms) {
    const hasGaps = vm.unmeasuredNs + vm.hostDownNs > 0n && looked++ < rulesOfVmsMax
    views.push({
      vmId,
      quantity: formatDecimal(vm.quantity * 1_000_000_000n),
      hours: vm.hours,
      notBilled: {
        unmeasuredNs: `${vm.unmeasuredNs}`,
        hostDownNs: `${vm.hostDownNs}`,
        disputedNs: `${vm.disputedNs}`,
      },
      estimatedNs: `${vm.estimatedNs}`,
      rules: hasGaps ? await gapRules(o, invoice.customerId, vmId, line) : [],
    })
  }
  return {
    vms: views,
    hours: only === null ? null : hours,
  }
}

const nothing = { quantity: 0n, hours: 0, unmeasuredNs: 0n, hostDownNs: 0n, disputedNs: 0n, estimatedNs: 0n }

/** Rules are read from the facts, a fold a VM: of the first few with gaps. */
const rulesOfVmsMax = 20
const rulesMax = 3

async function gapRules(
  o: Pick<CloseContext, 'reader' | 'rules' | 'clock'>,
  customerId: string,
  vmId: string,
  { segment }: InvoiceLine,
): Promise<string[]> {
  const [fromNs, toNs] = [hourNs(segment.from), hourNs(segment.to)]
  const report = await loadVmReport(o.reader, { customerId, vmId, fromNs, toNs, rules: o.rules, nowNs: nowNs(o.clock) })
  const rules = (report?.notes ?? []).flatMap(({ kind, rule }) => (kind === 'gap' && rule !== undefined ? [rule] : []))
  return [...new Set(rules)].slice(0, rulesMax)
}

function hourView({ hour, samples, digest }: HourEvidence, used: bigint) {
  return { from: new Date(hour * hourMs).toISOString(), samples, digest, quantity: `${used}` }
}

async function eventEvidence(sql: Sql, invoice: InvoiceRow, line: InvoiceLine) {
  const events: NonNullable<Explanation['events']> = []
  for await (const text of evidenceLines(sql, invoice.id)) {
    if (!isEventLine(text)) continue
    const row: { eventType: string; count: number; digest: string; from: number } = JSON.parse(text)
    if (row.from === line.segment.from) events.push({ type: row.eventType, count: row.count, digest: row.digest })
  }
  return events
}

function evidenceOf(body: string): { leaves: number; root: string } {
  const { evidence }: { evidence: { leaves: number; root: string } } = JSON.parse(body)
  return evidence
}
