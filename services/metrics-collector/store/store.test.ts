import assert from 'node:assert/strict'
import { existsSync, statSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { decodeValues } from '../frame.ts'
import { counter, gauge } from '../sample.ts'
import { openChunks } from './chunks.ts'
import { openStore, type Store, type StoreOptions } from './store.ts'

const startMs = Date.UTC(2026, 2, 1)

test('what was committed is read back after a reopen: series, stamps and values', async t => {
  const { open } = await storeFolder(t)
  const store = await open()
  const ticks = [0, 1, 2].map(i => ({
    wallMs: startMs + i * 1_000,
    monoMs: 5_000 + i * 1_000,
    readings: [counter('c_total', 100 + i, { cpu: '0' }), gauge('g', i / 3)],
  }))
  for (const tick of ticks) assert.ok(store.record(tick))
  store.close()

  const again = await open()
  assert.deepEqual(
    readAll(again),
    ticks.flatMap((tick, i) => [
      [tick.wallMs, 'c_total{"cpu":"0","device_id":"d"}', 100 + i],
      [tick.wallMs, 'g{"device_id":"d"}', i / 3],
    ]),
  )
})

test('a closed store is one complete file that SQLite finds nothing wrong with', async t => {
  const { open, path } = await storeFolder(t)
  const store = await open()
  store.record({ wallMs: startMs, monoMs: 1, readings: [gauge('g', 1)] })
  store.close()
  assert.ok(!existsSync(`${path}-wal`))
  assert.equal(statSync(path).mode & 0o137, 0)
  const db = new DatabaseSync(path, { readOnly: true })
  t.after(() => db.close())
  assert.deepEqual({ ...db.prepare('PRAGMA integrity_check').get() }, { integrity_check: 'ok' })
  assert.equal(db.prepare('PRAGMA application_id').get()?.application_id, 0x50534d43)
  assert.equal(db.prepare('PRAGMA auto_vacuum').get()?.auto_vacuum, 2)
})

test('no two ticks share a timestamp, however the wall clock is set between them', async t => {
  const { open, newPath } = await storeFolder(t)
  const walk = fc.array(
    fc.record({ passMs: fc.integer({ min: 0, max: 3 }), stepMs: fc.constantFrom(0, 0, 0, -2_000, 2_000, -700, 400) }),
    { minLength: 1, maxLength: 30 },
  )
  await fc.assert(
    fc.asyncProperty(walk, async steps => {
      const store = await open({ path: newPath() })
      let wallMs = startMs
      let monoMs = 1_000
      const stamps: number[] = []
      for (const { passMs, stepMs } of steps) {
        wallMs += passMs + stepMs
        monoMs += passMs
        stamps.push(store.record({ wallMs, monoMs, readings: [gauge('g', 1)] })?.stampMs ?? Number.NaN)
      }
      store.close()
      assert.equal(new Set(stamps).size, steps.length)
    }),
    { numRuns: 25 },
  )
})

test('a restart within one boot goes on in the same clock epoch; a step or a boot begins a new one', async t => {
  const { open } = await storeFolder(t)
  const record = (store: Store, wallMs: number, monoMs: number) =>
    store.record({ wallMs, monoMs, readings: [gauge('g', 1)] })
  const first = await open()
  record(first, startMs, 1_000)
  first.close()
  const second = await open()
  record(second, startMs + 9_300, 10_000) // 300 ms of drift
  assert.equal(second.frames.epochs.length, 1)
  assert.equal(record(second, startMs + 20_000, 11_000)?.isNewEpoch, true)
  second.close()
  const third = await open({ bootId: 'boot-2' })
  record(third, startMs + 90_000, 500)
  assert.equal(third.frames.epochs.length, 3)
})

test('when the file reaches its bound the oldest frames make room and collecting goes on', async t => {
  const { open } = await storeFolder(t)
  const store = await open({ bytesMax: 64 * 4_096 })
  const readings = Array.from({ length: 200 }, (_, i) => gauge('g', Math.PI * i, { i: String(i) }))
  for (let i = 0; i < 400; i++) {
    store.record({ wallMs: startMs + i * 1_000, monoMs: 1_000 + i * 1_000, readings })
    if (i % 20 === 0) await store.retention.evictBySize()
  }
  assert.ok(store.retention.size().databaseBytes <= 64 * 4_096)
  assert.equal(store.writeError, undefined)
  const kept = readAll(store).map(([stampMs]) => stampMs)
  assert.equal(kept.at(-1), startMs + 399_000)
  assert.ok(kept.length < 400 * 200)
})

test('ticks that the database refuses wait in memory, in order, and what overflows is in the ledger', async t => {
  const { open } = await storeFolder(t)
  const store = await open()
  store.record({ wallMs: startMs, monoMs: 1_000, readings: [gauge('g', 0)] })
  const used = Number(store.database.prepare('PRAGMA page_count').get()?.page_count)
  store.database.exec(`PRAGMA max_page_count = ${used}`)
  const readings = Array.from({ length: 1_000 }, (_, i) => gauge('g', i + 0.5, { i: String(i) }))
  for (let i = 1; i <= 13; i++)
    assert.equal(store.record({ wallMs: startMs + i * 1_000, monoMs: 1_000 + i * 1_000, readings }), undefined)
  assert.match(store.writeError ?? '', /full/)
  assert.equal(store.ringTicks, 10)

  store.database.exec('PRAGMA max_page_count = 100000')
  store.record({ wallMs: startMs + 14_000, monoMs: 15_000, readings: [gauge('g', 0)] })
  assert.equal(store.writeError, undefined)
  const stamps = new Set(readAll(store).map(([stampMs]) => (stampMs - startMs) / 1_000))
  assert.deepEqual([...stamps], [0, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14])
  assert.equal(store.dropped('disk_full'), 3_000)
  const [loss] = store.ledger.list(0, 10)
  assert.deepEqual([loss?.samples, loss?.fromMs, loss?.toMs], [3_000, startMs + 1_000, startMs + 3_000])
})

test('samples older than the retention go, by the monotonic clock: setting the wall clock forward removes nothing', async t => {
  const { open } = await storeFolder(t)
  const store = await open({ localRetentionMs: 10_000 })
  for (let i = 0; i < 20; i++)
    store.record({ wallMs: startMs + i * 1_000, monoMs: 1_000 + i * 1_000, readings: [gauge('g', i)] })
  assert.equal(await store.retention.evictByAge(startMs + 365 * 86_400_000, 20_000), 9)
  assert.deepEqual(
    readAll(store).map(([, , value]) => value),
    Array.from({ length: 11 }, (_, i) => i + 9),
  )
})

test('sequence numbers are never used again, even when every frame is gone', async t => {
  const { open } = await storeFolder(t)
  const first = await open({ localRetentionMs: 1 })
  const seq = first.record({ wallMs: startMs, monoMs: 1_000, readings: [gauge('g', 1)] })?.seqs[0] ?? 0
  await first.retention.evictByAge(startMs, 60_000)
  assert.deepEqual(readAll(first), [])
  first.close()
  const second = await open()
  assert.ok(
    (second.record({ wallMs: startMs + 99_000, monoMs: 99_000, readings: [gauge('g', 1)] })?.seqs[0] ?? 0) > seq,
  )
})

test('series without a frame are forgotten, the others keep their ids', async t => {
  const { open } = await storeFolder(t)
  const store = await open({ localRetentionMs: 1_000 })
  store.record({ wallMs: startMs, monoMs: 1_000, readings: [gauge('gone', 1), gauge('stays', 1)] })
  store.record({ wallMs: startMs + 60_000, monoMs: 61_000, readings: [gauge('stays', 2)] })
  await store.retention.evictByAge(startMs + 60_000, 61_500)
  await store.retention.sweep()
  assert.deepEqual(
    [...store.series.byId.values()].map(series => series.name),
    ['stays'],
  )
  store.record({ wallMs: startMs + 61_000, monoMs: 62_000, readings: [gauge('stays', 3), gauge('gone', 4)] })
  assert.equal(readAll(store).length, 3)
})

test('a new series is refused beyond the bounds, and counted; known ones are not touched', async t => {
  const { open } = await storeFolder(t)
  const store = await open({ limits: { seriesMax: 2, newPerDayMax: 100 } })
  const first = store.record({ wallMs: startMs, monoMs: 1_000, readings: ['a', 'b', 'c'].map(name => gauge(name, 1)) })
  assert.deepEqual(first?.refused, { invalid: 0, cardinality: 1 })
  assert.equal(store.dropped('cardinality'), 1)
  const second = store.record({
    wallMs: startMs + 1_000,
    monoMs: 2_000,
    readings: ['c', 'a', 'b'].map(name => gauge(name, 1)),
  })
  assert.deepEqual(
    second?.samples.map(sample => sample.series.name),
    ['a', 'b'],
  )
})

test('what is being sent is not evicted; what waits goes, oldest first, and is booked', async t => {
  const { open } = await storeFolder(t)
  const store = await open({ output: 'default', ageMsMax: 10_000, localRetentionMs: 10_000 })
  for (let i = 0; i < 4; i++)
    store.record({ wallMs: startMs + i * 1_000, monoMs: 1_000 + i * 1_000, readings: [gauge('g', i)] })
  assert.equal(store.pendingSamples, 4)
  const inflight = { lo: 2 * 65_536, hi: 3 * 65_536, bodySha256: Buffer.alloc(32), attempts: 0, firstMs: startMs }
  store.deliver(delivery => [delivery.plan(inflight)], 0)
  await store.retention.evictByAge(startMs + 60_000, 60_000)
  assert.deepEqual(
    readAll(store).map(([, , value]) => value),
    [1],
  )
  assert.equal(store.pendingSamples, 1)
  assert.equal(store.dropped('too_old'), 3)
  store.deliver(delivery => [delivery.mark(inflight), delivery.unplan()], 1)
  store.close()
  const again = await open({ output: 'default' })
  assert.equal(again.pendingSamples, 0)
  assert.equal(again.dropped('too_old'), 3)
})

test('stamps of a clock nobody had set stay here until it was compared', async t => {
  const { open } = await storeFolder(t)
  const store = await open({ output: 'default' })
  store.record({ wallMs: 60_000, monoMs: 1_000, readings: [gauge('g', 1)] })
  assert.equal(store.frames.isClockTrusted, false)
  assert.ok(store.delivery)
  const chunks = openChunks(store.database, store.frames, store.series, store.delivery)
  const next = () => chunks.next({ nowMs: startMs, liveFromMs: startMs - 60_000, samplesMax: 100 })
  assert.equal(next(), undefined)
  store.frames.trustClock()
  assert.equal(next()?.samples, 1)
  store.record({ wallMs: startMs, monoMs: 2_000, readings: [gauge('g', 2)] })
  assert.equal(store.frames.isClockTrusted, true)
  assert.equal(next()?.newestStampMs, startMs, 'the newest sample goes first')
})

test('a damaged frame is left out of what is read, and named', async t => {
  const { open } = await storeFolder(t)
  const store = await open()
  for (let i = 0; i < 3; i++)
    store.record({ wallMs: startMs + i * 1_000, monoMs: 1_000 + i * 1_000, readings: [gauge('g', i)] })
  store.database.exec('UPDATE frame SET body = zeroblob(1) WHERE seq = 2')
  const damaged: number[] = []
  const read = [...store.frames.readFrames(0, startMs * 2, seq => damaged.push(seq))].flat()
  assert.deepEqual(
    read.map(frame => frame.seq),
    [1, 3],
  )
  assert.deepEqual(damaged, [2])
})

test('a database of another program, and one of a newer version, are refused untouched', async t => {
  const { open, newPath } = await storeFolder(t)
  const foreign = newPath()
  const db = new DatabaseSync(foreign)
  db.exec('CREATE TABLE customers (id)')
  db.close()
  await assert.rejects(open({ path: foreign }), /some other program/)

  const newer = newPath()
  const made = await open({ path: newer })
  made.close()
  const raised = new DatabaseSync(newer)
  raised.exec('PRAGMA user_version = 99')
  raised.close()
  await assert.rejects(open({ path: newer }), /newer version/)
  await assert.rejects(open({ path: join(newer, 'x.db') }), /storage\.path/)
  await assert.rejects(open({ path: tmpdir() }), /a folder is in its place/)
})

async function storeFolder(t: TestContext) {
  const folder = await mkdtemp(join(tmpdir(), 'collector-store-'))
  const opened: Store[] = []
  t.after(async () => {
    for (const store of opened) if (store.database.isOpen) store.close()
    await rm(folder, { recursive: true })
  })
  let count = 0
  const newPath = () => join(folder, `${++count}.db`)
  const path = newPath()
  const open = async (over: Partial<StoreOptions> = {}): Promise<Store> => {
    const store = await openStore({
      path,
      bytesMax: 64 * 1024 * 1024,
      walBytesMax: 64 * 1024 * 1024,
      localRetentionMs: 86_400_000,
      ageMsMax: 30 * 86_400_000,
      hostLabels: { device_id: 'd' },
      limits: { seriesMax: 5_000, newPerDayMax: 5_000 },
      bootId: 'boot-1',
      buildMs: Date.UTC(2026, 0, 1),
      output: undefined,
      nowMs: startMs,
      ...over,
    })
    opened.push(store)
    return store
  }
  return { open, path, newPath }
}

function readAll(store: Store): [number, string, number][] {
  const all: [number, string, number][] = []
  for (const page of store.frames.readFrames(0, startMs * 2, seq => assert.fail(`frame ${seq} is damaged`))) {
    for (const frame of page) {
      const values = decodeValues(frame.body, frame.count)
      for (const [i, id] of (store.frames.getShape(frame.shape) ?? []).entries()) {
        const series = store.series.byId.get(id)
        all.push([frame.stampMs, `${series?.name}${JSON.stringify(series?.labels)}`, values[i] ?? Number.NaN])
      }
    }
  }
  return all
}
