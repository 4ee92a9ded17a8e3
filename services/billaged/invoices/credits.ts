import { smaller } from '../bigint.ts'

export type CreditKind = 'promotional' | 'prepaid'

/** A grant and what is left of it. */
export interface CreditBalance {
  id: string
  kind: CreditKind
  currency: string
  leftNano: bigint
  priority: number
  fromMs: number
  expiresMs: number | null
  createdMs: number
}

/** Takes up to `amountNano` from the grants of one kind, in their order: priority, expiry, creation. */
export function burn(grants: readonly CreditBalance[], amountNano: bigint): { grantId: string; amountNano: bigint }[] {
  const burns: { grantId: string; amountNano: bigint }[] = []
  let left = amountNano
  for (const grant of grants.toSorted(compareGrants)) {
    if (left <= 0n) break
    const taken = smaller(left, grant.leftNano)
    if (taken <= 0n) continue
    burns.push({ grantId: grant.id, amountNano: taken })
    left -= taken
  }
  return burns
}

/** A credit pays for a period it was valid in at any time. */
export function isUsable(grant: CreditBalance, period: { fromMs: number; toMs: number }, currency: string): boolean {
  return (
    grant.currency === currency &&
    grant.leftNano > 0n &&
    grant.fromMs < period.toMs &&
    (grant.expiresMs === null || grant.expiresMs > period.fromMs)
  )
}

function compareGrants(a: CreditBalance, b: CreditBalance): number {
  const never = Number.POSITIVE_INFINITY
  return (
    a.priority - b.priority ||
    order(a.expiresMs ?? never, b.expiresMs ?? never) ||
    order(a.createdMs, b.createdMs) ||
    (a.id < b.id ? -1 : 1)
  )
}

/** Unlike a difference, right for two infinities too. */
function order(a: number, b: number): number {
  if (a === b) return 0
  return a < b ? -1 : 1
}
