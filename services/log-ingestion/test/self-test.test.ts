import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createLog } from '#platform/telemetry'
import { selfTest } from '../pipeline/self-test.ts'

for (const sink of ['rows', 'columnar'] as const)
  test(`the self-test kills and cuts off a copy of the service that stores ${sink}, counts, and reads all back`, async () => {
    const told: string[] = []
    const result = await selfTest({
      sink,
      rows: 2_000,
      rowsPerRequest: 25,
      kills: 1,
      isDatabaseCut: true,
      log: createLog({ service: 'test', level: 'silent', format: 'json' }),
      tell: sentence => void told.push(sentence.replace(/in .*/, '').replaceAll(/\d+/g, 'n')),
    })
    assert.deepEqual(result, { sink, sent: 2_000, stored: 2_000, lost: 0, duplicated: 0, difference: 0, kills: 1 })
    assert.deepEqual(told, [
      'a copy of the service and a database of its own, ',
      'the database is gone; n rows acknowledged without it',
      'killed (n of n) after n acknowledged rows',
      'the database is back',
    ])
  })
