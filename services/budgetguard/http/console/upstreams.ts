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
}

export function consoleUpstreams(config: Config): ConsoleUpstream[] {
  const collectors = config.collectors.length === 0 ? [undefined] : [...config.collectors]
  return [
    { name: 'log-ingestion', audience: 'log-ingestion', path: '/console/logs', url: config.logsUrl },
    { name: 'billaged', audience: 'billaged', path: '/console/billaged', url: config.billagedUrl },
    { name: 'builderd', audience: 'builderd', path: '/console/builderd', url: config.builderdUrl },
    ...collectors.map((url, i) => ({
      name: collectors.length > 1 ? `metrics-collector ${i}` : 'metrics-collector',
      audience: 'metrics-collector',
      path: `/console/collectors/${i}`,
      url,
    })),
  ]
}
