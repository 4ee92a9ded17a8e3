// What reading costs on what the workloads before have stored: a substring that no block can be left out for, the newest
// hundred of a service and level, a histogram by level.

import assert from 'node:assert/strict'
import type { Pool } from 'undici'
import { type Figures, report, timeAt } from './report.ts'
import type { Subject } from './service.ts'

interface SearchAnswer {
  logs: unknown[]
  partial: boolean
  cursor: string | null
  stats: { scanned_rows: number; took_ms: number }
}

interface HistogramAnswer {
  buckets: { count: string }[]
}

type Ask = <T>(pool: Pool, path: string) => Promise<T>

export async function benchReading(name: string, pool: Pool, subject: Subject, rows: number, ask: Ask): Promise<void> {
  const say = (what: string, figures: Figures, text: string) =>
    report(what, { sink: name, ...figures }, `${name}: ${text}`)

  // Part of no word, so that neither blooms nor an index can help; pages go on until all has been looked at.
  const before = await subject.cpu()
  const startedMs = performance.now()
  let scanned = 0
  let cursor: string | null = ''
  while (cursor !== null && performance.now() - startedMs < 10_000) {
    const page: SearchAnswer = await ask(
      pool,
      `/api/v1/logs/search?q=%22pstrea%3D%22&from=-6h&limit=1&timeout=10s${cursor ? `&cursor=${cursor}` : ''}`,
    )
    assert.deepEqual(page.logs, [])
    scanned += page.stats.scanned_rows
    cursor = page.cursor
  }
  const seconds = (performance.now() - startedMs) / 1_000
  const after = await subject.cpu()
  const cpu = after.service + after.database - before.service - before.database
  // In the guide's table SQL looks at them, and says nothing of those that it passed over.
  if (cursor === null) scanned = Math.max(scanned, rows)
  say(
    'substring',
    { rows_per_s_per_core: Math.round(scanned / cpu), rows_per_s: Math.round(scanned / seconds) },
    `substring: ${millions(scanned / cpu)} M rows/s per core, ${millions(scanned / seconds)} M rows/s by the clock`,
  )

  const times: number[] = []
  for (let i = 0; i < 60; i++) {
    const q = encodeURIComponent(`service:service-${i % 12} level:${['error', 'warn', 'info', 'debug'][i % 4]}`)
    const sentMs = performance.now()
    const { logs } = await ask<SearchAnswer>(pool, `/api/v1/logs/search?q=${q}&from=-6h&limit=100`)
    times.push(performance.now() - sentMs)
    assert.equal(logs.length, 100)
  }
  times.sort((a, b) => a - b)
  say(
    'newest',
    { rows, p50_ms: timeAt(times, 0.5), p95_ms: timeAt(times, 0.95) },
    `newest 100 by service and level over ${millions(rows)} M rows: p50 ${ms(times, 0.5)}, p95 ${ms(times, 0.95)}`,
  )

  const askedMs = performance.now()
  const { buckets } = await ask<HistogramAnswer>(
    pool,
    '/api/v1/logs/histogram?from=-6h&interval=1m&by=level&timeout=60s',
  )
  const tookS = (performance.now() - askedMs) / 1_000
  assert.equal(
    buckets.reduce((sum, { count }) => sum + Number(count), 0),
    rows,
  )
  say(
    'histogram',
    { rows_per_s: Math.round(rows / tookS), took_ms: Math.round(tookS * 1_000) },
    `histogram by level: ${millions(rows / tookS)} M rows/s (${Math.round(tookS * 1_000)} ms)`,
  )
}

function millions(n: number): string {
  return (n / 1e6).toFixed(2)
}

function ms(sorted: readonly number[], share: number): string {
  return `${(sorted[Math.floor(sorted.length * share)] ?? 0).toFixed(1)} ms`
}
