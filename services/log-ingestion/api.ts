// The wire shapes of log-ingestion's query side, for the console and other programs. Types only.

export type Level = 'TRACE' | 'DEBUG' | 'INFO' | 'WARN' | 'WARNING' | 'ERROR' | 'CRITICAL' | 'FATAL'

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json }

export interface LogEntry {
  /** Decimal; may exceed 2^53. */
  id: string
  /** RFC 3339, UTC, up to microseconds. */
  timestamp: string
  service: string
  /** One of Level for entries that came in here; rows of older programs may carry other words. */
  level: string
  message: string
  metadata: { readonly [key: string]: Json } | null
  /** When it was accepted. */
  created_at: string
}

/** GET or POST /api/v1/logs/search?q&from&to&limit&cursor&order&fields&timeout */
export interface SearchAnswer {
  /** With `fields`, only those members. */
  logs: LogEntry[]
  /** Send it back for the next page; null when there is none. */
  cursor: string | null
  /** The page ended because time, rows or bytes ran out; go on from the cursor. */
  partial: boolean
  stats: SearchStats
  /** Everything accepted before this time can be found. */
  watermark: string
}

export interface SearchStats {
  scanned_rows: number
  scanned_blocks: number
  skipped_blocks: number
  took_ms: number
}

/** GET /api/v1/logs/histogram?q&from&to&interval&by */
export interface HistogramAnswer {
  /** Go duration. */
  interval: string
  /** All of the range, empty ones included. Counts are decimal strings. */
  buckets: HistogramBucket[]
  partial: boolean
}

export interface HistogramBucket {
  time: string
  count: string
  /** Only when asked for with `by`. */
  by?: { readonly [value: string]: string }
}

/** GET or POST /api/v1/logs/fields?q&from&to&timeout */
export interface FieldsAnswer {
  /** Names as a query writes them; paths into objects are dotted. */
  fields: { name: string; types: string[]; count: string; share: number }[]
  /** False: a sample of the newest matches, as far as time and memory went. */
  complete: boolean
}

/** GET or POST /api/v1/logs/fields/:name/values?q&from&to&prefix&limit&timeout */
export interface FieldValuesAnswer {
  /** Most frequent first; counts are decimal strings. */
  values: { value: string; count: string }[]
  complete: boolean
}

/** GET /api/v1/logs/:id/context?before&after: neighbours of the same service, oldest first. */
export interface ContextAnswer {
  before: LogEntry[]
  entry: LogEntry
  after: LogEntry[]
  partial: boolean
}

/** GET or POST /api/v1/logs/patterns?q&from&to&limit&timeout */
export interface PatternsAnswer {
  patterns: LogPattern[]
  /** Entries that were grouped. */
  matches: string
  complete: boolean
}

export interface LogPattern {
  template: string
  count: string
  first_seen: string
  last_seen: string
  /** Whether the day before the range lacks it; null when that day could not be read to its end. */
  new_since_yesterday: boolean | null
  services: string[]
  levels: string[]
  sample: string
}

/** Event `log` of GET /api/v1/logs/tail?q (server-sent events); its SSE id is the place in the journal. */
export interface TailEntry {
  timestamp: string
  service: string
  level: Level
  message: string
  metadata: { readonly [key: string]: Json } | null
}

/** Event `gap`: this many entries are missing here. Null: what a tail wanted to resume from is not in the journal any
 *  more, so nobody can say. Event `heartbeat` has empty data. Over WebSocket each message is a TailMessage. */
export interface TailGap {
  dropped: number | null
}

export type TailMessage =
  | { event: 'log'; id: string; data: TailEntry }
  | { event: 'gap'; data: TailGap }
  | { event: 'heartbeat'; data: Record<string, never> }

/** GET /api/v1/receipts/:id */
export interface ReceiptAnswer {
  id: string
  received_at: string
  accepted: number
  pending: number
  stored: number
  quarantined: number
  duplicates: number
  /** `stored`: all of it. `settled`: some of it went elsewhere, see the counts. `damaged`: lost with a part of the journal. */
  state: 'pending' | 'stored' | 'settled' | 'damaged'
}

/** Rows, as decimal strings: accepted = stored + quarantined + duplicates + pending + damaged. */
export interface LedgerCounts {
  accepted: string
  stored: string
  quarantined: string
  duplicates: string
  /** In the journal, not in the database yet. */
  pending: string
  /** Lost with a damaged part of a journal; whose they were is not known. */
  damaged: string
  deleted: string
  expired: string
  /** UTF-8 bytes of service, level, message and metadata. */
  bytes: string
}

export interface LedgerHour extends LedgerCounts {
  /** Hour of acceptance. */
  hour: string
  key: string
  tenant: string
  replica: string
}

/** GET /api/v1/ledger?from&to&key&present=true */
export interface LedgerAnswer {
  from: string
  to: string
  /** Newest hour first; at most 10,000. */
  rows: LedgerHour[]
  isCut: boolean
  totals: LedgerCounts & {
    /** Counted in the tables themselves; only when asked for. */
    present?: string
  }
  quarantine_reasons: number
  /** Rows that none of this accounts for; must be 0. */
  difference: string
}

/** GET /api/v1/storage: each place entries are in. */
export interface StorageAnswer {
  sinks: {
    sink: 'rows' | 'columnar'
    rows: string
    /** With indexes. */
    bytes: string
    /** Of messages and metadata before packing; null where nothing is packed by us. */
    raw_bytes: string | null
    partitions: number
    blocks: number
    oldest_day: string | null
  }[]
}

/** GET /api/v1/chain/verify: a line per day. */
export interface VerifiedDay {
  tenant: string
  day: string
  blocks: number
  links: number
  rows: string
  head: string | null
  /** The first link or block that does not hold. */
  broken: { at: string; problem: string } | null
}

/** GET /api/v1/quarantine */
export interface QuarantineAnswer {
  entries: QuarantinedEntry[]
  cursor: string | null
}

export interface QuarantinedEntry {
  id: string
  tenant: string
  key: string
  position: string
  received_at: string
  protocol: string
  /** SQLSTATE, or `idempotency_conflict`. */
  reason: string
  detail: string
  /** As it would be sent again. */
  entry: Json
  status: 'open' | 'replayed' | 'discarded'
  decided_by: string | null
  decided_at: string | null
  /** Why it was discarded. */
  decision: string | null
}

/** Error of the query routes: problem details with an `error` member. */
export interface ProblemAnswer {
  type: string
  title: string
  status: number
  detail: string
  reason: string
  requestId: string
  error: string
  /** Of BAD_QUERY: where (characters from 0), what was expected there, and the query mended. */
  position?: number
  expected?: string
  example?: string
}

/** POST /api/v1/logs/batch */
export interface BatchAnswer {
  message: 'Batch processed'
  accepted: number
  total: number
  rejected?: number
  errors?: string[]
}

/** What every rule of a tenant has besides its own members: saved searches, alerts, retention, redaction, limits. */
export interface RuleAnswer {
  id: string
  name: string
  created_by: string
  created_at: string
  updated_at: string
}

/** GET /api/v1/searches */
export interface SavedSearchAnswer extends RuleAnswer {
  q: string
  from?: string
  to?: string
  columns?: string[]
}

/** GET /api/v1/alerts */
export interface AlertRuleAnswer extends RuleAnswer {
  q: string
  kind: 'count' | 'absence' | 'rate'
  op?: '>' | '>=' | '<' | '<='
  /** Entries, or percent of change. */
  threshold?: number
  window: string
  every: string
  for: string
  enabled: boolean
  /** Without logs:admin the address ends behind its host. */
  webhook?: { url: string; format: 'purser' | 'slack' | 'alertmanager' }
  /** With logs:admin: what X-Purser-Signature is made with. */
  webhook_secret?: string
  state: 'ok' | 'pending' | 'firing' | 'stalled'
  since: string | null
  value: string | null
  evaluated_to: string | null
}

/** GET /api/v1/alerts/:id/timeline; newest first. */
export interface AlertTimelineAnswer {
  events: { at: string; state: AlertRuleAnswer['state']; value: string | null }[]
  deliveries: {
    id: string
    state: 'waiting' | 'delivered' | 'failed'
    attempts: number
    status: number | null
    problem: string | null
    created_at: string
  }[]
}

/** POST /api/v1/alerts/:id/test */
export interface AlertTestAnswer {
  id: string
  delivered: boolean
  status: number | null
  problem?: string
  took_ms: number
}

/** GET /api/v1/retention */
export interface RetentionAnswer {
  retention: RetentionRuleAnswer[]
  /** Where no rule of the tenant speaks: `forever`, or a length of time. */
  default_keep: string
}

export interface RetentionRuleAnswer extends RuleAnswer {
  service?: string
  level?: string
  /** `forever`, or a length of time. */
  keep: string
}

/** POST /api/v1/logs/delete with dry_run */
export interface DeletionCountAnswer {
  dry_run: true
  rows: string
  partial: boolean
  from: string
  to: string
}

/** POST /api/v1/logs/delete, GET /api/v1/deletions/:id */
export interface DeletionAnswer {
  id: string
  state: 'running' | 'done'
  q: string
  from: string
  to: string
  reason: string
  requested_by: string
  requested_at: string
  finished_at: string | null
  rows: string
  bytes: string
  problem?: string
  /** `body` is the text that is signed; the key is SPKI in base64. */
  tombstone?: { body: string; algorithm: 'Ed25519'; signature: string; public_key: string }
}

/** POST /api/v1/alerts/preview: when the rule would have fired over the last seven days. */
export interface AlertPreviewAnswer {
  from: string
  to: string
  /** How often it would have begun to fire. */
  firing: number
  /** The first thousand; `to` null: it would fire still. */
  fired: { from: string; to: string | null; value: string }[]
  /** At most a thousand points, evenly taken. */
  series: { time: string; value: string }[]
  /** False: counting took too long, and what is here ends early. */
  complete: boolean
}

/** GET /health */
export interface HealthAnswer {
  status: 'healthy' | 'degraded'
  checks?: { readonly [name: string]: { status: string; detail?: string } }
}

/** GET /api/v1/intake; with Accept: text/event-stream the same as event `intake`, once a second. Counts are those of this
 *  process since its start. */
export interface IntakeStatus {
  at: string
  /** Whose rows, bytes and refusals are counted here; null: everybody's. The journal, times of acknowledgement and commit,
   *  tails and what /metrics shows to anybody are those of the process in any case. */
  tenant: string | null
  uptime_seconds: number
  /** Acknowledged and not yet in the store. */
  pending_rows: number
  is_store_reachable: boolean
  problem: string | null
  rows: { outcome: string; protocol: string; count: number }[]
  /** Of bodies after decompression. */
  bytes: { protocol: string; count: number }[]
  /** Requests answered 429. */
  limited: { key: string; limit: string; count: number }[]
  rejected: { protocol: string; reason: string; count: number }[]
  journal: { bytes: number; capacity_bytes: number; oldest_pending_seconds: number }
  /** From append to acknowledgement. */
  append: HistogramState
  commit: HistogramState
  quarantine_rows: number
  imbalance_rows: number
  tails: number
}

/** Cumulative counts, as Prometheus has them. */
export interface HistogramState {
  buckets: { at_most_seconds: number; count: number }[]
  count: number
}

/** GET /admin/api/keys, in the guide's shape: never the values. */
export interface KeysAnswer {
  keys: {
    id: number
    name: string
    description: string
    created_at: string
    is_active: boolean
    created_by_user_id: number | null
  }[]
}
