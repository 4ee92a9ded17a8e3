// The wire shapes of builderd's JSON routes, for the console and other readers. Types only.

/** One row of `GET /v1/builds`. */
export interface Build {
  buildId: string
  tenantId: string
  customerId: string
  name: string
  image: string
  /** BUILD_STATE_… */
  state: string
  progressPercent: number
  currentStep: string
  /** RFC 3339. */
  createdAt: string
  startedAt: string | null
  completedAt: string | null
  /** Decimal. */
  runningMs: string
  /** `<CODE>: sentence`, empty unless FAILED. */
  errorMessage: string
  rootfsPath: string
  /** Decimal; "0" until COMPLETED. */
  rootfsSizeBytes: string
  /** SHA-256, hex. */
  rootfsChecksum: string
}

export interface BuildList {
  /** Newest first. */
  builds: Build[]
  total: number
}

/** One line of a build's log: the data of an SSE event, a line of NDJSON, an element of the JSON list. */
export interface BuildLogLine {
  /** RFC 3339, milliseconds. */
  timestamp: string
  level: string
  component: string
  message: string
  /** Continues after this line: `?after=`, or the SSE event's id as Last-Event-ID. */
  cursor: string
}
