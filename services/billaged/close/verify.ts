import { checkReceipt, firstHash, type Receipt, type ReceiptBody } from '../invoices/receipt.ts'
import { formats } from '../invoices/render.ts'
import { overdrawnGrants } from '../store/credits.ts'
import { loadCustomer } from '../store/customers.ts'
import { finalisedOf, loadDocument, loadInvoice, sha256 } from '../store/invoices.ts'
import { readReceipts } from '../store/receipts.ts'
import { verifyHours, verifyParts } from '../store/verify-hours.ts'
import type { CloseContext } from './context.ts'
import { evidenceLines } from './explain.ts'
import { draftOf, prepare } from './prepare.ts'

export interface Verification {
  ok: boolean
  checked: { receipts: number; documents: number; invoices: number; hours: number; parts: number }
  problems: string[]
  /** Corrections that the next invoices will carry: late data, which is no fault. */
  pending: { customerId: string; amountNano: string }[]
}

/** Does everything that is stored for ever again: chains, signatures, documents, evidence, numbers, credits, parts and
 *  the hours of usage; and rates every closed period once more. */
export async function verifyAll(o: CloseContext): Promise<Verification> {
  const problems: string[] = []
  const checked = { receipts: 0, documents: 0, invoices: 0, hours: 0, parts: 0 }
  const customers = new Set<string>()
  let chain: { customerId: string; seq: number; hash: Buffer } | null = null
  for await (const row of readReceipts(o.sql)) {
    checked.receipts++
    const say = (problem: string) => problems.push(`receipt ${row.customerId} #${row.seq}: ${problem}`)
    const before = chain?.customerId === row.customerId ? chain : null
    if (row.seq !== (before?.seq ?? 0) + 1) say(`follows #${before?.seq ?? 0}; one is missing`)
    if (!row.prevHash.equals(before?.hash ?? firstHash)) say('is not chained to the one before it')
    chain = row
    customers.add(row.customerId)
    const body: ReceiptBody = JSON.parse(row.body)
    const receipt: Receipt = {
      receipt: body,
      hash: row.hash.toString('hex'),
      signature: row.signature.toString('base64'),
      publicKey: body.publicKey,
    }
    const evidence: string[] = []
    for await (const line of evidenceLines(o.sql, row.invoiceId)) evidence.push(line)
    for (const problem of checkReceipt(receipt, { evidence })) say(problem)
    const invoice = await loadInvoice(o.sql, row.invoiceId)
    checked.invoices++
    if (`${invoice?.totalNano}` !== receipt.receipt.invoice.totalNano) say('its invoice has another total')
    for (const format of formats) {
      const document = await loadDocument(o.sql, row.invoiceId, format)
      // Invoices of before sellers were printed have no PDF either.
      if (document === null && format === 'pdf' && !('seller' in body.invoice)) continue
      checked.documents++
      if (document === null) say(`its ${format} is missing`)
      else if (!sha256(document.body).equals(document.sha256)) say(`its ${format} does not have its digest`)
    }
  }
  const [numbers] = await o.sql<{ count: bigint; last: bigint | null; next: bigint }[]>`
    select count(*) as count, max(seq) as last, (select next from billaged.invoice_counter) as next
    from billaged.invoice where seq is not null`
  if (numbers !== undefined && (numbers.count !== (numbers.last ?? 0n) || numbers.next !== numbers.count + 1n))
    problems.push(`${numbers.count} numbers are given up to ${numbers.last ?? 0n}, the next is ${numbers.next}`)
  for (const id of await overdrawnGrants(o.sql)) problems.push(`credit ${id} is overdrawn`)
  const hours = await verifyHours(o.reader, o.rules)
  checked.hours = hours.hours
  problems.push(...hours.problems)
  checked.parts = await verifyParts(o.reader)
  problems.push(...(await o.damage()))
  return { ok: problems.length === 0, checked, problems, pending: await pendingCorrections(o, customers) }
}

async function pendingCorrections(o: CloseContext, customers: ReadonlySet<string>) {
  const pending: Verification['pending'] = []
  for (const id of customers) {
    const customer = await loadCustomer(o.sql, id, new Date(o.clock.now()))
    const last = (await finalisedOf(o.sql, id)).at(-1)
    if (customer === null || last === undefined) continue
    // The draft of the time after the last invoice carries every correction there is.
    const after = { from: last.period.to, to: last.period.to + 1 }
    const draft = await draftOf(o.sql, await prepare(o, customer, after), 0)
    if (draft === 'changed') continue
    const corrections = draft.lines.filter(line => line.kind === 'adjustment')
    if (corrections.length === 0) continue
    const amountNano = corrections.reduce((sum, line) => sum + line.amountNano, 0n)
    pending.push({ customerId: id, amountNano: `${amountNano}` })
  }
  return pending
}
