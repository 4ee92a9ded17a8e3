import type { Blocker, BlockerCode, CloseReport } from '../api/billing-invoices.ts'
import { type BillingRoute, billingRoute } from '../router/route.ts'

// The month-close gate as a list that one works off. A row is clear when no customer is blocked for its reason.

/** In the order in which one mends them. */
const rows: readonly { code: BlockerCode; title: string; isForcible?: true }[] = [
  { code: 'period_not_over', title: 'The period is over' },
  { code: 'not_folded', title: 'Everything acknowledged is folded into usage' },
  { code: 'replica_behind', title: 'Every replica has caught up' },
  { code: 'earlier_period_open', title: 'Earlier periods are closed' },
  { code: 'open_quarantine', title: 'No doubtful reading waits for a decision', isForcible: true },
  { code: 'unrated_usage', title: 'All usage has a price or is marked unbilled', isForcible: true },
  { code: 'mixed_currencies', title: 'One currency per invoice' },
  { code: 'failed', title: 'Nothing failed while rating' },
]

export interface ChecklistItem {
  code: string
  title: string
  /** Whom it keeps open, each with the sentence and the command of the gate. */
  blocked: { customerId: string; invoiceId: string; blocker: Blocker }[]
  isForcible: boolean
}

export function checklistOf(report: Pick<CloseReport, 'blocked'>): ChecklistItem[] {
  const all = report.blocked.flatMap(({ customerId, invoiceId, reasons }) =>
    reasons.map(blocker => ({ customerId, invoiceId, blocker })),
  )
  const known = rows.map(({ code, title, isForcible = false }) => ({
    code: code as string,
    title,
    isForcible,
    blocked: all.filter(({ blocker }) => blocker.code === code),
  }))
  // A reason that a newer billaged knows and this console does not is a row by its own name.
  const others = [...new Set(all.map(({ blocker }) => blocker.code as string))].filter(
    code => !rows.some(row => row.code === code),
  )
  return [
    ...known,
    ...others.map(code => ({
      code,
      title: code.replaceAll('_', ' '),
      isForcible: false,
      blocked: all.filter(({ blocker }) => blocker.code === code),
    })),
  ]
}

/** The same sentence for many customers is one entry with many names. */
export function groupsOf(blocked: ChecklistItem['blocked']): { blocker: Blocker; customers: string[] }[] {
  const groups = new Map<string, { blocker: Blocker; customers: string[] }>()
  for (const { customerId, blocker } of blocked) {
    // A command that names the customer is that customer's own.
    const key = `${blocker.detail}\n${blocker.fix}`
    const group = groups.get(key)
    if (group) group.customers.push(customerId)
    else groups.set(key, { blocker, customers: [customerId] })
  }
  return [...groups.values()]
}

/** What is left over can be closed over, with a reason: of each customer only such reasons are open. */
export function forcibleCustomers(report: Pick<CloseReport, 'blocked'>): string[] {
  const codes = new Set<string>(rows.flatMap(({ code, isForcible }) => (isForcible ? [code] : [])))
  return report.blocked
    .filter(({ reasons }) => reasons.length > 0 && reasons.every(({ code }) => codes.has(code)))
    .map(({ customerId }) => customerId)
}

/** Where in the console one mends it. */
export function mendingRoute(code: string, customerId: string): BillingRoute | null {
  switch (code) {
    case 'open_quarantine':
      return billingRoute('quarantine')
    case 'unrated_usage':
    case 'mixed_currencies':
      return billingRoute('customers', { id: customerId })
    default:
      return null
  }
}

export function reasonTitle(code: string): string {
  const words: Record<string, string> = {
    period_not_over: 'period not over',
    not_folded: 'not folded yet',
    replica_behind: 'a replica is behind',
    open_quarantine: 'quarantine is open',
    unrated_usage: 'usage without a price',
    earlier_period_open: 'earlier period open',
    mixed_currencies: 'mixed currencies',
    failed: 'rating failed',
  }
  return words[code] ?? code.replaceAll('_', ' ')
}
