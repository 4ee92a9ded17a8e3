// The error tracker of log-ingestion. Shapes are those of its guide; ids are numbers, those of notices are texts.

import { call } from './http.ts'

const service = 'log-ingestion'
type Signal = AbortSignal | undefined

export interface Fault {
  id: number
  error_class: string
  message: string
  location?: string
  environment: string
  resolved: boolean
  ignored: boolean
  assignee?: { id: number; email: string; name: string }
  tags: string[]
  occurrence_count: number
  first_seen_at: string
  last_seen_at: string
}

export interface Notice {
  id: string
  message: string
  backtrace?: { file: string; line?: number; function?: string }[]
  context?: unknown
  params?: unknown
  session?: unknown
  environment?: unknown
  revision?: string
  hostname?: string
  created_at: string
}

export interface FaultList {
  faults: Fault[]
  total: number
}

export const listFaults = (query: { q: string; limit: number; offset: number }, signal: Signal) =>
  call<FaultList>({ service, path: '/api/v1/faults', params: { ...query }, signal })
export const listNotices = (fault: number, signal: Signal) =>
  call<{ notices: Notice[] }>({ service, path: `/api/v1/faults/${fault}/notices`, params: { limit: 20 }, signal })
export const decideFault = (fault: number, how: 'resolve' | 'unresolve' | 'ignore') =>
  call<Fault>({ service, method: 'POST', path: `/api/v1/faults/${fault}/${how}`, body: {} })
