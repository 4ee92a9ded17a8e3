// Meters and events in the shapes of the OpenMeter API, which billaged speaks.

import type { aggregations } from '../../../services/billaged/events/meter.ts'
import type { WindowSize } from '../../../services/billaged/events/windows.ts'
import { call } from './http.ts'

type Signal = AbortSignal | undefined
const service = 'billaged'

export interface Meter {
  id: string
  slug: string
  name: string
  description?: string
  aggregation: (typeof aggregations)[number]
  /** `vm` for what is folded from readings. */
  eventType: string
  valueProperty?: string
  groupBy: Record<string, string>
  unit: string
}

export interface MeterQuery {
  from?: string
  to?: string
  windowSize?: WindowSize
  windowTimeZone?: string
  subject?: string[]
  groupBy?: string[]
  filterGroupBy?: Record<string, string[]>
}

export interface MeterResult {
  from?: string
  to?: string
  data: {
    /** A double; `valueExact` is not. */
    value: number
    valueExact: string
    windowStart: string
    windowEnd: string
    subject: string | null
    groupBy: Record<string, string | null>
  }[]
}

export interface ListedEvent {
  event: {
    id: string
    source: string
    type: string
    subject?: string
    time?: string
    data?: unknown
  }
  customerId?: string
  validationError?: string
  ingestedAt: string
}

export const listMeters = (signal: Signal) => call<Meter[]>({ service, path: '/api/v1/meters', signal })
export interface MeterInput {
  slug: string
  aggregation: Meter['aggregation']
  eventType: string
  valueProperty?: string
  groupBy?: Record<string, string>
  unit?: string
}
export const createMeter = (body: MeterInput) => call<Meter>({ service, method: 'POST', path: '/api/v1/meters', body })
export const removeMeter = (slug: string) =>
  call<unknown>({ service, method: 'DELETE', path: `/api/v1/meters/${encodeURIComponent(slug)}` })
export const queryMeter = (slug: string, body: MeterQuery, signal: Signal) =>
  call<MeterResult>({
    service,
    method: 'POST',
    path: `/api/v1/meters/${encodeURIComponent(slug)}/query`,
    body,
    signal,
  })

export const listEvents = (
  query: { subject?: string; id?: string; hasError?: 'true' | 'false'; limit: number },
  signal: Signal,
) => call<ListedEvent[]>({ service, path: '/api/v1/events', params: { ...query }, signal })
export const voidEvent = (body: { source: string; id: string; reason: string }) =>
  call<{ isKnown: boolean }>({ service, method: 'POST', path: '/v1/events/void', body })
