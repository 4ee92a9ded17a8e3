import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { systemClock } from '#platform/time'
import { pollUntil } from '../../test/kit/poll.ts'
import { type Source, startCollecting } from './collecting.ts'
import { gauge, type Reading } from './sample.ts'
import { newStats } from './stats.ts'

test('a source that hangs or fails leaves the others untouched, is passed over, and comes back by itself', async t => {
  const hang = Promise.withResolvers<void>()
  let stuckCalls = 0
  let isBroken = true
  const { stats, ticks, collecting } = collect(t, [
    source('good', async () => [gauge('good', 1)]),
    source('stuck', async () => {
      stuckCalls++
      if (stuckCalls === 1) await hang.promise
      return [gauge('stuck', 1)]
    }),
    source('broken', async () => {
      if (isBroken) throw new Error('the driver is asleep')
      return [gauge('broken', 1)]
    }),
  ])
  await collecting.first
  assert.deepEqual(
    ticks[0]?.map(reading => reading.name),
    ['good'],
  )
  assert.match(stats.sources.get('stuck')?.error ?? '', /no answer within 10 ms/)
  assert.equal(stats.sources.get('broken')?.error, 'the driver is asleep')
  await pollUntil(() => /passed over/.test(stats.sources.get('stuck')?.error ?? ''), {
    what: 'the stuck source',
    everyMs: 5,
  })
  assert.equal(stuckCalls, 1)

  hang.resolve()
  isBroken = false
  await pollUntil(
    () =>
      ticks
        .at(-1)
        ?.map(reading => reading.name)
        .join() === 'good,stuck,broken',
    { what: 'all three', everyMs: 5 },
  )
  assert.deepEqual(
    [...stats.sources.values()].map(own => own.status),
    ['ok', 'ok', 'ok'],
  )
  assert.ok((stats.sources.get('broken')?.failed ?? 0) > 0)
})

test('what could not be stored makes its sources fail in health, with the reason', async t => {
  const stats = newStats(['a'], 0, 0)
  const collecting = startCollecting({
    sources: [source('a', async () => [gauge('a', 1)])],
    clock: systemClock,
    stats,
    record: () => false,
    recordError: () => 'database or disk is full (SQLITE_FULL, 13)',
    onFailure: () => {},
  })
  t.after(() => collecting.close())
  await assert.rejects(collecting.first, /SQLITE_FULL/)
  assert.equal(stats.sources.get('a')?.status, 'error')
  assert.match(stats.sources.get('a')?.error ?? '', /SQLITE_FULL/)
})

function source(name: string, read: () => Promise<Reading[]>): Source {
  return { name, intervalMs: 20, read }
}

function collect(t: TestContext, sources: Source[]) {
  const stats = newStats(
    sources.map(({ name }) => name),
    0,
    0,
  )
  const ticks: (readonly Reading[])[] = []
  const collecting = startCollecting({
    sources,
    clock: systemClock,
    stats,
    record: tick => ticks.push(tick.readings) > 0,
    recordError: () => undefined,
    onFailure: () => {},
  })
  t.after(() => collecting.close())
  return { stats, ticks, collecting }
}
