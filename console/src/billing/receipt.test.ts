import assert from 'node:assert/strict'
import { createPublicKey, generateKeyPairSync } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Invoice, InvoiceLineView } from '../../../services/billaged/api.ts'
import { canonicalJson as theirs } from '../../../services/billaged/invoices/canonical.ts'
import { leafHash, merkleRoot } from '../../../services/billaged/invoices/merkle.ts'
import { type Receipt, type ReceiptBody, sealReceipt } from '../../../services/billaged/invoices/receipt.ts'
import { canonicalJson, checkEvidence, checkReceipt } from './receipt.ts'

const { privateKey } = generateKeyPairSync('ed25519')
const publicKey = createPublicKey(privateKey).export({ format: 'der', type: 'spki' }).subarray(-32).toString('base64')

/** Only what is checked; there is more on a real one. */
function line(o: Partial<InvoiceLineView>): InvoiceLineView {
  return plain({
    id: 'li_1',
    kind: 'usage',
    description: 'CPU “core-hours”',
    plan: { id: 'std', version: 1 },
    priceId: 'cpu',
    meter: 'vm_cpu',
    model: 'per_unit',
    group: {},
    segment: { from: '2026-10-01T00:00:00.000Z', to: '2026-11-01T00:00:00.000Z' },
    quantity: '444444440436000',
    freeQuantity: '0',
    tiers: [],
    amountNano: '12345678901',
    dividend: '44444444043600000000000',
    divisor: '3600000000000',
    remainder: '0',
    billedNano: '0',
    adjusts: null,
    adjustsPeriod: null,
    cause: null,
    creditId: null,
    taxPpm: null,
    ...o,
  })
}

/** As it comes over the wire. */
function plain(value: object) {
  return JSON.parse(JSON.stringify(value))
}
const rounding = {
  id: 'li_2',
  kind: 'rounding',
  divisor: '1',
  remainder: '0',
  amountNano: '-5678901',
  dividend: '-5678901',
} as const
const cpu = line({ dividend: `${12_345_678_901n * 3_600_000_000_000n + 7n}`, remainder: '7' })

function seal(lines: InvoiceLineView[], due: string): Receipt {
  const invoice: Invoice = plain({
    id: 'inv_1',
    number: 'INV-2026-000001',
    customerId: 'acme',
    customerName: 'Acmé',
    state: 'finalised',
    revision: 0,
    period: { from: '2026-10-01T00:00:00.000Z', to: '2026-11-01T00:00:00.000Z' },
    currency: 'USD',
    totalNano: '12345678901',
    dueMinor: '1234',
    due,
    taxPpm: 0,
    issuedAt: '2026-11-02T00:00:00.000Z',
    forced: null,
    asOf: '2026-11-02T00:00:00.000Z',
    complete: true,
    lines,
    blockers: [],
  })
  const receipt: ReceiptBody = {
    version: 1,
    customerId: 'acme',
    seq: 1,
    prevHash: '00'.repeat(32),
    publicKey,
    invoice,
    prices: {},
    segments: [],
    evidence: { leaves: 0, root: '' },
    rules: { fold: 1, rating: 1 },
  }
  const sealed = sealReceipt(receipt, { privateKey, publicKey })
  return {
    receipt: JSON.parse(sealed.text),
    hash: sealed.hash.toString('hex'),
    signature: sealed.signature.toString('base64'),
    publicKey,
  }
}

const verdict = async (receipt: Receipt, issuerKey = publicKey) =>
  Object.fromEntries((await checkReceipt(receipt, issuerKey)).map(({ name, holds }) => [name, holds]))

test('a receipt as billaged seals it holds, and one changed digit does not', async () => {
  const receipt = seal([cpu, line(rounding)], '12.34')
  assert.deepEqual(await verdict(receipt), { content: true, signature: true, arithmetic: true })
  const changed = structuredClone(receipt)
  changed.receipt.invoice.customerName = 'Acme'
  assert.deepEqual(await verdict(changed), { content: false, signature: false, arithmetic: true })
})

test('a receipt signed over wrong arithmetic is found out', async () => {
  assert.equal((await verdict(seal([cpu, line(rounding)], '12.35'))).arithmetic, false)
  assert.equal((await verdict(seal([{ ...cpu, remainder: '8' }, line(rounding)], '12.34'))).arithmetic, false)
})

test('a key that is not the one of this platform is not called a forgery, nor proof', async () => {
  assert.equal((await verdict(seal([cpu, line(rounding)], '12.34'), 'another')).signature, null)
})

test('evidence is held against the signed root, line by line', async () => {
  const lines = ['{"hour":1}', '{"hour":2}', '{"hour":3}']
  const receipt = seal([cpu, line(rounding)], '12.34')
  receipt.receipt.evidence = { leaves: 3, root: merkleRoot(lines.map(leafHash)).toString('hex') }
  assert.equal((await checkEvidence(receipt, lines)).holds, true)
  assert.equal((await checkEvidence(receipt, lines.slice(1))).holds, false)
  assert.equal((await checkEvidence(receipt, lines.toReversed())).holds, false)
})

test('canonical JSON is that of the service', () => {
  const value = fc.letrec(tie => ({
    any: fc.oneof(
      { maxDepth: 4 },
      fc.string({ unit: 'grapheme' }),
      fc.maxSafeInteger(),
      fc.boolean(),
      fc.constant(null),
      fc.array(tie('any'), { maxLength: 4 }),
      fc.dictionary(fc.string(), tie('any'), { maxKeys: 4 }),
    ),
  })).any
  fc.assert(fc.property(value, one => assert.equal(canonicalJson(one), theirs(one as never))))
})
