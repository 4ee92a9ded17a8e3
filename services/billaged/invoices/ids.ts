import { createHash } from 'node:crypto'
import type { Hours } from '../rating/rate.ts'

// Ids are hashes of what they name, so that closing again, elsewhere or after a crash, makes the same ones.

export function invoiceId(customerId: string, period: Hours, revision: number): string {
  return `inv_${hashOf(['invoice', customerId, period.from, period.to, revision])}`
}

/** `rest`: what tells lines of one invoice apart beside price, segment, group and kind. */
export function lineId(
  invoice: { customerId: string; period: Hours; revision: number },
  line: {
    kind: string
    priceId: string | null
    segment: Hours
    group: Readonly<Record<string, string>>
    rest?: string | number | null
  },
): string {
  const { customerId, period, revision } = invoice
  const group = Object.entries(line.group).sort(([a], [b]) => (a < b ? -1 : 1))
  const { kind, priceId, segment, rest = null } = line
  return `li_${hashOf(['line', customerId, period.from, period.to, revision, kind, priceId, segment.from, segment.to, group, rest])}`
}

export function grantId(scope: string, key: string): string {
  return `cr_${hashOf(['credit', scope, key])}`
}

/** 125 bits in Crockford's lower-case base 32: no letter that is read as a digit. */
function hashOf(value: unknown): string {
  const digest = createHash('sha256').update(JSON.stringify(value)).digest()
  let bits = 0n
  for (const byte of digest.subarray(0, 16)) bits = (bits << 8n) | BigInt(byte)
  let text = ''
  for (let i = 0; i < 25; i++, bits >>= 5n) text = (alphabet[Number(bits & 31n)] ?? '') + text
  return text
}

const alphabet = '0123456789abcdefghjkmnpqrstvwxyz'
