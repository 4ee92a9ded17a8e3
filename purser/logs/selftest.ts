// `purser logs selftest --kill9 N --db-down`: on this machine, beside whatever runs on it.

import { createLog } from '#platform/telemetry'
import { selfTest } from '../../services/log-ingestion/pipeline/self-test.ts'
import { countFlag, readFlags } from './flags.ts'
import { Misuse } from './main.ts'

const rowsDefault = 250_000
const rowsMax = 100_000_000

/** Exit code 1 when a row is missing, doubled or unaccounted for. */
export async function selftest(args: readonly string[]): Promise<number> {
  const { values, words } = readFlags(args, {
    kill9: { type: 'string' },
    'db-down': { type: 'boolean' },
    rows: { type: 'string' },
    json: { type: 'boolean' },
  })
  if (words.length > 0) throw new Misuse('try: purser logs selftest --kill9 5 --db-down')
  const result = await selfTest({
    rows: countFlag('rows', values.rows, rowsDefault, rowsMax),
    rowsPerRequest: 500,
    kills: values.kill9 === undefined ? 0 : countFlag('kill9', values.kill9, 5, 1_000),
    isDatabaseCut: values['db-down'] === true,
    log: createLog({ service: 'selftest', level: 'silent', format: 'json' }),
    tell: sentence => void process.stderr.write(`${sentence}\n`),
  })
  const { sent, stored, lost, duplicated, difference } = result
  if (values.json) process.stdout.write(`${JSON.stringify(result)}\n`)
  else process.stdout.write(`sent ${sent}  stored ${stored}  lost ${lost}  duplicated ${duplicated}\n`)
  if (difference !== 0) process.stderr.write(`the ledger is off by ${difference} rows\n`)
  return lost === 0 && duplicated === 0 && difference === 0 ? 0 : 1
}
