import { e9 } from '../decimal.ts'
import { versionSchema } from '../rating/plan.ts'
import { ratePeriod } from '../rating/rate.ts'
import { emptyCell } from '../usage/cells.ts'
import { draftInvoice } from './draft.ts'
import { eventLine, hourLine, sampleSetDigest } from './evidence.ts'
import { leafHash } from './merkle.ts'
import { firstHash, priceJson, type Receipt, receiptBody, sealReceipt, signingKey } from './receipt.ts'
import type { Attached } from './sheet.ts'
import { invoiceView } from './view.ts'

// One invoice with its receipt and evidence, for tests: 123.45678901 core-hours at 0.10 and 19 % tax.

export const january = { from: 490_896, to: 491_640 }
const plan = { id: 'std', version: 1 }
const version = versionSchema.parse({
  effectiveFrom: '2020-01-01T00:00:00Z',
  prices: [{ id: 'cpu', model: 'per_unit', meter: 'vm_cpu', per: '3600000000000', amountNano: '100000000' }],
})
const sample = (atNs: bigint, cpuNs: bigint) => ({
  atNs,
  cpuNs,
  memoryBytes: 0n,
  diskReadBytes: 0n,
  diskWriteBytes: 0n,
  netRxBytes: 0n,
  netTxBytes: 0n,
})
const atNs = BigInt(january.from) * 3_600_000_000_000n
export const samples = [sample(atNs, 5n), sample(atNs + 60_000_000_000n, 444_444_440_436_005n)]
export const key = signingKey(Buffer.alloc(32, 7))

export function example(): { receipt: Receipt; evidence: string[]; attached: Attached } {
  const cell = emptyCell()
  cell.cpuNs.measured = 444_444_440_436_000n
  cell.cpuNs.longGap = 99n
  const evidence = [
    hourLine({ vmId: 'vm-1', hour: january.from, samples: 2, digest: sampleSetDigest(samples), cell }),
    eventLine({ type: 'x', from: january.from, to: january.to, count: 3, digest: 'ab' }),
  ]
  const usage = [{ meter: 'vm_cpu', group: {}, quantityE9: cell.cpuNs.measured * e9 }]
  const { lines } = ratePeriod(january, [{ segment: january, plan, version, usage }])
  const draft = draftInvoice({
    customerId: 'acme',
    period: january,
    revision: 0,
    currency: 'USD',
    taxPpm: 190_000,
    taxName: null,
    charges: lines,
    adjustments: [],
    grants: [],
  })
  const invoice = invoiceView(draft, {
    number: 'INV-2026-000001',
    state: 'finalised',
    customerName: '=HYPERLINK("x") <script>',
    parties: {
      seller: { name: 'Nordlicht Compute AB', address: ['Sveavägen 21', '111 34 Stockholm'], taxId: 'SE556677889901' },
      buyer: { name: '=HYPERLINK("x") <script>', address: [], taxId: null },
      terms: 'Payable within 30 days.',
    },
    unitOf: () => 'ns',
    issuedAt: '2026-02-02T00:00:00.000Z',
    forced: null,
    asOf: '2026-02-02T00:00:00.000Z',
    complete: true,
    blockers: [],
  })
  const cpu = version.prices[0]
  const prices = Object.fromEntries(
    invoice.lines.filter(({ kind }) => kind === 'usage').map(({ id }) => [id, cpu && priceJson(cpu)]),
  )
  const body = receiptBody({
    invoice,
    seq: 1,
    prevHash: firstHash,
    publicKey: key.publicKey,
    prices,
    segments: [{ segment: january, planId: 'std', version: { version: 1, gapPolicy: 'zero' } }],
    leaves: evidence.map(leafHash),
  })
  const { hash, signature } = sealReceipt(body, key)
  return {
    evidence,
    attached: { prices, proof: { seq: 1, hash: hash.toString('hex'), publicKey: key.publicKey } },
    receipt: {
      receipt: body,
      hash: hash.toString('hex'),
      signature: signature.toString('base64'),
      publicKey: key.publicKey,
    },
  }
}
