import type {
  HealthReport,
  LiveTick,
  MatrixResult,
  QuerySuccess,
  StatusResponse,
  VectorResult,
} from '../../../services/metrics-collector/api.ts'
import { addressOf, call } from './http.ts'

export type { HealthReport, LiveTick, StatusResponse }

const service = 'metrics-collector'

export type MatrixSeries = MatrixResult['result'][number]
export type VectorSample = VectorResult['result'][number]

/** The newest value of each series a selector names. */
export async function query(index: number, text: string, signal?: AbortSignal): Promise<readonly VectorSample[]> {
  const answer = await call<QuerySuccess<VectorResult>>({
    service,
    index,
    path: '/api/v1/query',
    params: { query: text },
    signal,
  })
  return answer.data.result
}

export async function queryRange(
  index: number,
  range: { query: string; startS: number; endS: number; stepS: number },
  signal?: AbortSignal,
): Promise<readonly MatrixSeries[]> {
  const answer = await call<QuerySuccess<MatrixResult>>({
    service,
    index,
    path: '/api/v1/query_range',
    params: { query: range.query, start: range.startS, end: range.endS, step: range.stepS },
    signal,
  })
  return answer.data.result
}

export const getStatus = (index: number, signal?: AbortSignal) =>
  call<StatusResponse>({ service, index, path: '/api/v1/status', signal })

/** Answers 503 with the same JSON when a component is in error, which `call` turns into an error that carries the body. */
export const getHealth = (index: number, signal?: AbortSignal) =>
  call<HealthReport>({ service, index, path: '/health', signal })

export function liveAddress(index: number, matches: readonly string[]): string {
  const search = matches.map(match => `match[]=${encodeURIComponent(match)}`).join('&')
  return `${addressOf({ service, index, path: '/api/v1/live' })}?${search}`
}
