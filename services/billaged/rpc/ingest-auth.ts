import { actsFor, type Caller, may, type Recognised } from '../access.ts'
import {
  keyOfAnotherTenant,
  keyRequired,
  keyUnknown,
  notAcknowledged,
  operatorKeyRequired,
  tenantMismatch,
  tenantRequired,
} from '../errors.ts'
import { checkId } from '../intake/validate.ts'

export type IngestMode = 'guide' | 'tenant' | 'strict'

export interface IngestRequest {
  /** `deploy.billaged.v1` asks for a tenant where the other two packages do not. */
  service: string
  isHeartbeat: boolean
  /** What the message says; null when it has no such field, '' when it left it out. */
  customerId: string | null
  header(name: string): string | null
  isCertified: boolean
}

/** Whom the message speaks for: the customer's id, or null for a notice that names none. Throws what the sender lacks. */
export function authorizeIngest(
  mode: IngestMode,
  recognise: (authorization: string | undefined) => Recognised,
  request: IngestRequest,
): string | null {
  const header = request.header('x-tenant-id')?.trim() || null
  const claimed = request.customerId || null
  if (!request.isHeartbeat && header === null && (mode === 'tenant' || needsTenant(mode, request.service)))
    throw tenantRequired()
  if (header !== null && claimed !== null && header !== claimed) throw tenantMismatch(header, claimed)
  const customerId = claimed ?? (header === null ? null : checkId(header, 'X-Tenant-ID'))
  if (mode !== 'strict') return customerId
  return authorizeStrict(recognise, request, customerId)
}

function needsTenant(mode: IngestMode, service: string): boolean {
  return mode === 'guide' && service === 'deploy.billaged.v1.BillingService'
}

function authorizeStrict(
  recognise: (authorization: string | undefined) => Recognised,
  { header, isCertified, isHeartbeat }: IngestRequest,
  customerId: string | null,
): string | null {
  const caller = recognise(header('authorization') ?? undefined)
  if (caller === 'none' && isCertified) return customerId
  if (caller === 'none') throw keyRequired()
  if (caller === 'unknown') throw keyUnknown()
  if (caller === 'unavailable')
    throw notAcknowledged({ reason: 'DATABASE_AWAY', message: 'keys cannot be checked now; try again', retryAfterS: 5 })
  if (isHeartbeat && caller.tenant !== null) throw operatorKeyRequired()
  return actingFor(caller, customerId)
}

/** A tenant's key speaks for its tenant where the message and the header do not say. */
function actingFor(caller: Caller, customerId: string | null): string | null {
  const acting = customerId ?? caller.tenant
  if (!may(caller, 'billaged:ingest') || (acting !== null && !actsFor(caller, acting)))
    throw keyOfAnotherTenant(acting ?? '')
  return acting
}
