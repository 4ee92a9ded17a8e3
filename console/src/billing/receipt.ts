import { nanoPerUsd } from '#platform/money'
import type { Receipt } from '../api/billing-invoices.ts'
import { hexOf, leavesMax, merkleRoot } from './merkle.ts'

// Checks a receipt here, in the browser, with nothing of the service that made it but its public key: the content against
// the hash, the hash against the signature, and every amount against its own division. Prices and readings are done again
// by `billaged-cli verify`, which has the rating code.

export interface ReceiptCheck {
  name: 'content' | 'signature' | 'arithmetic' | 'evidence'
  /** Null: this browser cannot tell. */
  holds: boolean | null
  detail: string
}

export async function checkReceipt(receipt: Receipt, issuerKey: string): Promise<ReceiptCheck[]> {
  return [...(await checkSeal(receipt, issuerKey)), checkArithmetic(receipt)]
}

/** The lines of evidence, as the service gives them out, against the root that was signed. */
export async function checkEvidence(
  { receipt: { evidence } }: Receipt,
  lines: readonly string[],
): Promise<ReceiptCheck> {
  const subtle: SubtleCrypto | undefined = globalThis.crypto?.subtle
  const check = (holds: boolean | null, detail: string): ReceiptCheck => ({ name: 'evidence', holds, detail })
  if (subtle === undefined) return check(null, withoutCryptography)
  if (lines.length > leavesMax) return check(null, `${lines.length} lines are too many for a page.`)
  if (lines.length !== evidence.leaves)
    return check(false, `There are ${lines.length} lines, and ${evidence.leaves} were signed.`)
  const root = await merkleRoot(lines, subtle)
  return root === evidence.root
    ? check(true, `${lines.length} lines, root ${root}`)
    : check(false, `The lines have the root ${root}, and ${evidence.root} was signed.`)
}

const withoutCryptography = 'This page is not served over https or from localhost, where browsers have no cryptography.'

async function checkSeal({ receipt, hash, signature, publicKey }: Receipt, issuerKey: string): Promise<ReceiptCheck[]> {
  // Absent on plain http from another machine: browsers keep it for secure pages.
  const subtle: SubtleCrypto | undefined = globalThis.crypto?.subtle
  if (subtle === undefined) {
    const detail = withoutCryptography
    return [
      { name: 'content', holds: null, detail },
      { name: 'signature', holds: null, detail },
    ]
  }
  const digest = new Uint8Array(await subtle.digest('SHA-256', new TextEncoder().encode(canonicalJson(receipt))))
  const isWhole = hexOf(digest) === hash
  const content: ReceiptCheck = {
    name: 'content',
    holds: isWhole,
    detail: isWhole ? `SHA-256 ${hash}` : `It hashes to ${hexOf(digest)} and not to ${hash}.`,
  }
  const isIssuers = issuerKey === publicKey && publicKey === receipt.publicKey
  return [content, isIssuers ? await checkSignature(subtle, digest, signature, issuerKey) : otherKey(publicKey)]
}

/** Receipts outlive a change of the platform's secret; then the key of today is another one. */
function otherKey(publicKey: string): ReceiptCheck {
  return {
    name: 'signature',
    holds: null,
    detail: `It names the key ${publicKey}, which is not the one this platform signs with now.`,
  }
}

async function checkSignature(
  subtle: SubtleCrypto,
  digest: Uint8Array<ArrayBuffer>,
  signature: string,
  publicKey: string,
): Promise<ReceiptCheck> {
  try {
    const key = await subtle.importKey('raw', bytesOf(publicKey), { name: 'Ed25519' }, false, ['verify'])
    const holds = await subtle.verify({ name: 'Ed25519' }, key, bytesOf(signature), digest)
    return {
      name: 'signature',
      holds,
      detail: holds ? `Ed25519, key ${publicKey}` : `It is not signed by the key ${publicKey}.`,
    }
  } catch {
    return { name: 'signature', holds: null, detail: 'This browser has no Ed25519.' }
  }
}

/** dividend = divisor × (amount + what was billed before) + remainder for every line, and the lines sum to what is due. */
function checkArithmetic({ receipt: { invoice } }: Receipt): ReceiptCheck {
  let sum = 0n
  for (const line of invoice.lines) {
    const [dividend, divisor, remainder] = [BigInt(line.dividend), BigInt(line.divisor), BigInt(line.remainder)]
    const quotient = BigInt(line.amountNano) + BigInt(line.billedNano)
    if (divisor <= 0n || remainder < 0n || remainder >= divisor || divisor * quotient + remainder !== dividend)
      return {
        name: 'arithmetic',
        holds: false,
        detail: `${line.id}: ${line.dividend} ÷ ${line.divisor} is not ${quotient}.`,
      }
    sum += BigInt(line.amountNano)
  }
  const due = nanoOf(invoice.due)
  return due === sum
    ? {
        name: 'arithmetic',
        holds: true,
        detail: `${invoice.lines.length} lines sum to ${invoice.currency} ${invoice.due}`,
      }
    : { name: 'arithmetic', holds: false, detail: `The lines sum to ${sum} billionths, ${invoice.due} is due.` }
}

/** `12.34` in whole billionths. */
function nanoOf(decimal: string): bigint | null {
  const match = /^(-?)(\d{1,25})(?:\.(\d{1,9}))?$/.exec(decimal)
  if (!match) return null
  const [, sign, whole = '0', fraction = ''] = match
  const nano = BigInt(whole) * nanoPerUsd + BigInt(fraction.padEnd(9, '0'))
  return sign ? -nano : nano
}

/** RFC 8785 for the values of a receipt: members by their names' UTF-16 units, no spaces, whole numbers only. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join()}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonicalJson(member)}`).join()}}`
}

function bytesOf(base64: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(base64), char => char.charCodeAt(0))
}
