import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { promisify } from 'node:util'
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

test('on the command line: both storages, one after the other, or the one that is named', async () => {
  const main = new URL('../../../purser/main.ts', import.meta.url).pathname
  const run = async (...args: string[]) => {
    const command = ['--disable-warning=ExperimentalWarning', main, 'logs', 'selftest', ...args]
    return await promisify(execFile)(process.execPath, command, { env: { PATH: process.env.PATH } })
  }
  const both = await run('--rows', '1000', '--json')
  const results = both.stdout
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as Record<string, unknown>)
  assert.deepEqual(
    results.map(({ sink, sent, stored, lost, duplicated, difference }) => [
      sink,
      sent,
      stored,
      lost,
      duplicated,
      difference,
    ]),
    ['rows', 'columnar'].map(sink => [sink, 1_000, 1_000, 0, 0, 0]),
  )
  const one = await run('--rows', '500', '--sink', 'columnar')
  assert.equal(one.stdout, 'sent 500  stored 500  lost 0  duplicated 0  in columnar\n')
  await assert.rejects(run('--sink', 'disk'), /--sink disk: give rows or columnar, or leave it out for both/)
})
