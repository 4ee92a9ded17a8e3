// Invoices, what they rest on, and the month-close gate.

import type {
  Blocker,
  BlockerCode,
  CloseReport,
  Conflicts,
  CreditView,
  Explanation,
  Invoice,
  InvoiceLineView,
  InvoiceSummary,
  OutageList,
  OutageView,
} from '../../../services/billaged/api.ts'
import type { Receipt } from '../../../services/billaged/invoices/receipt.ts'
import { addressOf, call, send } from './http.ts'

export type {
  Blocker,
  BlockerCode,
  CloseReport,
  Conflicts,
  Explanation,
  Invoice,
  InvoiceLineView,
  InvoiceSummary,
  OutageView,
  Receipt,
}

type Signal = AbortSignal | undefined
const service = 'billaged'
const invoicePath = (id: string) => `/v1/invoices/${encodeURIComponent(id)}`

export interface InvoiceQuery {
  customer?: string
  period?: string
  state?: string
  cursor?: string
  limit: number
}
export const listInvoices = (query: InvoiceQuery, signal: Signal) =>
  call<{ invoices: InvoiceSummary[]; nextCursor: string | null }>({
    service,
    path: '/v1/invoices',
    params: { ...query },
    signal,
  })
export const getInvoice = (id: string, signal: Signal) => call<Invoice>({ service, path: invoicePath(id), signal })
/** The invoice of a period as it would be now. */
export const getDraft = (customer: string, period: string, signal: Signal) =>
  call<Invoice>({ service, path: '/v1/invoices/draft', params: { customer, period }, signal })
export const finaliseInvoice = (id: string, reason?: string) =>
  call<Invoice>({
    service,
    method: 'POST',
    path: `${invoicePath(id)}/finalise`,
    body: reason === undefined ? {} : { force: { reason } },
  })
export const voidInvoice = (id: string, reason: string) =>
  call<{ replacement: string }>({ service, method: 'POST', path: `${invoicePath(id)}/void`, body: { reason } })
/** From an amount down to its hours; with a VM, that VM's hours one by one. */
export const explainLine = (invoice: string, line: string, vm: string, signal: Signal) =>
  call<Explanation>({
    service,
    path: `${invoicePath(invoice)}/lines/${encodeURIComponent(line)}/explain`,
    params: { vm },
    signal,
  })
export const getReceipt = (invoice: string, signal: Signal) =>
  call<Receipt>({ service, path: `${invoicePath(invoice)}/receipt`, signal })
/** What the root of the receipt is over: a line an hour of a VM, a line a type of event. */
export const fetchEvidence = async (invoice: string) => {
  const response = await send({
    service,
    path: `${invoicePath(invoice)}/evidence`,
    headers: { accept: 'application/x-ndjson' },
  })
  return (await response.text()).split('\n').filter(line => line !== '')
}
export const getIssuerKey = (signal: Signal) =>
  call<{ algorithm: string; publicKey: string }>({ service, path: '/v1/receipts/key', signal })

export const documentFormats = ['pdf', 'html', 'csv', 'json'] as const
export type DocumentFormat = (typeof documentFormats)[number]
export const documentAddress = (id: string, format: DocumentFormat) =>
  addressOf({ service, path: `${invoicePath(id)}.${format}` })
export const fetchDocument = async (id: string, format: DocumentFormat) => {
  const response = await send({ service, path: `${invoicePath(id)}.${format}`, headers: { accept: '*/*' } })
  return response.blob()
}

/** The gate waits up to 15 s until everything is folded, and then rates; the proxy on the way waits 30 s. */
const closeTimeoutMs = 32_000
/** Closed with one call, so that each call is well within that. */
const customersAtOnce = 10

export const lookAtClose = (month: string, signal: Signal) =>
  call<CloseReport>({ service, path: `/v1/close/${month}`, signal, timeoutMs: closeTimeoutMs })

/** Some customers after the others; closing again what is closed changes nothing. */
export async function closeMonth(
  month: string,
  { customers, force }: { customers: readonly string[]; force?: { reason: string } },
): Promise<CloseReport> {
  const report: CloseReport = { period: month, dryRun: false, ready: [], finalised: [], blocked: [] }
  for (let i = 0; i < customers.length; i += customersAtOnce) {
    const part = await call<CloseReport>({
      service,
      method: 'POST',
      path: `/v1/close/${month}`,
      body: { customers: customers.slice(i, i + customersAtOnce), ...(force === undefined ? {} : { force }) },
      timeoutMs: closeTimeoutMs,
    })
    report.finalised.push(...part.finalised)
    report.blocked.push(...part.blocked)
  }
  return report
}

/** Measured customer by customer, like a look at a close. */
export const listOutages = (period: string, signal: Signal) =>
  call<OutageList>({
    service,
    path: '/v1/outages',
    params: { period, limit: 100 },
    signal,
    timeoutMs: closeTimeoutMs,
  })
export const creditOutages = (customerId: string, period: string) =>
  call<CreditView>({ service, method: 'POST', path: '/v1/outages/credit', body: { customerId, period } })

export interface Replica {
  id: string
  isThisOne: boolean
  lastSeen: string
  foldedUntil: string | null
  backlogBytes: string
  retiredAt: string | null
}
export const listReplicas = (signal: Signal) => call<{ replicas: Replica[] }>({ service, path: '/v1/replicas', signal })

export type QuarantineState = 'open' | 'released' | 'discarded'
export interface QuarantinedItem {
  id: string
  what: string
  customerId: string | null
  vmId: string | null
  reason: string
  state: QuarantineState
  receivedAt: string
  /** JSON text, as it was sent. */
  payload: string
}
export const listQuarantine = (query: { state: QuarantineState; cursor?: string; limit: number }, signal: Signal) =>
  call<{ items: QuarantinedItem[]; nextCursor: string | null }>({
    service,
    path: '/v1/quarantine',
    params: { ...query },
    signal,
  })
export const decideQuarantined = (id: string, how: 'release' | 'discard', reason?: string) =>
  call<QuarantinedItem>({
    service,
    method: 'POST',
    path: `/v1/quarantine/${encodeURIComponent(id)}/${how}`,
    body: reason === undefined ? {} : { reason },
  })

export const listConflicts = (customer: string, from: string, signal: Signal) =>
  call<Conflicts>({ service, path: '/v1/conflicts', params: { customer, from, limit: 200 }, signal })
