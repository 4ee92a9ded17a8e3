import assert from 'node:assert/strict'
import { cp, mkdtemp, open, readdir, rm, stat } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { crc32 } from 'node:zlib'
import { drivenClock, testBase } from '../test/kit/base.ts'
import {
  comparePositions,
  type Journal,
  type JournalBatch,
  JournalClosed,
  JournalFull,
  JournalLocked,
  type JournalOptions,
  type JournalPosition,
  JournalTooNew,
  openJournal,
} from './journal.ts'

async function tempDir(t: TestContext): Promise<string> {
  const dir = await mkdtemp(path.join(os.tmpdir(), 'purser-journal-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  return dir
}

async function openTest(t: TestContext, dir: string, o: Partial<JournalOptions> = {}): Promise<Journal> {
  const { log } = testBase(t)
  const journal = await openJournal({ dir, bytesMax: 64 * 1024 * 1024, readers: ['r'], log, ...o })
  t.after(() => journal.close())
  return journal
}

async function readAll(journal: Journal, from: JournalPosition | null = null): Promise<JournalBatch[]> {
  const all: JournalBatch[] = []
  for (let position = from; ; ) {
    const { batches, next } = await journal.read(position, { bytesMax: 4096 })
    if (batches.length === 0) return all
    all.push(...batches)
    position = next
  }
}

const texts = (batches: readonly JournalBatch[]) => batches.map(batch => batch.payload.toString())
const segmentFiles = async (dir: string) => (await readdir(dir)).filter(name => name.endsWith('.journal')).sort()

test('appends resolve in the order of the file and are read back across a restart', async t => {
  const dir = await tempDir(t)
  const journal = await openTest(t, dir)
  const resolved: string[] = []
  const receipts = await Promise.all(
    Array.from({ length: 500 }, async (_, i) => {
      const receipt = await journal.append(Buffer.from(`payload ${i}`))
      resolved.push(`payload ${i}`)
      return receipt
    }),
  )
  assert.deepEqual(
    receipts.map(receipt => receipt.sequence),
    receipts.map((_, i) => BigInt(i + 1)),
  )
  const batches = await readAll(journal)
  assert.deepEqual(texts(batches), resolved)
  assert.deepEqual(
    batches.map(({ segment, from, to, sequence }) => ({ segment, from, to, sequence })),
    receipts,
  )
  await journal.close()

  const again = await openTest(t, dir)
  assert.deepEqual(texts(await readAll(again)), resolved)
  assert.equal((await again.append(Buffer.from('next'))).sequence, 501n)
  assert.deepEqual([again.damaged, again.torn], [[], null])
})

test('appends that arrive together share one sync, and a group is what arrived during the sync before', async t => {
  const base = testBase(t)
  const journal = await openTest(t, await tempDir(t), { registry: base.registry, metricPrefix: 'test_journal' })
  await Promise.all(Array.from({ length: 300 }, () => journal.append(Buffer.alloc(100))))
  const metric = async (name: string) =>
    Number(new RegExp(`^${name} (.*)$`, 'm').exec(await base.registry.metrics())?.[1])
  assert.equal(await metric('test_journal_fsync_duration_seconds_count'), 1)
  assert.equal(await metric('test_journal_append_duration_seconds_count'), 300)
  assert.equal(await metric('test_journal_bytes'), journal.bytes)
  assert.equal(await metric('test_journal_capacity_bytes'), 64 * 1024 * 1024)
})

test('several journals of one process share their metrics, and so do the lives of one', async t => {
  const { registry } = testBase(t)
  const first = await openTest(t, await tempDir(t), { registry })
  const second = await openTest(t, await tempDir(t), { registry })
  await first.append(Buffer.alloc(72))
  await second.append(Buffer.alloc(172))
  assert.match(await registry.metrics(), /^journal_bytes 300$/m)
  await first.close()
  assert.match(await registry.metrics(), /^journal_bytes 200$/m)
  assert.match(await registry.metrics(), /^journal_append_duration_seconds_count 2$/m)
})

test('payloads of every size, empty and larger than a segment, go through', async t => {
  const dir = await tempDir(t)
  const journal = await openTest(t, dir, { segmentBytes: 256 * 1024 })
  const sizes = [0, 1, 16_383, 16_384, 16_385, 100_000, 300_000, 2_000_000, 5]
  const payload = (size: number) => Buffer.alloc(size, `${size} `)
  await Promise.all(sizes.map(size => journal.append(payload(size))))
  for (const size of sizes) await journal.append(new Uint8Array(payload(size)))
  const sums = (await readAll(journal)).map(batch => [batch.payload.length, crc32(batch.payload)])
  assert.deepEqual(
    sums,
    [...sizes, ...sizes].map(size => [size, crc32(payload(size))]),
  )
  await assert.rejects(journal.append(Buffer.alloc(64 * 1024 * 1024)), RangeError)
})

test('at its byte cap the journal refuses at once, and takes more when its readers got on', async t => {
  const journal = await openTest(t, await tempDir(t), {
    bytesMax: 10_000,
    segmentBytes: 16 * 1024,
    readers: ['a', 'b'],
  })
  let kept = 0
  const refusal = await (async () => {
    for (;;) await journal.append(Buffer.alloc(972)).then(() => kept++)
  })().catch((error: unknown) => error)
  assert.ok(refusal instanceof JournalFull && refusal.retryAfterS >= 1)
  assert.equal(kept, 10)
  assert.equal(journal.bytes, 10_000)
  const { batches } = await journal.read(null)
  const half = { segment: batches[4]?.segment ?? '', offset: batches[4]?.to ?? 0 }
  journal.release('a', half)
  await assert.rejects(journal.append(Buffer.alloc(972)), JournalFull, 'the other reader still needs it')
  journal.release('b', half)
  assert.equal(journal.bytes, 5_000)
  await journal.append(Buffer.alloc(972))
})

test('appends that the disk has not taken yet are bounded too', async t => {
  const journal = await openTest(t, await tempDir(t), { queueBytesMax: 3_000 })
  const all = await Promise.allSettled(Array.from({ length: 5 }, () => journal.append(Buffer.alloc(972))))
  assert.deepEqual(
    all.map(result => result.status),
    ['fulfilled', 'fulfilled', 'fulfilled', 'rejected', 'rejected'],
  )
  await journal.append(Buffer.alloc(5_000))
})

test('segments go when every reader has passed them, and the newest released ones stay as told', async t => {
  const dir = await tempDir(t)
  const journal = await openTest(t, dir, { segmentBytes: 16 * 1024, readers: ['a', 'b'], keepBytes: 40_000 })
  for (let i = 0; i < 40; i++) await journal.append(Buffer.alloc(4_000, `${i} `))
  const before = await segmentFiles(dir)
  assert.equal(before.length, 20)
  journal.release('a', journal.end)
  assert.deepEqual(await segmentFiles(dir), before)
  journal.release('b', journal.end)
  await journal.close()
  const after = await segmentFiles(dir)
  assert.deepEqual(after, before.slice(-3), 'two kept, one being written')
  const again = await openTest(t, dir, { readers: ['a', 'b'] })
  assert.equal((await readAll(again)).length, 6)
})

test('copies of damaged bytes are emptied when what they may hold is to be forgotten, and not made again', async t => {
  const dir = await tempDir(t)
  const clock = drivenClock()
  const first = await openTest(t, dir, { clock })
  await first.append(Buffer.from('before'))
  const { segment, from, to } = await first.append(Buffer.alloc(3_000, 'secret '))
  await first.append(Buffer.from('behind'))
  const begunMs = clock.now()
  await first.close()
  const file = await open(path.join(dir, `${segment}.journal`), 'r+')
  await file.write(Buffer.from('X'), 0, 1, to - 10)
  await file.close()
  clock.advance(5_000)
  const journal = await openTest(t, dir, { clock })
  assert.deepEqual(texts(await readAll(journal)), ['before', 'behind'])
  const copyBytes = async () => (await stat(path.join(dir, 'damaged', `${segment}-${from}-${to}.bytes`))).size
  assert.equal(await copyBytes(), to - from)
  await journal.forget(begunMs - 1_000)
  assert.equal(await copyBytes(), to - from)
  assert.equal(await journal.forget(clock.now()), false, 'its reader still needs the segment')
  assert.equal(await copyBytes(), 0)
  await journal.close()
  const again = await openTest(t, dir, { clock })
  assert.deepEqual(texts(await readAll(again)), ['before', 'behind'])
  assert.equal(await copyBytes(), 0)
})

test('what is to be forgotten goes with its segments as soon as it is released and something came behind it', async t => {
  const dir = await tempDir(t)
  const clock = drivenClock()
  const o = { clock, segmentBytes: 16 * 1024, keepBytes: 1_000_000 }
  const journal = await openTest(t, dir, o)
  for (let i = 0; i < 9; i++) await journal.append(Buffer.alloc(4_000, `old ${i} `))
  // Ids of the same millisecond are a little ahead of it.
  const oldMs = clock.now() + 1_000
  clock.advance(5_000)
  assert.equal(await journal.forget(oldMs), false, 'a reader needs it')
  assert.equal(texts(await readAll(journal)).length, 9)
  journal.release('r', journal.end)
  assert.equal(await journal.forget(oldMs), false, 'the newest one is left')
  assert.equal((await segmentFiles(dir)).length, 1)
  const { segment, from } = await journal.append(Buffer.from('new'))
  assert.equal(await journal.forget(oldMs), true)
  assert.deepEqual(await segmentFiles(dir), [`${segment}.journal`])
  assert.equal(await journal.forget(oldMs), true)
  assert.deepEqual(texts(await readAll(journal, { segment, offset: from })), ['new'])
  await journal.close()
  assert.deepEqual(
    (await readdir(dir)).filter(name => name.includes('spare')),
    [],
  )
  const again = await openTest(t, dir, o)
  assert.deepEqual(texts(await readAll(again)), ['new'])
  assert.equal((await again.append(Buffer.from('newer'))).sequence, 11n)
})

test('a reader waits for more, in any number, and stops when told', async t => {
  const journal = await openTest(t, await tempDir(t))
  const start = journal.end
  const waiting = [journal.waitForMore(start), journal.waitForMore(start)]
  const { segment, to } = await journal.append(Buffer.from('x'))
  await Promise.all(waiting)
  await journal.waitForMore(start)
  const stop = new AbortController()
  const aborted = assert.rejects(journal.waitForMore({ segment, offset: to }, stop.signal), { name: 'AbortError' })
  stop.abort()
  await aborted
  const closed = assert.rejects(journal.waitForMore(journal.end), JournalClosed)
  await journal.close()
  await closed
  await assert.rejects(journal.append(Buffer.from('y')), JournalClosed)
})

test('close waits for what was appended', async t => {
  const dir = await tempDir(t)
  const journal = await openTest(t, dir)
  const appended = Array.from({ length: 50 }, (_, i) => journal.append(Buffer.from(`${i}`)))
  await journal.close()
  await Promise.all(appended)
  assert.equal((await readAll(await openTest(t, dir))).length, 50)
})

test('one writer per folder', async t => {
  const dir = await tempDir(t)
  const journal = await openTest(t, dir)
  await assert.rejects(openTest(t, dir), (error: unknown) => {
    assert.ok(error instanceof JournalLocked)
    assert.match(error.message, new RegExp(`pid ${process.pid}`))
    return true
  })
  await journal.close()
  await openTest(t, dir)
})

test('a segment of a newer format is refused and the folder left as it was', async t => {
  const dir = await tempDir(t)
  const journal = await openTest(t, dir)
  await journal.append(Buffer.from('x'))
  await journal.close()
  const [name] = await segmentFiles(dir)
  const file = await open(path.join(dir, name ?? ''), 'r+')
  const header = Buffer.alloc(96)
  await file.read(header, 0, 96, 0)
  header.writeUInt32LE(2, 8)
  header.writeUInt32LE(crc32(header.subarray(0, 92)), 92)
  await file.write(header, 0, 96, 0)
  const before = await file.stat()
  await file.close()
  await assert.rejects(openTest(t, dir), JournalTooNew)
  const after = await stat(path.join(dir, name ?? ''))
  assert.deepEqual([after.mtimeMs, after.size], [before.mtimeMs, before.size])
})

test('ids of segments rise although the clock goes back, within a life and across', async t => {
  const dir = await tempDir(t)
  const clock = drivenClock()
  const positions: JournalPosition[] = []
  for (let life = 0; life < 3; life++) {
    const journal = await openTest(t, dir, { clock, segmentBytes: 9_000 })
    for (let i = 0; i < 3; i++) {
      const { segment, from } = await journal.append(Buffer.alloc(700))
      positions.push({ segment, offset: from })
      clock.step(-3_600_000)
    }
    await journal.close()
  }
  assert.equal(new Set(positions.map(position => position.segment)).size, 9)
  assert.deepEqual(positions.toSorted(comparePositions), positions)
})

test('what is written after a folder came back from a snapshot lies behind every position given since', async t => {
  const dir = await tempDir(t)
  const snapshot = await tempDir(t)
  const first = await openTest(t, dir)
  await first.append(Buffer.from('before'))
  await first.close()
  await cp(dir, snapshot, { recursive: true })
  const second = await openTest(t, dir)
  const { segment, to } = await second.append(Buffer.from('lost with the disk, but stored by its owner'))
  await second.close()

  const stored = { segment, offset: to }
  const restored = await openTest(t, snapshot)
  assert.deepEqual(await readAll(restored, stored), [])
  await restored.append(Buffer.from('after'))
  assert.deepEqual(texts(await readAll(restored, stored)), ['after'])
})

test('a position that no life of this folder can have given is refused', async t => {
  const journal = await openTest(t, await tempDir(t))
  await journal.append(Buffer.from('x'))
  await assert.rejects(journal.read({ segment: 'ffffffff-ffff-7fff-bfff-ffffffffffff', offset: 8192 }), /was replaced/)
})

test('the oldest age is that of the oldest batch some reader still needs', async t => {
  const dir = await tempDir(t)
  const clock = drivenClock()
  const journal = await openTest(t, dir, { clock })
  assert.equal(journal.oldestAgeMs, 0)
  const first = await journal.append(Buffer.from('1'))
  clock.advance(5_000)
  const second = await journal.append(Buffer.from('2'))
  clock.advance(1_000)
  assert.equal(journal.oldestAgeMs, 6_000)
  await journal.close()

  const again = await openTest(t, dir, { clock })
  assert.equal(again.oldestAgeMs, 6_000)
  again.release('r', { segment: first.segment, offset: first.to })
  await until(() => again.oldestAgeMs === 1_000)
  again.release('r', { segment: second.segment, offset: second.to })
  await until(() => again.oldestAgeMs === 0)
})

test('the oldest age starts anew each time a reader has caught up', async t => {
  const clock = drivenClock()
  const journal = await openTest(t, await tempDir(t), { clock })
  for (let round = 0; round < 3; round++) {
    const { segment, to } = await journal.append(Buffer.from('one'))
    clock.advance(1_000)
    assert.equal(journal.oldestAgeMs, 1_000)
    journal.release('r', { segment, offset: to })
    await until(() => journal.oldestAgeMs === 0)
    clock.advance(60_000)
  }
})

test('a reader that follows the writer through segments sees everything in order and once, while they are deleted', async t => {
  const dir = await tempDir(t)
  const journal = await openTest(t, dir, { segmentBytes: 32 * 1024, bytesMax: 256 * 1024 })
  const total = 3_000
  const acknowledged: string[] = []
  let next = 0
  const append = async () => {
    while (next < total) {
      const text = `${next++}`.padEnd(50 + (next % 300))
      for (;;) {
        const error = await journal.append(Buffer.from(text)).then(
          () => undefined,
          (error: unknown) => error,
        )
        if (error === undefined) break
        assert.ok(error instanceof JournalFull)
        await new Promise(resolve => setImmediate(resolve))
      }
      acknowledged.push(text)
    }
  }
  const read: string[] = []
  const follow = async () => {
    for (let position: JournalPosition | null = null; read.length < total; ) {
      const { batches, next: after } = await journal.read(position, { bytesMax: 5_000 })
      read.push(...texts(batches))
      position = after
      journal.release('r', after)
      if (batches.length === 0) await journal.waitForMore(after)
    }
  }
  await Promise.all([follow(), ...Array.from({ length: 20 }, append)])
  assert.deepEqual(read.toSorted(), acknowledged.toSorted())
  assert.deepEqual(read, acknowledged)
  await journal.close()
  assert.equal((await segmentFiles(dir)).length, 1)
})

async function until(isTrue: () => boolean): Promise<void> {
  const deadline = performance.now() + 60_000
  while (!isTrue()) {
    if (performance.now() > deadline) throw new Error('waited 60 s in vain')
    await new Promise(resolve => setImmediate(resolve))
  }
}
