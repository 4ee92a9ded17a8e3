// The wire of the HTTP API, types only. Quantities and money are decimal strings in base units; times are RFC 3339 UTC.

export interface Customer {
  id: string
  name: string | null
  currency: string
  timeZone: string
  /** Day of the month on which its billing period begins; clamped to the month's last day. */
  anchorDay: number
  /** 1, 3 or 12. */
  intervalMonths: number
  /** Millionths of what is taxable. */
  taxPpm: number
  taxName: string | null
  /** Printed on invoices under the name, with the tax number. */
  address: string[]
  taxId: string | null
  budgetNano: string | null
  /** The plan it is on now. */
  planId: string | null
  vms: number
  firstSeen: string
}

export interface CustomerList {
  customers: Customer[]
  nextCursor: string | null
}

export type UsageBy = 'meter' | 'vm' | 'day' | 'hour'

export interface UsageRow {
  /** With `by=vm`. */
  vmId?: string
  /** With `by=day` and `by=hour`: the span of the row. */
  from?: string
  to?: string
  meter: string
  quantity: string
  unit: string
}

/** Nanoseconds of the lives of the customer's VMs, by how they are known. */
export interface Ledger {
  measuredNs: string
  estimatedNs: string
  unmeasuredNs: string
  hostDownNs: string
  disputedNs: string
}

/** What was not seen, and what became of it. */
export interface CustomerLedger {
  customerId: string
  from: string
  to: string
  asOf: string
  complete: boolean
  expiredUntil?: string
  /** Of all VMs. */
  ledger: Ledger
  /** A page of them. */
  vms: LedgerVm[]
  /** Lines of finalised invoices that correct periods beginning in the span, a thousand at most. */
  adjustments: {
    invoiceId: string
    number: string | null
    lineId: string
    /** The line it corrects, and the start of that one's period. */
    adjusts: string | null
    periodFrom: string
    meter: string | null
    amountNano: string
    cause: 'late_data' | 'plan_changed' | null
  }[]
  nextCursor: string | null
}

export interface LedgerVm extends Ledger {
  vmId: string
  /** The newest twenty, each with the rule that made it one. */
  gaps: { from: string; to: string; rule: string }[]
  gapCount: number
  conflicts: number
  falls: number
  restartsUnproven: number
}

export interface Usage {
  customerId: string
  from: string
  to: string
  asOf: string
  /** Everything that any replica acknowledged is in. */
  complete: boolean
  /** Where the span reaches before it: usage up to then is deleted (`RETENTION_USAGE`), and the rows are short of it. */
  expiredUntil?: string
  rows: UsageRow[]
  ledger: Ledger
  /** With `by=vm`: where the page ends, when others follow. */
  nextCursor?: string | null
  /** With `asOf=`: the same span as it is known now. The rest of the answer is what was known then. */
  now?: { asOf: string; rows: UsageRow[]; ledger: Ledger }
}

export interface PricedLine {
  kind: 'usage' | 'flat' | 'minimum'
  priceId: string | null
  meter: string | null
  model: string
  group: Record<string, string>
  segment: { from: string; to: string }
  quantity: string
  /** Of the quantity, what the plan's allowance lets pass. */
  freeQuantity: string
  tiers: { tier: number; upTo: string | null; quantity: string; amountNano: string; flatNano: string }[]
  amountNano: string
  /** dividend ÷ divisor = amountNano, remainder left over. */
  dividend: string
  divisor: string
  remainder: string
}

export interface Priced {
  customerId: string
  planId: string | null
  currency: string
  from: string
  to: string
  asOf: string
  complete: boolean
  /** As of usage. */
  expiredUntil?: string
  totalNano: string
  lines: PricedLine[]
  /** Used, and no price takes it. */
  unrated: { meter: string; group: Record<string, string>; quantity: string; unit: string }[]
}

/** The running period so far. */
export interface Spend extends Priced {
  /** The whole period, if the rest runs as the part that is over did. */
  forecastNano: string
  /** With `band=true`: if each day to come is like the quietest or the busiest that each meter had; null early on. */
  forecastLowNano?: string | null
  forecastHighNano?: string | null
  /** What the customer means to spend; shown, not enforced. */
  budgetNano: string | null
}

export interface PreviewRequest {
  customerId: string
  /** Whole UTC hours; both absent: the customer's running period. */
  from?: string
  to?: string
  /** Rate under this plan; absent: under the customer's own subscriptions. */
  planId?: string
}

/** Customers under their own plans and under another one; nothing is stored. */
export interface Comparison {
  rows: {
    customerId: string
    from: string
    to: string
    planId: string | null
    currency: string
    nowNano: string
    thenNano: string
    /** Null where the two are in different currencies. */
    differenceNano: string | null
    /** Meters that the other plan has no price for. */
    unrated: string[]
  }[]
  payLess: string[]
  payMore: string[]
  nextCursor: string | null
}

/** An invoice as it was at an earlier time: finalised or void by then, or what its draft said. */
export interface InvoiceAsOf extends Invoice {
  now: Invoice
}

export interface InvoiceLineView {
  id: string
  kind: 'usage' | 'flat' | 'adjustment' | 'minimum' | 'credit' | 'tax' | 'prepaid' | 'rounding'
  description: string
  plan: { id: string; version: number } | null
  priceId: string | null
  meter: string | null
  /** Base unit of the meter: what the quantity counts. */
  unit: string | null
  model: string | null
  group: Record<string, string>
  segment: { from: string; to: string }
  /** Of an adjustment: what the quantity changed by. */
  quantity: string
  freeQuantity: string
  tiers: PricedLine['tiers']
  amountNano: string
  dividend: string
  divisor: string
  remainder: string
  /** Of an adjustment: what earlier invoices said; its amount is the floor of dividend ÷ divisor minus this. */
  billedNano: string
  /** The line that an adjustment corrects, and the period that one is in. */
  adjusts: string | null
  adjustsPeriod: { from: string; to: string } | null
  cause: 'late_data' | 'plan_changed' | null
  creditId: string | null
  taxPpm: number | null
}

export interface Blocker {
  code: BlockerCode
  detail: string
  /** The command that mends it. */
  fix: string
}

export type BlockerCode =
  | 'period_not_over'
  | 'not_folded'
  | 'replica_behind'
  | 'open_quarantine'
  | 'unrated_usage'
  | 'earlier_period_open'
  | 'mixed_currencies'
  | 'push_failed'
  | 'failed'

/** As it is printed on an invoice. */
export interface Party {
  name: string
  address: string[]
  taxId: string | null
}

export interface Invoice {
  id: string
  /** Null while a draft. */
  number: string | null
  customerId: string
  customerName: string | null
  seller: Party
  buyer: Party
  /** How and until when it is to be paid, in the seller's words. */
  terms: string | null
  state: 'draft' | 'finalised' | 'void'
  revision: number
  period: { from: string; to: string }
  currency: string
  /** All lines but the rounding. */
  totalNano: string
  /** In the currency's minor unit, floored. */
  dueMinor: string
  /** The same, as one writes it: "12.34". */
  due: string
  taxPpm: number
  issuedAt: string | null
  /** What an operator closed over, and why. */
  forced: { reason: string; by: string; over: Blocker[] } | null
  asOf: string
  complete: boolean
  lines: InvoiceLineView[]
  /** Drafts only: why it cannot be finalised now. */
  blockers: Blocker[]
}

export interface InvoiceSummary {
  id: string
  number: string | null
  customerId: string
  state: Invoice['state']
  revision: number
  period: { from: string; to: string }
  currency: string
  /** Null for drafts: they are computed when they are opened. */
  totalNano: string | null
  dueMinor: string | null
  issuedAt: string | null
  blockers: Blocker[]
}

export interface CloseReport {
  period: string
  dryRun: boolean
  /** Dry run: what would be finalised now. */
  ready: { customerId: string; invoiceId: string; currency: string; totalNano: string; dueMinor: string }[]
  finalised: string[]
  blocked: { customerId: string; invoiceId: string; reasons: Blocker[] }[]
}

export interface Explanation {
  invoice: Pick<Invoice, 'id' | 'number' | 'customerId' | 'customerName' | 'period' | 'currency' | 'state'>
  line: InvoiceLineView
  plan: { id: string; version: number; effectiveFrom: string; gapPolicy: string } | null
  /** As the plan version has it. */
  price: unknown
  /** Lines of VM meters: the quantity by VM, and the time that was not billed. */
  vms:
    | {
        vmId: string
        quantity: string
        hours: number
        notBilled: { unmeasuredNs: string; hostDownNs: string; disputedNs: string }
        estimatedNs: string
        /** Why spacings of its readings were gaps, as of now; for VMs with such time. */
        rules: string[]
      }[]
    | null
  /** Lines of event meters: the events of the segment, by type. */
  events: { type: string; count: number; digest: string }[] | null
  /** With `vm=`: its hours, each with the digest of its readings. */
  hours: { from: string; samples: number; digest: string; quantity: string }[] | null
  evidence: { leaves: number; root: string } | null
  receipt: { seq: number; hash: string; prevHash: string } | null
}

/** Usage of the running periods that no price takes. */
export interface UnratedList {
  asOf: string
  complete: boolean
  unrated: {
    customerId: string
    period: { from: string; to: string }
    /** Null without a subscription. */
    planId: string | null
    meter: string
    group: Record<string, string>
    quantity: string
    unit: string
    /** The command that mends it. */
    fix: string
  }[]
  nextCursor: string | null
}

/** Another biller's figures beside ours. */
export interface Reconciliation {
  rows: {
    customerId: string
    period: string
    /** Meter, price or kind of line; `total` where theirs names none. */
    item: string
    /** Ours is not closed yet. */
    isDraft: boolean
    theirNano: string | null
    ourNano: string | null
    differenceNano: string
    theirQuantity: string | null
    ourQuantity: string | null
    verdict: 'equal' | 'differs' | 'only_ours' | 'only_theirs'
  }[]
  equal: number
  different: number
}

export interface CreditView {
  id: string
  customerId: string
  kind: 'promotional' | 'prepaid'
  currency: string
  amountNano: string
  leftNano: string
  priority: number
  from: string
  expires: string | null
  note: string | null
  /** The invoice whose negative total it was. */
  sourceInvoiceId: string | null
  createdAt: string
}

/** What hosts being down is worth, period by period. */
export interface OutageList {
  asOf: string
  complete: boolean
  outages: OutageView[]
  nextCursor: string | null
}

export interface OutageView {
  customerId: string
  period: { from: string; to: string }
  planId: string | null
  currency: string
  hostDownNs: string
  /** What the VMs would have cost in that time at list price, going on as they ran while they were measured. */
  worthNano: string
  creditedNano: string
  leftNano: string
  vmCount: number
  /** Longest down first, at most 100. */
  vms: { vmId: string; hostDownNs: string; measuredNs: string; worthNano: string }[]
}

export interface Stats {
  active_vms: number
  /** Go duration text. */
  aggregation_interval: string
  journal_bytes: number
}

export interface Health {
  status: 'ok' | 'degraded' | 'unhealthy'
  service: 'billaged'
  version: string
  uptime_seconds: number
  checks: Record<string, { status: string; detail?: string }>
}

/** What one VM's readings say about a span. Totals as a plan with gap policy `zero` would bill them. */
export interface VmDetail {
  customerId: string
  vmId: string
  from: string
  to: string
  asOf: string
  complete: boolean
  /** Meter → quantity in base units. */
  totals: Record<string, string>
  lives: { start: string; stop: string | null; endBy: 'open' | 'stop' | 'lease' }[]
  /** Instances that listed it in heartbeats. */
  hosts: string[]
  conflicts: number
  glitches: number
  /** Instants with several different readings; the least is billed. */
  conflictsAt: string[]
  /** Counters that began anew unannounced; the stretch is worth 0. */
  falls: { from: string; to: string }[]
  /** Start notices without a stop before them, so that nothing is counted from zero. */
  restartsUnproven: { from: string; to: string }[]
  gaps: { from: string; to: string; kind: string; rule: string }[]
}

/** What was said twice and differently: all kept, billed at what charges least. */
export interface Conflicts {
  /** Null: of all customers. */
  customerId: string | null
  from: string
  to: string
  asOf: string
  complete: boolean
  events: {
    /** Whose one of the contents is. */
    customerId: string | null
    source: string
    id: string
    type: string
    /** Different contents under this identity. */
    variants: number
    at: string
    receivedAt: string
    voided: boolean
  }[]
  /** VMs with different readings of one instant; `at` names the newest twenty. A page looks at a hundred VMs, behind the
   *  last event, and may name none of them. */
  vms: { customerId: string; vmId: string; conflicts: number; at: string[] }[]
  nextCursor: string | null
}

export interface VmTimeline {
  customerId: string
  vmId: string
  from: string
  to: string
  asOf: string
  complete: boolean
  strip: { from: string; to: string; kind: 'measured' | 'gap' | 'unmeasured' | 'host_down' | 'disputed' }[]
}

export interface PlanList {
  plans: PlanView[]
  nextCursor: string | null
}

export interface PlanView {
  id: string
  name: string
  currency: string
  /** How many there are. */
  versions?: number
}

export interface PlanVersionList {
  versions: PlanVersionView[]
  nextCursor: string | null
}

export interface PlanVersionView {
  version: number
  effectiveFrom: string
  /** What of time without readings is billed. */
  gapPolicy: 'zero' | 'floor' | 'interpolate'
  minimumNano: string
  unbilled: string[]
  /** As they were given; see the body of the version's POST. */
  prices: Record<string, unknown>[]
}

export interface SubscriptionView {
  id: string
  customerId: string
  planId: string
  from: string
  to: string | null
}

export interface SubscriptionList {
  subscriptions: SubscriptionView[]
  nextCursor: string | null
}

export interface CreditList {
  credits: CreditView[]
  nextCursor: string | null
}

export interface InvoiceList {
  asOf: string
  complete: boolean
  invoices: InvoiceSummary[]
  nextCursor: string | null
}

export interface Voided {
  id: string
  number: string | null
  state: 'void'
  /** The draft of the same period that takes its place. */
  replacement: string
}

export interface ReceiptKey {
  algorithm: string
  /** Base64 of the 32 bytes. */
  publicKey: string
}

export interface QuarantineItem {
  id: string
  what: 'sample' | 'event' | 'mark'
  customerId: string | null
  vmId: string | null
  reason: string
  state: 'open' | 'released' | 'discarded'
  receivedAt: string
  /** JSON text: reading it as JSON would round what a sender counted. */
  payload: string
}

export interface QuarantineList {
  asOf: string
  complete: boolean
  items: QuarantineItem[]
  nextCursor: string | null
}

export interface ReplicaList {
  nextCursor: string | null
  replicas: {
    id: string
    /** The one that answers. */
    isThisOne: boolean
    lastSeen: string
    foldedUntil: string | null
    backlogBytes: string
    retiredAt: string | null
  }[]
}

export interface Retired {
  id: string
  retired: boolean
}

export interface StripeCustomer {
  customerId: string
  stripeCustomerId: string | null
}

export interface StripePushList {
  isOn: boolean
  nextCursor: string | null
  pushes: {
    customerId: string
    periodFrom: string
    kind: string
    object: string
    stripeId: string | null
    status: string | null
    value: string | null
    problem: string | null
    updatedAt: string
  }[]
}

export interface PortalIdentity {
  customerId: string
  subject: string
  expiresAt: string
}

export interface PortalInvoiceList {
  invoices: InvoiceSummary[]
}

export interface Invalidated {
  invalidated: number
}
