// The fault loops in short; `npm run test:log-ingestion:faults -- --runs 200` is the long form.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { startTestServer } from '../../../../test/kit/database.ts'
import { runScenario, type Server } from './run.ts'
import { type FaultKind, scenarioOf } from './scenario.ts'

const seed = 5

describe('whatever happens under load, every acknowledged entry is stored once and unchanged, and the books are even', () => {
  let server: Server
  before(async () => {
    const url = process.env.PURSER_TEST_DATABASE_URL
    const crash = () => assert.fail('BUG: this server is not ours to crash')
    server = { crash, ...(url === undefined ? await startTestServer() : { url, close: async () => {} }) }
  })
  after(() => server.close())

  const loops: [sink: 'rows' | 'columnar', kinds: FaultKind[]][] = [
    ['rows', ['kill in COMMIT', 'disk full', 'poison']],
    ['columnar', ['kill', 'COMMIT cut', 'poison']],
  ]
  for (const [run, [sink, kinds]] of loops.entries())
    test(`${sink}: ${kinds.join(', ')}`, async t => {
      const outcome = await runScenario(server, scenarioOf(seed, run, { sink, kinds, requests: 60 }))
      for (const reason of outcome.skipped) t.diagnostic(`NOT TRIED: ${reason}`)
      assert.deepEqual(outcome.problems, [], `seed ${seed}, run ${run}`)
      assert.equal(outcome.difference, '0')
      assert.ok(outcome.acknowledged > 100 && outcome.happened.length > 0)
    })
})
