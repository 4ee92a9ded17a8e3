// Generated histories against the plainest model of a journal: a list.

import assert from 'node:assert/strict'
import { cp, mkdtemp, open, readdir, readFile, rm, stat, truncate, unlink } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import fc from 'fast-check'
import { testBase } from '../../test/kit/base.ts'
import { roundsWanted } from '../../test/kit/kill9.ts'
import { pollUntil } from '../../test/kit/poll.ts'
import { comparePositions, type Journal, JournalFull, type JournalPosition, openJournal } from '../journal.ts'
import { frameHeaderBytes, framesFrom } from './frame.ts'
import { readSegmentHeader, segmentPath } from './segment.ts'

interface Acknowledged {
  segment: string
  from: number
  to: number
  sequence: bigint
  text: string
}

const bytesMax = 60_000
const segmentBytes = 20_000

async function inTempDir<T>(work: (dir: string) => Promise<T>): Promise<T> {
  const dir = await mkdtemp(path.join(os.tmpdir(), 'purser-oracle-'))
  try {
    return await work(dir)
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

const openTest = (t: TestContext, dir: string) =>
  openJournal({ dir, bytesMax, segmentBytes, readers: ['a', 'b'], log: testBase(t).log })

async function readFrom(journal: Journal, from: JournalPosition | null, piece = 3_000): Promise<Acknowledged[]> {
  const all: Acknowledged[] = []
  for (let position = from; ; ) {
    const { batches, next } = await journal.read(position, { bytesMax: piece })
    if (batches.length === 0) return all
    all.push(
      ...batches.map(({ segment, from, to, sequence, payload }) => ({
        segment,
        from,
        to,
        sequence,
        text: `${payload}`,
      })),
    )
    position = next
  }
}

const sizes = fc.array(fc.integer({ min: 0, max: 6_000 }), { maxLength: 12 })
const operation = fc.oneof(
  fc.record({ kind: fc.constant('append' as const), sizes }),
  fc.record({ kind: fc.constant('read' as const), at: fc.nat(), piece: fc.integer({ min: 1, max: 9_000 }) }),
  fc.record({ kind: fc.constant('release' as const), reader: fc.constantFrom('a', 'b'), at: fc.nat() }),
  fc.record({ kind: fc.constant('reopen' as const) }),
)

test('any mix of appending, reading, releasing and restarting behaves like a list with a cap', async t => {
  await fc.assert(
    fc.asyncProperty(fc.array(operation, { maxLength: 25 }), operations =>
      inTempDir(async dir => {
        let journal = await openTest(t, dir)
        const list: Acknowledged[] = []
        const released = { a: 0, b: 0 }
        let count = 0
        const floor = () => Math.min(released.a, released.b)
        const pending = () => list.slice(floor()).reduce((sum, { from, to }) => sum + to - from, 0)
        const positionOf = (i: number): JournalPosition | null => {
          const before = list[i - 1]
          return before ? { segment: before.segment, offset: before.to } : null
        }
        for (const step of operations) {
          switch (step.kind) {
            case 'append': {
              let room = bytesMax - pending()
              const outcomes = step.sizes.map(size => {
                const text = `${count++}:`.padEnd(size, 'x')
                const isFitting = text.length + frameHeaderBytes <= room
                if (isFitting) room -= text.length + frameHeaderBytes
                return { isFitting, text, done: journal.append(Buffer.from(text)) }
              })
              const settled = await Promise.allSettled(outcomes.map(({ done }) => done))
              for (const [i, { isFitting, text }] of outcomes.entries()) {
                const result = settled[i]
                if (isFitting && result?.status === 'fulfilled') list.push({ ...result.value, text })
                else assert.ok(!isFitting && result?.status === 'rejected' && result.reason instanceof JournalFull)
              }
              break
            }
            case 'read': {
              const at = floor() + (step.at % (list.length - floor() + 1))
              assert.deepEqual(await readFrom(journal, positionOf(at), step.piece), list.slice(at))
              break
            }
            case 'release': {
              const at = released[step.reader] + (step.at % (list.length - released[step.reader] + 1))
              const position = positionOf(at)
              if (position) journal.release(step.reader, position)
              released[step.reader] = at
              break
            }
            case 'reopen': {
              await journal.close()
              journal = await openTest(t, dir)
              const everything = await readFrom(journal, null)
              assert.deepEqual(everything, list.slice(list.length - everything.length))
              assert.ok(everything.length >= list.length - floor(), 'nothing unreleased is gone')
              for (const reader of ['a', 'b'] as const) {
                const position = positionOf(released[reader])
                if (position) journal.release(reader, position)
              }
            }
          }
          assert.equal(journal.bytes, pending())
        }
        assert.deepEqual([journal.damaged, journal.torn], [[], null])
        assert.deepEqual(
          list.map(({ sequence }) => sequence),
          list.map((_, i) => BigInt(i + 1)),
        )
        await journal.close()
      }),
    ),
    { numRuns: roundsWanted(40) },
  )
})

/** Some lives of a journal, everything acknowledged. */
async function writeHistory(t: TestContext, dir: string, lives: number[][]): Promise<Acknowledged[]> {
  const list: Acknowledged[] = []
  for (const life of lives) {
    const journal = await openTest(t, dir)
    for (const size of life) {
      const text = `${list.length}:`.padEnd(size, 'y')
      list.push({ ...(await journal.append(Buffer.from(text))), text })
    }
    await journal.close()
  }
  return list
}

const lives = fc.array(fc.array(fc.integer({ min: 0, max: 3_000 }), { maxLength: 8 }), { minLength: 1, maxLength: 3 })
const flip = fc.record({ file: fc.nat(), at: fc.nat(), mask: fc.integer({ min: 1, max: 255 }) })

test('whatever bytes change on disk: intact batches are read, in order and once, and every lost one is reported', async t => {
  await fc.assert(
    fc.asyncProperty(lives, fc.array(flip, { minLength: 1, maxLength: 6 }), (history, flips) =>
      inTempDir(async dir => {
        const list = await writeHistory(t, dir, history)
        const files = await segmentFiles(dir)
        if (files.length === 0) return
        const hits: { segment: string; at: number }[] = []
        for (const { file, at, mask } of flips) {
          const name = files[file % files.length] ?? ''
          const place = at % (await stat(path.join(dir, name))).size
          await changeByte(path.join(dir, name), place, mask)
          hits.push({ segment: name.slice(0, -'.journal'.length), at: place })
        }
        const isHit = (segment: string, from: number, to: number) =>
          hits.some(hit => hit.segment === segment && from <= hit.at && hit.at < to)
        const lostFiles = files
          .map(name => name.slice(0, -'.journal'.length))
          .filter(segment => isHit(segment, 0, 96) && isHit(segment, 4096, 4192))
        const isIntact = ({ segment, from, to }: Acknowledged) =>
          !lostFiles.includes(segment) && !isHit(segment, from, to)

        const journal = await openTest(t, dir)
        const back = await readFrom(journal, null)
        // Two changes can cancel each other out, so more than the intact ones may come back; never anything else.
        assert.deepEqual(
          back,
          list.filter(item => isIntact(item) || back.some(other => other.sequence === item.sequence)),
        )
        const reports = [...journal.damaged, ...(journal.torn ? [journal.torn] : [])]
        for (const lost of list.filter(item => !back.some(other => other.sequence === item.sequence))) {
          assert.ok(
            reports.some(({ segment, from, to }) => segment === lost.segment && from < lost.to && to > lost.from),
            `batch ${lost.sequence} is gone and nobody said so`,
          )
        }
        await requireFreshEnd(t, dir, journal, list, back)
      }),
    ),
    { numRuns: roundsWanted(40) },
  )
})

test('a file cut anywhere, or gone: what was before the cut is read, and a loss before the newest segment is reported', async t => {
  const cut = fc.record({ file: fc.nat(), at: fc.nat(), isGone: fc.boolean() })
  await fc.assert(
    fc.asyncProperty(lives, cut, (history, { file, at, isGone }) =>
      inTempDir(async dir => {
        const list = await writeHistory(t, dir, history)
        const files = await segmentFiles(dir)
        const name = files[file % files.length]
        if (name === undefined) return
        const segment = name.slice(0, -'.journal'.length)
        const target = path.join(dir, name)
        const bytes = isGone ? 0 : at % (await stat(target)).size
        if (isGone) await unlink(target)
        else await truncate(target, bytes)
        const journal = await openTest(t, dir)
        const back = await readFrom(journal, null)
        // Below 96 bytes not even the header is left, and the whole segment is as good as gone.
        const isLost = (item: Acknowledged) => item.segment === segment && (item.to > bytes || bytes < 96)
        assert.deepEqual(
          back,
          list.filter(item => !isLost(item)),
        )
        const isNewest = name === files.at(-1)
        // The oldest segments also vanish by being released, which leaves no trace to compare with.
        const isOldest = name === files[0]
        if (list.some(isLost) && !isNewest && !(isOldest && bytes < 96)) {
          assert.ok(journal.damaged.some(range => range.segment === segment))
        }
        await requireFreshEnd(t, dir, journal, list, back)
      }),
    ),
    { numRuns: roundsWanted(40) },
  )
})

/** Writing goes on behind everything, and the next start sees the same. */
async function requireFreshEnd(
  t: TestContext,
  dir: string,
  journal: Journal,
  list: Acknowledged[],
  back: Acknowledged[],
) {
  const fresh = { ...(await journal.append(Buffer.from('fresh'))), text: 'fresh' }
  for (const old of list) {
    assert.ok(
      comparePositions({ segment: fresh.segment, offset: fresh.from }, { segment: old.segment, offset: old.to }) > 0,
    )
  }
  for (const old of back) assert.ok(fresh.sequence > old.sequence)
  assert.deepEqual(await readFrom(journal, null), [...back, fresh])
  await journal.close()
  const again = await openTest(t, dir)
  assert.deepEqual(await readFrom(again, null), [...back, fresh])
  assert.equal(again.torn, null, 'a tail is cut once')
  await again.close()
}

test('damaged bytes are copied aside, once', async t => {
  await inTempDir(async dir => {
    const [first, second] = await writeHistory(t, dir, [[500, 500, 500]])
    assert.ok(first && second)
    await changeByte(path.join(dir, `${second.segment}.journal`), second.from + frameHeaderBytes + 7, 0xff)
    for (let life = 0; life < 2; life++) {
      const journal = await openTest(t, dir)
      assert.deepEqual(
        journal.damaged.map(({ segment, from, to }) => ({ segment, from, to })),
        [{ segment: second.segment, from: second.from, to: second.to }],
      )
      await journal.close()
    }
    const [copy, ...others] = await readdir(path.join(dir, 'damaged'))
    assert.deepEqual([copy, others], [`${second.segment}-${second.from}-${second.to}.bytes`, []])
    assert.equal((await stat(path.join(dir, 'damaged', copy ?? ''))).size, second.to - second.from)
  })
})

test('a torn tail is cut, reported and not called damage; space written ahead is neither', async t => {
  await inTempDir(async dir => {
    const [only] = await writeHistory(t, dir, [[500]])
    assert.ok(only)
    const file = path.join(dir, `${only.segment}.journal`)
    await truncate(file, only.to + 5_000)
    const clean = await openTest(t, dir)
    assert.deepEqual([clean.torn, clean.damaged], [null, []])
    assert.equal((await stat(file)).size, only.to)
    await clean.close()

    const handle = await open(file, 'r+')
    await handle.write(Buffer.alloc(77, 1), 0, 77, only.to)
    await handle.close()
    const torn = await openTest(t, dir)
    assert.deepEqual([torn.torn?.from, torn.torn?.to, torn.damaged], [only.to, only.to + 77, []])
    assert.equal((await stat(file)).size, only.to)
    assert.equal((await readFrom(torn, null)).length, 1)
    await torn.close()
  })
})

const spareFiles = async (dir: string) => (await readdir(dir)).filter(name => name.endsWith('.spare'))

/** Segments filled and released until one lies in the file of another, then some more appends. */
async function writeOverReleased(journal: Journal, dir: string, sizes: readonly number[]): Promise<Acknowledged[]> {
  const list: Acknowledged[] = []
  const append = async (size: number) => {
    const text = `${list.length}:`.padEnd(size, 'z')
    const receipt = await journal.append(Buffer.from(text))
    list.push({ ...receipt, text })
    return receipt
  }
  const fill = async () => {
    const { segment } = await append(4_000)
    for (let newest = segment; newest === segment; ) newest = (await append(4_000)).segment
  }
  await fill()
  const last = list.at(-1)
  const position = { segment: last?.segment ?? '', offset: last?.from ?? framesFrom }
  for (const reader of ['a', 'b']) journal.release(reader, position)
  await pollUntil(async () => (await spareFiles(dir)).length > 0, { what: 'a spare file' })
  await fill()
  for (const size of sizes) await append(size)
  return list.filter(item => comparePositions({ segment: item.segment, offset: item.from }, position) >= 0)
}

test('written over a released segment: a crash loses nothing, old content is not called torn, and a torn tail is', async t => {
  const sizes = fc.array(fc.integer({ min: 0, max: 3_000 }), { maxLength: 10 })
  const torn = fc.option(fc.uint8Array({ minLength: 1, maxLength: 100 }))
  await fc.assert(
    fc.asyncProperty(sizes, torn, (sizes, tail) =>
      inTempDir(async dir => {
        const journal = await openTest(t, dir)
        const list = await writeOverReleased(journal, dir, sizes)
        const { segment, offset } = journal.end
        // What a process leaves that is killed now.
        const left = await mkdtemp(path.join(os.tmpdir(), 'purser-oracle-left-'))
        t.after(() => rm(left, { recursive: true, force: true }))
        await cp(dir, left, { recursive: true, filter: source => path.basename(source) !== 'lock' })
        await journal.close()
        const newest = await open(segmentPath(left, segment), 'r+')
        const isReused = (await readSegmentHeader(newest))?.isReused ?? false
        assert.ok(isReused || list.some(item => item.segment !== segment))
        if (tail) await newest.write(tail, 0, tail.length, offset)
        await newest.close()

        const back = await openTest(t, left)
        assert.deepEqual(back.damaged, [])
        const isTorn = tail?.slice(0, isReused ? frameHeaderBytes : undefined).some(byte => byte !== 0) ?? false
        assert.deepEqual([back.torn?.segment, back.torn?.from], isTorn ? [segment, offset] : [undefined, undefined])
        assert.equal((await stat(segmentPath(left, segment))).size, offset, 'old content is cut off')
        assert.deepEqual(await spareFiles(left), [])
        assert.deepEqual((await readFrom(back, null)).slice(-list.length), list)
        const earlier = (await readFrom(back, null)).slice(0, -list.length)
        await requireFreshEnd(t, left, back, [...earlier, ...list], [...earlier, ...list])
      }),
    ),
    { numRuns: roundsWanted(40) },
  )
})

test('old content is gone from the disk soon after its release, and all of it when the journal closes', async t => {
  await inTempDir(async dir => {
    const manual = { nowMs: 1_000_000 }
    const clock = { now: () => Date.now(), monotonicMs: () => manual.nowMs }
    t.mock.timers.enable({ apis: ['setInterval'] })
    const { log } = testBase(t)
    const journal = await openJournal({ dir, bytesMax, segmentBytes, readers: ['a', 'b'], log, clock })
    const holds = async (text: string) => {
      for (const name of (await readdir(dir)).filter(name => name !== 'lock'))
        if ((await readFile(path.join(dir, name))).includes(text)) return true
      return false
    }
    await journal.append(Buffer.from('a secret word'.padEnd(6_000)))
    await writeOverReleased(journal, dir, [])
    assert.equal(await holds('zzzz'), true)
    for (const reader of ['a', 'b']) journal.release(reader, journal.end)
    const isGone = async () => {
      manual.nowMs += 30_000
      t.mock.timers.tick(30_000)
      return !(await holds('a secret word')) && (await spareFiles(dir)).length === 0
    }
    await pollUntil(isGone, { what: 'what was released being gone' })
    const { segment, offset } = journal.end
    await pollUntil(async () => (await stat(segmentPath(dir, segment))).size === offset, { what: 'the cut' })
    await journal.append(Buffer.from('after'))
    await journal.close()
    assert.deepEqual(await spareFiles(dir), [])
    const again = await openTest(t, dir)
    assert.equal((await readFrom(again, null)).at(-1)?.text, 'after')
    await again.close()
  })
})

const segmentFiles = async (dir: string) => (await readdir(dir)).filter(name => name.endsWith('.journal')).sort()

async function changeByte(file: string, at: number, mask: number): Promise<void> {
  const handle = await open(file, 'r+')
  const byte = Buffer.alloc(1)
  await handle.read(byte, 0, 1, at)
  byte[0] = (byte[0] ?? 0) ^ mask
  await handle.write(byte, 0, 1, at)
  await handle.close()
}
