// `purser logs selftest --kill9 N --db-down`: on this machine, beside whatever runs on it; on one storage, or on both.

import { createLog } from '#platform/telemetry'
import { type SelfTestResult, selfTest } from '../../services/log-ingestion/pipeline/self-test.ts'
import { countFlag, readFlags } from './flags.ts'
import { Misuse } from './main.ts'

const rowsDefault = 250_000
const rowsMax = 100_000_000

/** Exit code 1 when a row is missing, doubled or unaccounted for, on either storage. */
export async function selftest(args: readonly string[]): Promise<number> {
  const { values, words } = readFlags(args, {
    kill9: { type: 'string' },
    'db-down': { type: 'boolean' },
    sink: { type: 'string' },
    rows: { type: 'string' },
    json: { type: 'boolean' },
  })
  if (words.length > 0) throw new Misuse('try: purser logs selftest --kill9 5 --db-down')
  let worst = 0
  for (const sink of sinksOf(values.sink)) {
    const result = await selfTest({
      sink,
      rows: countFlag('rows', values.rows, rowsDefault, rowsMax),
      rowsPerRequest: 500,
      kills: values.kill9 === undefined ? 0 : countFlag('kill9', values.kill9, 5, 1_000),
      isDatabaseCut: values['db-down'] === true,
      log: createLog({ service: 'selftest', level: 'silent', format: 'json' }),
      tell: sentence => void process.stderr.write(`${sentence}\n`),
    })
    const { sent, stored, lost, duplicated, difference } = result
    if (values.json) process.stdout.write(`${JSON.stringify(result)}\n`)
    else process.stdout.write(`sent ${sent}  stored ${stored}  lost ${lost}  duplicated ${duplicated}  in ${sink}\n`)
    if (difference !== 0) process.stderr.write(`the ledger is off by ${difference} rows\n`)
    if (lost !== 0 || duplicated !== 0 || difference !== 0) worst = 1
  }
  return worst
}

function sinksOf(flag: string | undefined): readonly SelfTestResult['sink'][] {
  if (flag === undefined) return ['rows', 'columnar']
  if (flag === 'rows' || flag === 'columnar') return [flag]
  throw new Misuse(`--sink ${flag}: give rows or columnar, or leave it out for both`)
}
