// The wire of the OpenMeter API, types only: its fields, and ours beside them. Times are RFC 3339 UTC.

export interface MeterView {
  id: string
  slug: string
  name: string
  description?: string | undefined
  aggregation: string
  eventType: string
  eventFrom?: string | undefined
  /** A JSONPath such as $.tokens. */
  valueProperty?: string | undefined
  /** Ours: values that are added, when there are several. */
  valueProperties?: (string | undefined)[]
  /** Ours, of WEIGHTED_SUM: whether an event sets the level or changes it. */
  valueMode?: 'set' | 'delta' | undefined
  groupBy: Record<string, string>
  metadata: Record<string, string>
  /** Ours: of one whole unit of quantity. */
  unit: string
  createdAt?: string
  updatedAt?: string
}

export interface MeterResult {
  from: string | undefined
  to: string | undefined
  windowSize: string | undefined
  data: MeterResultRow[]
}

export interface MeterResultRow {
  value: number
  /** `value` may be rounded to a double; this is not. */
  valueExact: string
  windowStart: string | undefined
  windowEnd: string | undefined
  subject: string | null
  customerId: string | null
  groupBy: Record<string, string | null>
}

export interface IngestedEvent {
  event: {
    specversion: string
    id: string
    source: string
    type: string
    subject?: string | undefined
    time?: string | undefined
    data: unknown
  }
  customerId?: string | undefined
  validationError?: string | undefined
  ingestedAt: string
  storedAt: string
}

export interface VoidedEvent {
  source: string
  id: string
  reason: string
  /** An event may come after its void. */
  isKnown: boolean
}

export interface SubjectView {
  id: string
  key: string
  displayName?: string | undefined
  metadata: Record<string, unknown>
  /** Ours: whose usage its events are. */
  customerId: string
  createdAt: string
  updatedAt: string
}

export interface PortalTokenView {
  id: string
  subject: string
  customerId: string
  expiresAt: string
  expired: boolean
  createdAt: string
  allowedMeterSlugs?: string[] | undefined
  /** Only where it was just made. */
  token?: string
  /** Only where it was just made: the page it opens. */
  link?: string
}

export interface PortalTokenList {
  tokens: PortalTokenView[]
  nextCursor: string | null
}
