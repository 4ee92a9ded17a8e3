import type {
  HistogramAnswer,
  LogEntry,
  SearchAnswer,
  TailEntry,
  TailGap,
} from '../../../services/log-ingestion/api.ts'
import { addressOf, call } from './http.ts'

export type { HistogramAnswer, SearchAnswer, TailEntry, TailGap }

/** What a line on the screen needs: a stored entry, or one from the tail, which has no id yet. */
export type Entry = Omit<LogEntry, 'id' | 'created_at'> & Partial<Pick<LogEntry, 'id' | 'created_at'>>

const service = 'log-ingestion'

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
