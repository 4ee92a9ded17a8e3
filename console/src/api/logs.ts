import type {
  ContextAnswer,
  FieldsAnswer,
  FieldValuesAnswer,
  HistogramAnswer,
  IntakeStatus,
  KeysAnswer,
  LedgerAnswer,
  LedgerCounts,
  LogEntry,
  LogPattern,
  PatternsAnswer,
  QuarantineAnswer,
  QuarantinedEntry,
  SearchAnswer,
  StorageAnswer,
  TailEntry,
  TailGap,
  VerifiedDay,
} from '../../../services/log-ingestion/api.ts'
import { addressOf, call, send } from './http.ts'

export type {
  HistogramAnswer,
  IntakeStatus,
  LedgerAnswer,
  LedgerCounts,
  LogPattern,
  QuarantinedEntry,
  SearchAnswer,
  StorageAnswer,
  TailEntry,
  TailGap,
  VerifiedDay,
}

/** What a line on the screen needs: a stored entry, or one from the tail, which has no id yet. */
export type Entry = Omit<LogEntry, 'id' | 'created_at'> & Partial<Pick<LogEntry, 'id' | 'created_at'>>

const service = 'log-ingestion'

/** Keys of the tenant that were made for senders. */
export const listKeys = (signal: AbortSignal) => call<KeysAnswer>({ service, path: '/admin/api/keys', signal })

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

/** What entries carry, and how often: for completion. */
export const listFields = (query: { from: string; to: string }, signal?: AbortSignal) =>
  call<FieldsAnswer>({ service, path: '/api/v1/logs/fields', params: { ...query }, signal })

export const listFieldValues = (
  name: string,
  query: { from: string; to: string; prefix: string; limit: number },
  signal?: AbortSignal,
) =>
  call<FieldValuesAnswer>({
    service,
    path: `/api/v1/logs/fields/${encodeURIComponent(name)}/values`,
    params: { ...query },
    signal,
  })

/** Neighbours of an entry in its own service, oldest first. */
export const getContext = (id: string, query: { before: number; after: number }, signal?: AbortSignal) =>
  call<ContextAnswer>({
    service,
    path: `/api/v1/logs/${encodeURIComponent(id)}/context`,
    params: { ...query },
    signal,
  })

export const listPatterns = (query: { q: string; from: string; to: string; limit: number }, signal?: AbortSignal) =>
  call<PatternsAnswer>({ service, path: '/api/v1/logs/patterns', params: { ...query }, signal })

export const tailAddress = (q: string) => addressOf({ service, path: '/api/v1/logs/tail', params: { q } })

export const intakeAddress = addressOf({ service, path: '/api/v1/intake' })

/** Counts of every row since `from`, from three independent sources. */
export const getLedger = (query: { from: string }, signal?: AbortSignal) =>
  call<LedgerAnswer>({ service, path: '/api/v1/ledger', params: { ...query }, signal })

export const listQuarantine = (query: { status?: string; cursor?: string; limit: number }, signal?: AbortSignal) =>
  call<QuarantineAnswer>({ service, path: '/api/v1/quarantine', params: { ...query }, signal })

/** Sends the entry again, as it is or mended; it goes through the journal like any other. */
export const replayQuarantined = (id: string, entry?: unknown) =>
  call<unknown>({
    service,
    method: 'POST',
    path: `/api/v1/quarantine/${encodeURIComponent(id)}/replay`,
    body: entry === undefined ? {} : { entry },
  })

export const discardQuarantined = (id: string, reason: string) =>
  call<unknown>({
    service,
    method: 'POST',
    path: `/api/v1/quarantine/${encodeURIComponent(id)}/discard`,
    body: { reason },
  })

/** Sizes of each place that holds entries. */
export const getStorage = (signal?: AbortSignal) => call<StorageAnswer>({ service, path: '/api/v1/storage', signal })

/** It reads all there is: minutes on a large store. */
const verifyTimeoutMs = 30 * 60_000

/** Recomputes the evidence of all days; an answer that was cut is no verdict. */
export async function verifyChain(): Promise<VerifiedDay[]> {
  const response = await send({ service, path: '/api/v1/chain/verify', timeoutMs: verifyTimeoutMs })
  const text = await response.text()
  if (text !== '' && !text.endsWith('\n')) throw new Error('the answer was cut; verify again')
  return text
    .split('\n')
    .filter(line => line !== '')
    .map(line => JSON.parse(line) as VerifiedDay)
}
