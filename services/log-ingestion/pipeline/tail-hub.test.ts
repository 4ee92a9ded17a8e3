import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { openJournal } from '#platform/journal'
import { testBase } from '../../../test/kit/base.ts'
import { createVisibility } from '../store/visibility.ts'
import { createTailHub } from './tail-hub.ts'

test('while nobody tails nothing is asked: what would answer may still be starting, for as long as a journal takes to read', async t => {
  const { log } = testBase(t)
  const dir = await mkdtemp(join(tmpdir(), 'purser-tail-hub-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  const journal = await openJournal({ dir, bytesMax: 64 * 1024 * 1024, readers: ['writer'], log })
  t.after(() => journal.close())
  t.mock.timers.enable({ apis: ['setInterval'] })
  const notYet = () => {
    throw new Error('it was asked before it was there')
  }
  const hub = createTailHub({
    journal,
    replica: randomUUID(),
    placeKey: Buffer.alloc(32),
    log,
    end: notYet,
    stored: notYet,
    view: tenant => createVisibility(() => 0).view(tenant),
    onDropped: () => {},
  })
  const unhandled: unknown[] = []
  const note = (error: unknown) => void unhandled.push(error)
  process.on('unhandledRejection', note)
  t.after(() => void process.off('unhandledRejection', note))
  t.mock.timers.tick(60_000)
  await new Promise(resolve => setImmediate(resolve))
  hub.close()
  assert.deepEqual(unhandled, [])
})
