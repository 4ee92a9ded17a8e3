// Rules of log-ingestion as its routes answer them: alerts, retention, deletions.

import type { AlertDefinition, RetentionDefinition } from '../../../services/log-ingestion/rules/definitions.ts'
import { call } from './http.ts'

type Signal = AbortSignal | undefined
const service = 'log-ingestion'

interface Rule {
  id: string
  name: string
  created_by: string
  created_at: string
  updated_at: string
  /** Instead of a definition, when another version of the program wrote it. */
  problem?: string
}

export type AlertState = 'ok' | 'pending' | 'firing' | 'stalled'
export type AlertRule = Rule &
  AlertDefinition & {
    state: AlertState
    since: string | null
    value: string | null
    evaluated_to: string | null
  }
export type AlertInput = { name: string } & Pick<AlertDefinition, 'q' | 'kind' | 'window'> & Partial<AlertDefinition>

/** What a rule would have done over the last seven days. */
export interface AlertPreview {
  from: string
  to: string
  /** Of which at most a thousand are listed in `fired`. */
  firing: number
  fired: { from: string; to: string | null; value: string | null }[]
  series: { time: string; value: string | null }[]
  complete: boolean
}

export interface AlertTimeline {
  events: { at: string; state: AlertState; value: string | null }[]
  deliveries: {
    id: string
    state: 'waiting' | 'delivered' | 'failed'
    attempts: number
    status: number | null
    problem: string | null
    created_at: string
  }[]
}

export const listAlerts = (signal: Signal) => call<{ alerts: AlertRule[] }>({ service, path: '/api/v1/alerts', signal })
export const createAlert = (rule: AlertInput) =>
  call<AlertRule>({ service, method: 'POST', path: '/api/v1/alerts', body: rule })
export const removeAlert = (id: string) =>
  call<unknown>({ service, method: 'DELETE', path: `/api/v1/alerts/${encodeURIComponent(id)}` })
export const previewAlert = (rule: Omit<AlertInput, 'name'>, signal: Signal) =>
  call<AlertPreview>({ service, method: 'POST', path: '/api/v1/alerts/preview', body: rule, signal })
export const testAlert = (id: string) =>
  call<{ delivered: boolean; status: number | null; problem?: string }>({
    service,
    method: 'POST',
    path: `/api/v1/alerts/${encodeURIComponent(id)}/test`,
    body: {},
  })
export const getTimeline = (id: string, signal: Signal) =>
  call<AlertTimeline>({ service, path: `/api/v1/alerts/${encodeURIComponent(id)}/timeline`, signal })

export type RetentionRule = Rule & RetentionDefinition

export const listRetention = (signal: Signal) =>
  call<{ retention: RetentionRule[]; default_keep: string }>({ service, path: '/api/v1/retention', signal })
export const createRetention = (rule: RetentionDefinition) =>
  call<RetentionRule>({ service, method: 'POST', path: '/api/v1/retention', body: rule })
export const removeRetention = (id: string) =>
  call<unknown>({ service, method: 'DELETE', path: `/api/v1/retention/${encodeURIComponent(id)}` })

export interface Deletion {
  id: string
  state: 'running' | 'done'
  q: string
  from: string
  to: string
  reason: string
  requested_by: string
  requested_at: string
  finished_at: string | null
  /** Erased so far; decimal. */
  rows: string
  bytes: string
  problem?: string
}

interface DeletionWish {
  q: string
  from: string
  to: string
}

export const listDeletions = (signal: Signal) =>
  call<{ deletions: Deletion[] }>({ service, path: '/api/v1/deletions', signal })
/** How many entries a deletion would take; nothing is changed. */
export const countDeletion = (wish: DeletionWish) =>
  call<{ rows: string; partial: boolean }>({
    service,
    method: 'POST',
    path: '/api/v1/logs/delete',
    body: { ...wish, dry_run: true },
  })
export const startDeletion = (wish: DeletionWish & { reason: string }) =>
  call<Deletion>({ service, method: 'POST', path: '/api/v1/logs/delete', body: wish })
