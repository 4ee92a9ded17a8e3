// The other services, as the console reaches them through this one.

import type { Config } from '../../config.ts'

export interface ConsoleUpstream {
  /** As the console shows it; also the audience of its internal tokens. */
  name: string
  audience: string
  /** Prefix on this origin. */
  path: string
  /** Undefined: not configured. */
  url: string | undefined
  /** It reads the role in its token and decides route by route; of the others, only owners and operators change things. */
  decidesByRole: boolean
  /** Searches may take a minute, closing a month of many customers several. */
  headersTimeoutMs: number
}

const usualMs = 30_000

export function consoleUpstreams(config: Config): ConsoleUpstream[] {
  const collectors = config.collectors.length === 0 ? [undefined] : [...config.collectors]
  return [
    {
      ...{ name: 'log-ingestion', audience: 'log-ingestion', path: '/console/logs', url: config.logsUrl },
      ...{ decidesByRole: true, headersTimeoutMs: 70_000 },
    },
    {
      ...{ name: 'billaged', audience: 'billaged', path: '/console/billaged', url: config.billagedUrl },
      ...{ decidesByRole: true, headersTimeoutMs: 10 * 60_000 },
    },
    {
      ...{ name: 'builderd', audience: 'builderd', path: '/console/builderd', url: config.builderdUrl },
      ...{ decidesByRole: true, headersTimeoutMs: usualMs },
    },
    ...collectors.map((url, i) => ({
      name: collectors.length > 1 ? `metrics-collector ${i}` : 'metrics-collector',
      audience: 'metrics-collector',
      path: `/console/collectors/${i}`,
      url,
      decidesByRole: false,
      headersTimeoutMs: usualMs,
    })),
  ]
}
