// The wire of the health port, as the console sees it. Types only.

export type HealthStatus = 'ok' | 'degraded' | 'error'

export interface HealthComponent {
  status: HealthStatus
  message: string
  /** RFC 3339, UTC, whole seconds. */
  timestamp: string
  details: Readonly<Record<string, number | string | null>>
}

/** GET /health */
export interface HealthReport {
  status: HealthStatus
  timestamp: string
  uptime_seconds: number
  components: Readonly<Record<string, HealthComponent>>
}

/** Labels of a series, its name under `__name__`; aggregations have no name. */
export type Metric = Readonly<Record<string, string>>

/** Unix seconds with fraction, value as text: Prometheus's form. */
export type Point = readonly [seconds: number, value: string]

export interface VectorResult {
  resultType: 'vector'
  result: readonly { metric: Metric; value: Point }[]
}

export interface MatrixResult {
  resultType: 'matrix'
  result: readonly { metric: Metric; values: readonly Point[] }[]
}

export interface ScalarResult {
  resultType: 'scalar'
  result: Point
}

export interface QuerySuccess<T> {
  status: 'success'
  data: T
}

export interface QueryFailure {
  status: 'error'
  errorType: 'bad_data' | 'execution' | 'timeout' | 'unauthorized' | 'not_found' | 'internal'
  error: string
}

/** GET|POST /api/v1/query?query=&time= */
export type QueryResponse = QuerySuccess<VectorResult | MatrixResult | ScalarResult> | QueryFailure

/** GET|POST /api/v1/query_range?query=&start=&end=&step= */
export type QueryRangeResponse = QuerySuccess<MatrixResult> | QueryFailure

/** GET /api/v1/series?match[]= */
export type SeriesResponse = QuerySuccess<readonly Metric[]> | QueryFailure

/** GET /api/v1/labels and /api/v1/label/<name>/values */
export type LabelsResponse = QuerySuccess<readonly string[]> | QueryFailure

/** GET /api/v1/metadata */
export type MetadataResponse =
  | QuerySuccess<Readonly<Record<string, readonly { type: string; help: string; unit: string }[]>>>
  | QueryFailure

/** `data` of each event of GET /api/v1/live?match[]=: one tick. The first event repeats the newest tick. */
export interface LiveTick {
  /** Unix milliseconds. */
  t: number
  samples: readonly { metric: Metric; value: number }[]
}

/** GET /api/v1/losses?since= */
export interface LossRow {
  fromMs: number
  toMs: number
  samples: number
  series: number
  bytes: number
  reason: string
  output: string
}

/** GET /api/v1/status */
export interface StatusResponse {
  version: string
  deviceId: string
  status: HealthStatus
  uptimeS: number
  /** Source name → milliseconds. */
  intervalsMs: Readonly<Record<string, number>>
  series: number
  newestStampMs: number
  storage: {
    path: string
    databaseBytes: number
    usedBytes: number
    walBytes: number
    bytesMax: number
    commitMs: number
  }
  upload: {
    isEnabled: boolean
    pending: number
    uploaded: number
    /** RFC 3339 */
    lastSuccess: string
    trouble: string
  }
  /** Samples that will never be delivered, by reason, since this database was made. */
  dropped: Readonly<Record<string, number>>
}
