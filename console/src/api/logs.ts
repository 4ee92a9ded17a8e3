import { addressOf, call } from './http.ts'

const service = 'log-ingestion'

export interface LogEntry {
  id: string | number
  timestamp: string
  service: string
  level: string
  message: string
  metadata: Record<string, unknown> | null
  created_at?: string
}

export interface SearchAnswer {
  logs: LogEntry[]
  cursor: string | null
  /** True when the time or row limit ended the search early; the cursor goes on from there. */
  partial: boolean
  stats?: { scanned_rows?: number; took_ms?: number }
}

export interface HistogramAnswer {
  interval: string
  buckets: { time: string; count: number; by?: Record<string, number> }[]
}

export interface SearchQuery {
  q: string
  from?: string
  to?: string
  limit: number
  cursor?: string
}

export const searchLogs = (query: SearchQuery, signal?: AbortSignal) =>
  call<SearchAnswer>({ service, path: '/api/v1/logs/search', params: { ...query }, signal })

export const getHistogram = (query: { q: string; from: string; to: string; interval: string }, signal?: AbortSignal) =>
  call<HistogramAnswer>({ service, path: '/api/v1/logs/histogram', params: { ...query, by: 'level' }, signal })

export const tailAddress = (q: string) => addressOf({ service, path: '/api/v1/logs/tail', params: { q } })
