import { createHash, createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto'
import type { Invoice } from '../api.ts'
import { nanoPerMinor } from '../rating/currency.ts'
import { type GapPolicy, type Price, priceSchema } from '../rating/plan.ts'
import { type Hours, rateLine } from '../rating/rate.ts'
import type { Sample } from '../samples/sample.ts'
import { sampleSet } from '../samples/sample.ts'
import { quantity, type VmMeter, vmMeterNames } from '../usage/quantity.ts'
import { type CanonicalValue, canonicalJson } from './canonical.ts'
import { parseHourLine, sampleSetDigest } from './evidence.ts'
import { leafHash, merkleRoot } from './merkle.ts'
import { hoursOf, lineOf, spanView } from './view.ts'

// A receipt says, once and for all, what an invoice was made of: its lines with the price and the rational of each, the
// root of the tree over the evidence, and the hash of the receipt before it. It is checked with nothing but itself and
// the public key; with the evidence (and the readings) at hand, usage is done again too.

export interface ReceiptBody {
  version: 1
  customerId: string
  /** Place in the customer's chain, from 1. */
  seq: number
  prevHash: string
  /** The issuer's key when it was signed, base64 of the 32 bytes: receipts outlive a change of the platform's secret. */
  publicKey: string
  invoice: Invoice
  /** Prices of the lines, by line id, as the plan version has them. */
  prices: Record<string, unknown>
  segments: { from: string; to: string; planId: string | null; planVersion: number | null; gapPolicy: GapPolicy }[]
  evidence: { leaves: number; root: string }
  /** Versions of the rules that made usage and charges. */
  rules: { fold: number; rating: number }
}

export interface Receipt {
  receipt: ReceiptBody
  hash: string
  /** Ed25519 over the hash's 32 bytes, base64. */
  signature: string
  publicKey: string
}

export const firstHash = Buffer.alloc(32)
export const rules = { fold: 1, rating: 1 } as const

export interface SigningKey {
  privateKey: KeyObject
  publicKey: string
}

/** From 32 secret bytes; the same on every replica that shares the platform's secret. */
export function signingKey(seed: Buffer): SigningKey {
  const pkcs8 = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed])
  const privateKey = createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' })
  const spki = createPublicKey(privateKey).export({ format: 'der', type: 'spki' })
  return { privateKey, publicKey: spki.subarray(-32).toString('base64') }
}

export function sealReceipt(body: ReceiptBody, key: SigningKey): { text: string; hash: Buffer; signature: Buffer } {
  const text = canonicalJson(plain(body))
  const hash = createHash('sha256').update(text, 'utf8').digest()
  return { text, hash, signature: sign(null, hash, key.privateKey) }
}

/** JSON of our own types has no other values. */
function plain(body: ReceiptBody): CanonicalValue {
  const value: CanonicalValue = JSON.parse(JSON.stringify(body))
  return value
}

export function isSignedBy(hash: Buffer, signature: Buffer, publicKey: string): boolean {
  const spki = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), Buffer.from(publicKey, 'base64')])
  if (spki.length !== 44) return false
  return verify(null, hash, createPublicKey({ key: spki, format: 'der', type: 'spki' }), signature)
}

export interface ReadingOfVm extends Sample {
  vmId: string
}

/** Every way in which a receipt does not hold; none when it does. `publicKey`: the issuer's, from a place one trusts;
 *  without it the receipt's own is taken, which proves only that it is whole. */
export function checkReceipt(
  { receipt, hash, signature, publicKey }: Receipt,
  o: { publicKey?: string; evidence?: readonly string[]; samples?: readonly ReadingOfVm[]; previous?: Receipt } = {},
): string[] {
  const problems: string[] = []
  const computed = createHash('sha256')
    .update(canonicalJson(plain(receipt)), 'utf8')
    .digest()
  if (computed.toString('hex') !== hash) problems.push(`its content hashes to ${computed.toString('hex')}, not ${hash}`)
  if (receipt.publicKey !== publicKey) problems.push(`it was signed by ${receipt.publicKey}, not ${publicKey}`)
  const key = o.publicKey ?? receipt.publicKey
  const bytes = Buffer.from(signature, 'base64')
  // Base64 has bits to spare at its end, and a lenient reader: only the one spelling is the signature.
  if (bytes.toString('base64') !== signature || !isSignedBy(computed, bytes, key))
    problems.push(`its signature is not by the key ${key}`)
  if (o.previous !== undefined && o.previous.hash !== receipt.prevHash)
    problems.push(`it follows ${receipt.prevHash}, not ${o.previous.hash}`)
  problems.push(...checkAmounts(receipt))
  if (o.evidence !== undefined) problems.push(...checkEvidence(receipt, o.evidence))
  if (o.samples !== undefined)
    problems.push(...(o.evidence === undefined ? ['samples need the evidence'] : checkSamples(o.evidence, o.samples)))
  return problems
}

function checkAmounts(receipt: ReceiptBody): string[] {
  const problems: string[] = []
  const period = hoursOf(receipt.invoice.period)
  let total = 0n
  for (const view of receipt.invoice.lines) {
    const line = lineOf(view)
    total += line.amountNano
    const isDivided = line.divisor > 0n && line.remainder >= 0n && line.remainder < line.divisor
    const quotient = isDivided ? (line.dividend - line.remainder) / line.divisor : null
    if (quotient !== line.amountNano + line.billedNano)
      problems.push(`${line.id}: ${line.dividend} ÷ ${line.divisor} is not ${line.amountNano + line.billedNano}`)
    if (line.kind !== 'usage' && line.kind !== 'flat') continue
    const price = priceOf(receipt, line.id)
    const again =
      price === null || line.plan === null ? null : rateLine(price, line.plan, line.quantityE9, line.segment, period)
    if (again === null || again.amountNano !== line.amountNano || again.dividend !== line.dividend)
      problems.push(`${line.id}: its price makes ${again?.amountNano ?? 'nothing'} of it, not ${line.amountNano}`)
  }
  const due = BigInt(receipt.invoice.dueMinor) * nanoPerMinor(receipt.invoice.currency)
  if (total !== due) problems.push(`its lines sum to ${total}, not to the ${due} due`)
  return problems
}

function checkEvidence(receipt: ReceiptBody, lines: readonly string[]): string[] {
  const root = merkleRoot(lines.map(leafHash)).toString('hex')
  if (root !== receipt.evidence.root) return [`the evidence has the root ${root}, the receipt ${receipt.evidence.root}`]
  const hours = lines.filter(line => !isEventLine(line)).map(parseHourLine)
  const problems: string[] = []
  for (const view of receipt.invoice.lines) {
    const meter = vmMeterNames.find(name => name === view.meter)
    if (view.kind !== 'usage' || meter === undefined) continue
    const measured = sumOfHours(hours, meter, hoursOf(view.segment), policyOf(receipt, view.segment))
    if (`${measured}` !== view.quantity)
      problems.push(`${view.id}: the evidence sums to ${measured} of ${meter}, the line has ${view.quantity}`)
  }
  return problems
}

function sumOfHours(
  hours: readonly ReturnType<typeof parseHourLine>[],
  meter: VmMeter,
  segment: Hours,
  policy: GapPolicy,
): bigint {
  let total = 0n
  for (const { hour, cell } of hours)
    if (hour >= segment.from && hour < segment.to) total += quantity(cell, meter, policy)
  return total
}

function policyOf(receipt: ReceiptBody, segment: { from: string }): GapPolicy {
  return receipt.segments.find(({ from, to }) => from <= segment.from && segment.from < to)?.gapPolicy ?? 'zero'
}

function checkSamples(evidence: readonly string[], samples: readonly ReadingOfVm[]): string[] {
  const byHour = Map.groupBy(samples, ({ vmId, atNs }) => `${vmId}\n${atNs / 3_600_000_000_000n}`)
  const problems: string[] = []
  for (const { vmId, hour, digest } of evidence.filter(line => !isEventLine(line)).map(parseHourLine)) {
    const made = sampleSetDigest(sampleSet(byHour.get(`${vmId}\n${hour}`) ?? []))
    if (made !== digest) problems.push(`${vmId}, hour ${hour}: the samples hash to ${made}, the evidence has ${digest}`)
  }
  return problems
}

/** Names are in order in canonical JSON: only the line of an event type begins with its count. */
export function isEventLine(line: string): boolean {
  return line.startsWith('{"count"')
}

function priceOf(receipt: ReceiptBody, lineId: string): Price | null {
  const parsed = priceSchema.safeParse(receipt.prices[lineId])
  return parsed.success ? parsed.data : null
}

export function receiptBody(o: {
  invoice: Invoice
  seq: number
  prevHash: Buffer
  publicKey: string
  prices: Record<string, unknown>
  segments: readonly {
    segment: Hours
    planId: string | null
    version: { version: number; gapPolicy: GapPolicy } | null
  }[]
  leaves: readonly Buffer[]
}): ReceiptBody {
  return {
    version: 1,
    customerId: o.invoice.customerId,
    seq: o.seq,
    prevHash: o.prevHash.toString('hex'),
    publicKey: o.publicKey,
    invoice: o.invoice,
    prices: o.prices,
    segments: o.segments.map(({ segment, planId, version }) => ({
      ...spanView(segment),
      planId,
      planVersion: version?.version ?? null,
      gapPolicy: version?.gapPolicy ?? 'zero',
    })),
    evidence: { leaves: o.leaves.length, root: merkleRoot(o.leaves).toString('hex') },
    rules: { ...rules },
  }
}

/** A price as the plan has it, for storing: amounts as strings. */
export function priceJson(price: Price): unknown {
  return JSON.parse(
    JSON.stringify(price, (_, value: unknown) => (typeof value === 'bigint' ? value.toString() : value)),
  )
}
