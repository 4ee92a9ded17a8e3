// Disks that are full, that lie, that are limited, and processes that die.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtemp, open, readdir, rm, statfs } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { testBase } from '../../test/kit/base.ts'
import { smallDisk, thinDisk } from '../../test/kit/full-disk.ts'
import { kill9, roundsWanted } from '../../test/kit/kill9.ts'
import {
  comparePositions,
  type Journal,
  type JournalBatch,
  JournalDiskError,
  type JournalOptions,
  type JournalPosition,
  openJournal,
} from '../journal.ts'
import { keptAppends, payloadOf } from './kill9-writer.ts'
import { readRange, readSegmentHeader, segmentPath } from './segment.ts'

async function openTest(t: TestContext, dir: string, o: Partial<JournalOptions> = {}): Promise<Journal> {
  const { log } = testBase(t)
  return await openJournal({ dir, bytesMax: 2 ** 31, readers: ['r'], log, reserveBytes: () => 0, ...o })
}

async function readAll(journal: Journal): Promise<JournalBatch[]> {
  const all: JournalBatch[] = []
  for (let from: JournalPosition | null = null; ; ) {
    const { batches, next } = await journal.read(from)
    if (batches.length === 0) return all
    all.push(...batches)
    from = next
  }
}

/** Four at a time until the disk refuses; returns what was acknowledged and why it ended. */
async function appendUntilRefused(journal: Journal, name: string, bytes: number) {
  const kept: string[] = []
  let count = 0
  const append = async () => {
    for (;;) {
      const text = `${name} ${count++} `
      await journal.append(Buffer.concat([Buffer.from(text), Buffer.alloc(bytes, 1)]))
      kept.push(text)
    }
  }
  const outcomes = await Promise.allSettled([append(), append(), append(), append()])
  const refusals = outcomes.map(outcome => (outcome.status === 'rejected' ? outcome.reason : undefined))
  return { kept, refusals }
}

const names = (batches: readonly JournalBatch[]) =>
  batches.map(({ payload }) => payload.toString().split('\x01')[0]).sort()

test('a full disk refuses by name, keeps nothing in part, and works again by itself when space is back', async t => {
  const disk = await smallDisk(t, { bytes: 3 * 1024 * 1024 })
  if (!disk) return
  const journal = await openTest(t, disk.dir, { segmentBytes: 512 * 1024 })
  const { kept, refusals } = await appendUntilRefused(journal, 'filling', 20_000)
  assert.ok(kept.length > 100)
  for (const refusal of refusals) assert.ok(refusal instanceof JournalDiskError && refusal.reason === 'DISK_FULL')
  assert.deepEqual(names(await readAll(journal)), kept.toSorted())

  // Reading on is how space comes back in real life.
  const [half] = (await readAll(journal)).slice(kept.length / 2)
  assert.ok(half)
  journal.release('r', { segment: half.segment, offset: half.from })
  await journal.close()
  await disk.fill()

  const full = await openTest(t, disk.dir, { segmentBytes: 512 * 1024 })
  const survivors = names(await readAll(full))
  assert.deepEqual(survivors, kept.filter(name => survivors.includes(name)).sort(), 'a full disk can be read')
  assert.ok(survivors.length >= kept.length / 2 && survivors.length < kept.length)
  await assert.rejects(full.append(Buffer.alloc(10)), { reason: 'DISK_FULL' })
  await disk.free()
  await full.append(Buffer.from('after \x01'))
  assert.deepEqual(names(await readAll(full)), [...survivors, 'after '].sort())
  await full.close()
})

test('appends leave the reserve of the device to its other users', async t => {
  const disk = await smallDisk(t, { bytes: 3 * 1024 * 1024 })
  if (!disk) return
  const reserve = 1024 * 1024
  const journal = await openTest(t, disk.dir, { segmentBytes: 256 * 1024, reserveBytes: () => reserve })
  const { refusals } = await appendUntilRefused(journal, 'x', 20_000)
  for (const refusal of refusals) assert.ok(refusal instanceof JournalDiskError && refusal.reason === 'DISK_FULL')
  const { bavail, bsize } = await statfs(disk.dir)
  // What is written ahead, and one header, are not counted before they are written.
  assert.ok(bavail * bsize > reserve - 300 * 1024)
  journal.release('r', journal.end)
  await journal.close()
})

test('after a failed fdatasync the segment is never used again, and nothing of the group is acknowledged', async t => {
  const disk = await thinDisk(t, { bytes: 6 * 1024 * 1024 })
  if (!disk) return
  const journal = await openTest(t, disk.dir)
  const { kept, refusals } = await appendUntilRefused(journal, 'thin', 100_000)
  for (const refusal of refusals) assert.ok(refusal instanceof JournalDiskError)
  assert.ok(refusals.some(({ cause }) => cause.syscall === 'fdatasync'))
  const { segment } = journal.end
  await disk.grow()
  const after = await journal.append(Buffer.from('after \x01'))
  assert.notEqual(after.segment, segment)
  assert.deepEqual(names(await readAll(journal)), [...kept, 'after '].sort())
  await journal.close()
  const again = await openTest(t, disk.dir)
  assert.deepEqual(names(await readAll(again)), [...kept, 'after '].sort())
  assert.deepEqual([again.damaged, again.torn], [[], null])
  await again.close()
})

test('a write that the system refuses half way ends the segment; the next one takes over', async t => {
  const dir = await tempDir(t)
  // RLIMIT_FSIZE: the write that crosses it stops short, the next fails with EFBIG. A real error, without root.
  const script = `
    process.on('SIGXFSZ', () => {})
    const { openJournal } = await import(${JSON.stringify(new URL('../journal.ts', import.meta.url).href)})
    const { createLog } = await import(${JSON.stringify(new URL('../telemetry.ts', import.meta.url).href)})
    const log = createLog({ service: 'x', level: 'silent', format: 'json' })
    const journal = await openJournal({ dir: process.argv[1], bytesMax: 2 ** 31, readers: ['r'], log })
    let refused = 0
    for (let i = 0; i < 60; i++) {
      const text = 'limited ' + i + ' '
      await journal.append(Buffer.from(text + '\\x01'.repeat(30_000))).then(
        () => console.log(text),
        error => { if (error.reason === 'DISK_ERROR') refused++; else throw error })
    }
    await journal.close()
    console.error(refused)`
  const { status, stdout, stderr } = await run('prlimit', [
    '--fsize=400000',
    process.execPath,
    '--input-type=module',
    '-e',
    script,
    dir,
  ])
  if (status === 'missing') return t.skip('prlimit(1) is not here')
  assert.equal(status, 0, stderr)
  const refused = Number(stderr.trim().split('\n').at(-1))
  const kept = stdout.split('\n').filter(line => line !== '')
  assert.ok(refused >= 3 && kept.length === 60 - refused, `${refused} refused, ${kept.length} kept`)
  const journal = await openTest(t, dir)
  assert.deepEqual(names(await readAll(journal)), kept.toSorted())
  assert.deepEqual([journal.damaged, journal.torn], [[], null])
  await journal.close()
})

test('an unreadable sector costs its own bytes only', async t => {
  if (process.platform !== 'linux') return t.skip('/proc/self/mem is the only file here that answers EIO')
  const file = await open('/proc/self/mem', 'r')
  t.after(() => file.close())
  assert.deepEqual(await readRange(file, 100, Buffer.alloc(5_000, 1)), Buffer.alloc(5_000))
})

test('kill -9 at any point: what was acknowledged is read back, in order, once', async t => {
  const dir = await tempDir(t)
  let released: JournalPosition | null = null
  let reused = 0
  await kill9({
    script: new URL('./kill9-writer.ts', import.meta.url),
    args: [dir, 'life'],
    rounds: roundsWanted(6),
    linesBeforeKill: round => 1 + ((round * 7919) % 400),
    async afterDeath({ lines, round }) {
      const journal = await openTest(t, dir, { segmentBytes: 1024 * 1024 })
      if (released) journal.release('r', released)
      const batches = await readAll(journal)
      const seen = batches.filter(
        batch => released === null || comparePositions({ segment: batch.segment, offset: batch.from }, released) >= 0,
      )
      const places = new Map(
        seen.map(({ segment, from, sequence, payload }) => {
          const id = payload.toString('latin1', 0, payload.indexOf(58))
          assert.deepEqual(payload, payloadOf(id))
          return [`${id} ${segment} ${from} ${sequence}`, sequence] as const
        }),
      )
      assert.equal(places.size, seen.length, 'no batch twice')
      const found: ReadonlySet<string> = new Set(places.keys())
      const segments = new Set(seen.map(({ segment }) => segment))
      for (const [i, line] of lines.entries()) {
        const isReleased = i < lines.length - keptAppends && !segments.has(line.split(' ')[1] ?? '')
        assert.ok(isReleased || found.has(line), `round ${round}: acknowledged and gone: ${line}`)
      }
      reused += (await Promise.all([...segments].map(segment => isReused(dir, segment)))).filter(Boolean).length
      const sequences = [...places.values()]
      assert.deepEqual(
        sequences,
        sequences.toSorted((a, b) => (a < b ? -1 : 1)),
      )
      assert.deepEqual(journal.damaged, [])
      released = journal.end
      journal.release('r', released)
      await journal.close()
    },
  })
  assert.ok((await readdir(dir)).length <= 4, 'released segments are gone')
  assert.ok(reused > 0, 'some of the segments were written over released ones')
})

async function isReused(dir: string, segment: string): Promise<boolean> {
  const file = await open(segmentPath(dir, segment), 'r')
  try {
    return (await readSegmentHeader(file))?.isReused ?? false
  } finally {
    await file.close()
  }
}

async function tempDir(t: TestContext): Promise<string> {
  const dir = await mkdtemp(path.join(os.tmpdir(), 'purser-disk-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  return dir
}

async function run(
  command: string,
  args: string[],
): Promise<{ status: number | 'missing' | null; stdout: string; stderr: string }> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', text => (stdout += text))
  child.stderr.setEncoding('utf8').on('data', text => (stderr += text))
  return await new Promise((resolve, reject) => {
    child.once('error', error =>
      'code' in error && error.code === 'ENOENT' ? resolve({ status: 'missing', stdout, stderr }) : reject(error),
    )
    child.once('close', status => resolve({ status, stdout, stderr }))
  })
}
