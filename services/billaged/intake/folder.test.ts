import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { openJournal } from '#platform/journal'
import { isDataError } from '#platform/postgres'
import { testBase } from '../../../test/kit/base.ts'
import { temporaryFolder } from '../test/kit.ts'
import { runs } from '../test/long.ts'
import { startFolder } from './folder.ts'
import { encodeRecord, type Fact } from './record.ts'

const part = { hour: 1, count: 1, minNs: 0n, maxNs: 0n }

/** Records of a megabyte: eight are read at a time. */
function recordOf(n: number): Buffer {
  return encodeRecord([
    { kind: 'samples', customerId: 'acme', vmId: `vm-${n}`, part: { ...part, body: Buffer.alloc(1_000_000, n) } },
  ])
}

class Refused extends Error {
  readonly code = '22P02'
}

test('a backlog is folded in order and once, whatever the database refuses, forgets to answer or is given late', async t => {
  assert.ok(isDataError(new Refused()))
  const outcome = fc.constantFrom('works', 'works', 'works', 'is away', 'refuses')
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 0, max: 30 }),
      fc.integer({ min: 0, max: 12 }),
      fc.array(outcome, { maxLength: 8 }),
      async (before, after, outcomes) => {
        const base = testBase(t)
        const journal = await openJournal({ dir: temporaryFolder(t), bytesMax: 2 ** 30, readers: ['f'], log: base.log })
        const append = (from: number, to: number) =>
          Promise.all(Array.from({ length: to - from }, (_, i) => journal.append(recordOf(from + i))))
        await append(0, before)
        const stored: string[] = []
        const vmsOf = (facts: readonly Fact[]) => facts.map(fact => (fact.kind === 'samples' ? fact.vmId : fact.kind))
        const folder = startFolder({
          journal,
          reader: 'f',
          from: null,
          async write(facts) {
            await new Promise(resolve => setImmediate(resolve))
            const now = outcomes.shift() ?? 'works'
            if (now === 'is away') throw Object.assign(new Error('away'), { code: 'ECONNREFUSED' })
            if (now === 'refuses' && facts.length > 1) throw new Refused('refused with its neighbours')
            stored.push(...vmsOf(facts))
            return { samples: 0, duplicateSamples: 0, conflicts: 0, events: 0, duplicateEvents: 0, expired: 0 }
          },
          setAside: () => assert.fail('nothing here is unreadable'),
          onExpired: () => assert.fail('nothing here is expired'),
          base,
        })
        await append(before, before + after)
        assert.equal(await folder.waitUntilFolded(journal.end, 60_000), true)
        assert.deepEqual(
          stored,
          Array.from({ length: before + after }, (_, n) => `vm-${n}`),
        )
        assert.equal(journal.bytes, 0)
        await folder.close(0)
        await journal.close()
      },
    ),
    { numRuns: runs(12, 100) },
  )
})
