// The guide's database address, which may carry parameters of another program's pool.

import { openSql, type Sql } from '#platform/postgres'
import type { Logger } from '#platform/telemetry'
import { sleep } from '#platform/time'

export interface GuideAddress {
  url: string
  connectionsMax: number | undefined
}

/** `connection_limit` is honoured; `pool_timeout` has no counterpart; `schema` is always ours. */
export function readGuideAddress(text: string): GuideAddress {
  const mark = text.indexOf('?')
  if (mark < 0) return { url: text, connectionsMax: undefined }
  const kept: string[] = []
  let connectionsMax: number | undefined
  for (const pair of text.slice(mark + 1).split('&')) {
    const [name, value = ''] = pair.split('=', 2)
    if (name === 'connection_limit' && /^[1-9]\d{0,3}$/.test(value)) connectionsMax = Number(value)
    else if (name !== 'connection_limit' && name !== 'pool_timeout' && name !== 'schema' && pair !== '') kept.push(pair)
  }
  const query = kept.length === 0 ? '' : `?${kept.join('&')}`
  return { url: text.slice(0, mark) + query, connectionsMax }
}

const waitMsMax = 60_000

/** A database that starts beside us gets a minute. */
export async function waitForDatabase(sql: Sql, log: Logger, nowMs: () => number): Promise<void> {
  const startedMs = nowMs()
  for (let tries = 0; ; tries++) {
    try {
      await sql`select 1`
      return
    } catch (error) {
      if (nowMs() - startedMs > waitMsMax)
        throw new Error(`the database did not answer within ${waitMsMax / 1_000} s; check DATABASE_URL`, {
          cause: error,
        })
      if (tries === 0) log.warn({ err: error }, 'waiting for the database')
      await sleep(500)
    }
  }
}

/** Money first: what admission and the fold need never queues behind somebody's report. */
export function openPools(o: { url: string; log: Logger }): { money: Sql; reports: Sql; close(): Promise<void> } {
  const address = readGuideAddress(o.url)
  const total = address.connectionsMax ?? 10
  const money = openSql({
    url: address.url,
    max: Math.max(2, Math.ceil(total * 0.6)),
    applicationName: 'budgetguard',
    log: o.log,
  })
  const reports = openSql({
    url: address.url,
    max: Math.max(1, Math.floor(total * 0.4)),
    applicationName: 'budgetguard reports',
    log: o.log,
  })
  return {
    money,
    reports,
    async close() {
      await Promise.all([money.end({ timeout: 5 }), reports.end({ timeout: 5 })])
    },
  }
}
